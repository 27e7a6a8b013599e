package icons

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

const embedded = "../../tray/icons"

// TestCurrent: what the tray embeds is what the drawings say. Compilers round
// differently, so a pixel may be off by a little.
func TestCurrent(t *testing.T) {
	files, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(embedded, name))
		if err != nil {
			t.Fatal(err)
		}
		if !alike(t, name, want, got) {
			t.Errorf("%s is out of date: run \"make icons\"", name)
		}
	}
	there, err := os.ReadDir(embedded)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range there {
		if files[f.Name()] == nil {
			t.Errorf("%s has no drawing", f.Name())
		}
	}
}

func alike(t *testing.T, name string, a, b []byte) bool {
	t.Helper()
	if filepath.Ext(name) == ".png" {
		a, b = pixels(t, a), pixels(t, b)
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if d := int(a[i]) - int(b[i]); d > 3 || d < -3 {
			return false
		}
	}
	return true
}

func pixels(t *testing.T, data []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	nrgba, ok := img.(*image.NRGBA)
	if !ok {
		t.Fatalf("a PNG of type %T", img)
	}
	return nrgba.Pix
}

// TestStatesDifferWithoutColour: each two states differ in enough places of
// the smallest icon's outline for somebody who sees no colour.
func TestStatesDifferWithoutColour(t *testing.T) {
	for _, size := range []int{16, 22} {
		for i, a := range States {
			for _, b := range States[i+1:] {
				n := 0
				left, right := mustTemplate(t, a, size), mustTemplate(t, b, size)
				for y := range size {
					for x := range size {
						if d := int(left.NRGBAAt(x, y).A) - int(right.NRGBAAt(x, y).A); d > 100 || d < -100 {
							n++
						}
					}
				}
				if n < size*size/10 {
					t.Errorf("at %d px %s and %s differ in %d of %d pixels", size, a, b, n, size*size)
				}
			}
		}
	}
}

func mustTemplate(t *testing.T, state string, size int) *image.NRGBA {
	t.Helper()
	img, err := renderTemplate(state, size)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestTemplatesAreBlack: macOS paints them itself.
func TestTemplatesAreBlack(t *testing.T) {
	for _, state := range States {
		img := mustTemplate(t, state, TemplateSize)
		opaque := 0
		for y := range TemplateSize {
			for x := range TemplateSize {
				c := img.NRGBAAt(x, y)
				if c.R != 0 || c.G != 0 || c.B != 0 {
					t.Fatalf("%s has the colour %v", state, c)
				}
				if c.A > 128 {
					opaque++
				}
			}
		}
		if opaque == 0 {
			t.Errorf("%s is empty", state)
		}
	}
}

// TestReadable: the shape stands out from light and dark panels.
func TestReadable(t *testing.T) {
	for _, state := range States {
		img, err := Render(state, 22)
		if err != nil {
			t.Fatal(err)
		}
		for _, panel := range []color.NRGBA{{0xff, 0xff, 0xff, 0xff}, {0x1e, 0x1e, 0x1e, 0xff}} {
			plain := 0
			for y := range 22 {
				for x := range 22 {
					if c := img.NRGBAAt(x, y); c.A > 200 && contrast(c, panel) >= 2.4 {
						plain++
					}
				}
			}
			if plain < 60 {
				t.Errorf("%s on %v: only %d pixels stand out", state, panel, plain)
			}
		}
	}
}

// contrast is WCAG's.
func contrast(a, b color.NRGBA) float64 {
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(c color.NRGBA) float64 {
	lin := func(v uint8) float64 { f := float64(v) / 255; return f * f } // near enough to sRGB
	return 0.2126*lin(c.R) + 0.7152*lin(c.G) + 0.0722*lin(c.B)
}
