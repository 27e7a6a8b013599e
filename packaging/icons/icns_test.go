package icons

import (
	"bytes"
	"encoding/binary"
	"image/png"
	"testing"
)

// TestICNS reads the file as the format is written down: chunks of a name, a
// length and a picture, whose size the name says.
func TestICNS(t *testing.T) {
	data, err := ICNS("fine")
	if err != nil {
		t.Fatal(err)
	}
	if string(data[:4]) != "icns" || int(binary.BigEndian.Uint32(data[4:])) != len(data) {
		t.Fatalf("it begins with %q, and has %d bytes", data[:8], len(data))
	}
	sizes := map[string]int{"ic07": 128, "ic08": 256, "ic09": 512, "ic11": 32, "ic12": 64, "ic13": 256, "ic14": 512}
	for rest := data[8:]; len(rest) > 0; {
		kind, length := string(rest[:4]), int(binary.BigEndian.Uint32(rest[4:]))
		img, err := png.Decode(bytes.NewReader(rest[8:length]))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if b := img.Bounds(); sizes[kind] == 0 || b.Dx() != sizes[kind] || b.Dy() != sizes[kind] {
			t.Errorf("%s is %v", kind, b)
		}
		delete(sizes, kind)
		rest = rest[length:]
	}
	if len(sizes) > 0 {
		t.Errorf("these are missing: %v", sizes)
	}
}
