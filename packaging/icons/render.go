// Package icons renders berth's icon from its drawings.
//
// One drawing per state is the source; "go run ./packaging/icons/cmd/render"
// writes what the tray embeds, and a test fails when that is out of date.
package icons

import (
	"bytes"
	"embed"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"regexp"
	"strconv"

	"github.com/srwiley/oksvg"
	"github.com/srwiley/rasterx"
)

//go:embed *.svg
var drawings embed.FS

// States are the names of the drawings.
var States = []string{"fine", "marked", "soon", "news", "ask", "action", "off"}

// The sizes the systems want. Linux panels scale the one they are given;
// macOS draws the other at half its size.
const (
	PanelSize    = 48
	TemplateSize = 36
)

// drawingSize is the width and height of the drawings.
const drawingSize = 32

// icoSizes are the sizes that Windows chooses from.
var icoSizes = []int{16, 20, 24, 32, 48}

// Files renders everything: a name and the content of each file.
func Files() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, state := range States {
		panel, err := Render(state, PanelSize)
		if err != nil {
			return nil, err
		}
		template, err := renderTemplate(state, TemplateSize)
		if err != nil {
			return nil, err
		}
		if files[state+".png"], err = encode(panel); err != nil {
			return nil, err
		}
		if files[state+"-template.png"], err = encode(template); err != nil {
			return nil, err
		}
		if files[state+".ico"], err = ico(state); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Render draws a state's icon, size pixels wide and high.
func Render(state string, size int) (*image.NRGBA, error) {
	svg, err := drawings.ReadFile(state + ".svg")
	if err != nil {
		return nil, fmt.Errorf("read the drawing %q: %w", state, err)
	}
	return paint(svg, size)
}

// white is the colour of a badge's sign; a template leaves it open instead.
var white = regexp.MustCompile(`(?i)#ffffff`)

var anyColor = regexp.MustCompile(`#[0-9a-fA-F]{6}`)

// renderTemplate draws an icon in black: macOS paints it as its menu bar
// wants. What is white in the drawing becomes a hole.
func renderTemplate(state string, size int) (*image.NRGBA, error) {
	svg, err := drawings.ReadFile(state + ".svg")
	if err != nil {
		return nil, fmt.Errorf("read the drawing %q: %w", state, err)
	}
	marked := white.ReplaceAll(svg, []byte("#ff0000"))
	marked = anyColor.ReplaceAllFunc(marked, func(c []byte) []byte {
		if string(c) == "#ff0000" {
			return c
		}
		return []byte("#000000")
	})
	img, err := paint(marked, size)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(img.Pix); i += 4 {
		hole := int(img.Pix[i])
		alpha := int(img.Pix[i+3]) * (255 - hole) / 255
		img.Pix[i], img.Pix[i+1], img.Pix[i+2], img.Pix[i+3] = 0, 0, 0, uint8(alpha)
	}
	return img, nil
}

// strokeWidth matches the attribute that oksvg does not scale with the drawing.
var strokeWidth = regexp.MustCompile(`stroke-width="([0-9.]+)"`)

func paint(svg []byte, size int) (*image.NRGBA, error) {
	svg = strokeWidth.ReplaceAllFunc(svg, func(attr []byte) []byte {
		width, _ := strconv.ParseFloat(string(strokeWidth.FindSubmatch(attr)[1]), 64) // the pattern lets numbers through
		return fmt.Appendf(nil, `stroke-width="%.4f"`, width*float64(size)/drawingSize)
	})
	icon, err := oksvg.ReadIconStream(bytes.NewReader(svg), oksvg.StrictErrorMode)
	if err != nil {
		return nil, fmt.Errorf("read the drawing: %w", err)
	}
	icon.SetTarget(0, 0, float64(size), float64(size))
	canvas := image.NewRGBA(image.Rect(0, 0, size, size))
	scanner := rasterx.NewScannerGV(size, size, canvas, canvas.Bounds())
	icon.Draw(rasterx.NewDasher(size, size, scanner), 1)
	out := image.NewNRGBA(canvas.Bounds())
	for y := range size {
		for x := range size {
			out.Set(x, y, color.NRGBAModel.Convert(canvas.At(x, y)))
		}
	}
	return out, nil
}

func encode(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestCompression}
	if err := enc.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("encode an icon: %w", err)
	}
	return b.Bytes(), nil
}

// ico packs the sizes for Windows as 32-bit bitmaps: PNG is understood there
// only for the largest size.
func ico(state string) ([]byte, error) {
	const header, entry = 6, 16
	var out, images bytes.Buffer
	put := func(b *bytes.Buffer, values ...any) {
		for _, v := range values {
			_ = binary.Write(b, binary.LittleEndian, v) // a Buffer takes everything
		}
	}
	put(&out, uint16(0), uint16(1), uint16(len(icoSizes)))
	for _, size := range icoSizes {
		img, err := Render(state, size)
		if err != nil {
			return nil, err
		}
		start := images.Len()
		put(&images, uint32(40), int32(size), int32(2*size), uint16(1), uint16(32),
			uint32(0), uint32(0), int32(0), int32(0), uint32(0), uint32(0))
		for y := size - 1; y >= 0; y-- {
			for x := range size {
				c := img.NRGBAAt(x, y)
				put(&images, c.B, c.G, c.R, c.A)
			}
		}
		images.Write(make([]byte, (size+31)/32*4*size)) // the mask: alpha says it all
		put(&out, uint8(size), uint8(size), uint8(0), uint8(0), uint16(1), uint16(32),
			uint32(images.Len()-start), uint32(header+entry*len(icoSizes)+start))
	}
	out.Write(images.Bytes())
	return out.Bytes(), nil
}
