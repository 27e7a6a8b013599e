package autostart

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLinkEntry: the packages' entry is the one that is written for a user.
func TestLinkEntry(t *testing.T) {
	packaged, err := os.ReadFile(filepath.Join("..", "..", "packaging", "linux", "berth-link.desktop"))
	if err != nil || string(packaged) != string(linkEntry("/usr/bin/berth")) {
		t.Errorf("the packages' entry is\n%s, %v", packaged, err)
	}
	if got := string(linkEntry("/my apps/ber%th")); !strings.Contains(got, "\nExec=\"/my apps/ber%%th\" link follow -- %u\n") {
		t.Errorf("the entry is\n%s", got)
	}
}

// TestLinkClass: the MSI writes what is written for a user.
func TestLinkClass(t *testing.T) {
	template, err := os.ReadFile(filepath.Join("..", "..", "packaging", "dist", "berth.wxs.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	type value struct {
		Root, Key, Name, Value string
	}
	var values []value
	dec := xml.NewDecoder(strings.NewReader(strings.NewReplacer("{{", "", "}}", "", `{{html .Manufacturer}}`, "x").Replace(string(template))))
	dec.Strict = false
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := tok.(xml.StartElement); ok && start.Name.Local == "RegistryValue" {
			var v value
			for _, a := range start.Attr {
				switch a.Name.Local {
				case "Root":
					v.Root = a.Value
				case "Key":
					v.Key = a.Value
				case "Name":
					v.Name = a.Value
				case "Value":
					v.Value = a.Value
				}
			}
			values = append(values, v)
		}
	}
	for _, v := range linkClass("[INSTALLDIR]berth.exe") {
		if !slices.Contains(values, value{"HKCU", `Software\Classes\` + v.key, v.name, v.text}) {
			t.Errorf("the MSI does not write %+v; it writes %+v", v, values)
		}
	}
}

// TestLinkPlist: macOS is told of the scheme in the words that it knows.
func TestLinkPlist(t *testing.T) {
	text := string(linkPlist())
	if err := xml.Unmarshal([]byte(text), new(struct {
		XMLName xml.Name `xml:"plist"`
	})); err != nil {
		t.Error(err)
	}
	squeezed := strings.Join(strings.Fields(text), "")
	for _, want := range []string{
		"<key>CFBundleURLTypes</key><array><dict>", "<key>CFBundleURLSchemes</key><array><string>berth</string></array>",
		"<key>CFBundleIdentifier</key><string>dev.berth.link</string>", "<key>LSUIElement</key><true/>",
	} {
		if !strings.Contains(squeezed, want) {
			t.Errorf("it has no %s:\n%s", want, text)
		}
	}
}

// TestLinkScript: neither the program's path nor the link is read by a shell.
func TestLinkScript(t *testing.T) {
	got := string(linkScript(`/Users/a"b\c/berth`))
	for _, want := range []string{
		`do shell script quoted form of "/Users/a\"b\\c/berth" & " link follow -- " & quoted form of theLink`, "on open location theLink\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it has no %s:\n%s", want, got)
		}
	}
}

func TestBundleOf(t *testing.T) {
	for program, want := range map[string]string{
		"/Applications/berth.app/Contents/MacOS/berth": "/Applications/berth.app",
		"/usr/local/bin/berth":                         "",
		"/Applications/berth.app/berth":                "",
	} {
		if got := bundleOf(program); got != want {
			t.Errorf("%s is part of %q, want %q", program, got, want)
		}
	}
}
