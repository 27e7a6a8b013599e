package tray

import (
	"bytes"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
)

// icons are rendered from packaging/icons by "make icons".
//
//go:embed icons
var icons embed.FS

// iconFor is a mood's icon as the system's tray wants it, and whether it is a
// template that the system paints itself.
func iconFor(goos string, mood mood) (data []byte, template bool) {
	switch goos {
	case "windows":
		return iconFile(string(mood) + ".ico"), false
	case "darwin":
		return iconFile(string(mood) + "-template.png"), true
	default:
		return encodeRaw(iconFile(string(mood) + ".png")), false
	}
}

func iconFile(name string) []byte {
	data, err := icons.ReadFile("icons/" + name)
	if err != nil {
		panic(fmt.Sprintf("no icon %s in the program: %v", name, err))
	}
	return data
}

// On Linux systray turns an icon into ARGB by keeping the low byte of each
// 16-bit premultiplied value, which gives smooth edges coloured fringes. It
// decodes icons with the image package, so berth hands it a format of its own
// whose pixels report the wanted byte as it is. TestIconOverTheBus fails once
// a newer systray no longer needs this.
const rawMagic = "brthARGB"

func init() { //nolint:gochecknoinits // the registry of the image package is global, and systray asks it
	image.RegisterFormat("berth-raw", rawMagic, decodeRaw, decodeRawConfig)
}

// encodeRaw writes a PNG in the format that decodeRaw reads: magic, width and
// height, pixels.
func encodeRaw(data []byte) []byte {
	w, h, pixels := pixelsOf(data)
	out := []byte(rawMagic)
	out = binary.BigEndian.AppendUint16(out, uint16(w))
	out = binary.BigEndian.AppendUint16(out, uint16(h))
	return append(out, pixels...)
}

// pixelsOf returns a PNG's pixels, each its red, green, blue and straight alpha.
func pixelsOf(data []byte) (w, h int, pixels []byte) {
	decoded, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		panic(fmt.Sprintf("the icons in the program are broken: %v", err))
	}
	bounds := decoded.Bounds()
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c, _ := color.NRGBAModel.Convert(decoded.At(x, y)).(color.NRGBA)
			pixels = append(pixels, c.R, c.G, c.B, c.A)
		}
	}
	return bounds.Dx(), bounds.Dy(), pixels
}

// rawImage is an image with straight alpha whose colours say the low byte.
type rawImage struct {
	w, h int
	pix  []byte
}

// rawColor breaks the contract of color.Color on purpose: see rawMagic.
type rawColor [4]byte

// RGBA returns bytes, where others return 16 bits.
func (c rawColor) RGBA() (r, g, b, a uint32) {
	return uint32(c[0]), uint32(c[1]), uint32(c[2]), uint32(c[3])
}

// ColorModel returns a standard model; no caller converts to it.
func (i *rawImage) ColorModel() color.Model { return color.NRGBAModel }

// Bounds is the size.
func (i *rawImage) Bounds() image.Rectangle { return image.Rect(0, 0, i.w, i.h) }

// At is a pixel.
func (i *rawImage) At(x, y int) color.Color {
	at := 4 * (y*i.w + x)
	return rawColor(i.pix[at : at+4])
}

func decodeRaw(r io.Reader) (image.Image, error) {
	cfg, err := decodeRawConfig(r)
	if err != nil {
		return nil, err
	}
	img := &rawImage{w: cfg.Width, h: cfg.Height, pix: make([]byte, 4*cfg.Width*cfg.Height)}
	if _, err := io.ReadFull(r, img.pix); err != nil {
		return nil, fmt.Errorf("read an icon: %w", err)
	}
	return img, nil
}

func decodeRawConfig(r io.Reader) (image.Config, error) {
	header := make([]byte, len(rawMagic)+4)
	if _, err := io.ReadFull(r, header); err != nil {
		return image.Config{}, fmt.Errorf("read an icon: %w", err)
	}
	if string(header[:len(rawMagic)]) != rawMagic {
		return image.Config{}, errors.New("it is no icon of berth")
	}
	size := header[len(rawMagic):]
	return image.Config{
		ColorModel: color.NRGBAModel,
		Width:      int(binary.BigEndian.Uint16(size)), Height: int(binary.BigEndian.Uint16(size[2:])),
	}, nil
}

// AppIcon is berth's icon as a PNG, for notifications.
func AppIcon() []byte { return iconFile(string(moodFine) + ".png") }
