package icons

import (
	"encoding/binary"
)

// icnsSizes are the sizes that macOS chooses from, by the names that its format has
// for PNG pictures of them. The last four are those of the first sizes for screens
// with twice the pixels.
var icnsSizes = []struct {
	kind string
	size int
}{
	{"ic07", 128}, {"ic08", 256}, {"ic09", 512}, {"ic11", 32}, {"ic12", 64}, {"ic13", 256}, {"ic14", 512},
}

// ICNS packs a state's icon for an application of macOS.
func ICNS(state string) ([]byte, error) {
	var body []byte
	for _, s := range icnsSizes {
		img, err := Render(state, s.size)
		if err != nil {
			return nil, err
		}
		picture, err := encode(img)
		if err != nil {
			return nil, err
		}
		body = appendChunk(body, s.kind, picture)
	}
	return appendChunk(nil, "icns", body), nil
}

// appendChunk appends a name of four letters, the length of it all, and the content.
func appendChunk(to []byte, kind string, content []byte) []byte {
	to = append(to, kind...)
	to = binary.BigEndian.AppendUint32(to, uint32(len(content)+8))
	return append(to, content...)
}
