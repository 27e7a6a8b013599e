package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

var testTime = time.Date(2026, 11, 22, 20, 15, 4, 0, time.UTC)

func TestVersion(t *testing.T) {
	tests := map[string]struct {
		described              string
		semver, deb, arch, apk string
	}{
		"tag":       {"v1.2.3-0-gabcdef0", "1.2.3", "1.2.3", "1.2.3", "1.2.3"},
		"after_tag": {"v1.2.3-4-gabcdef0", "1.2.3+4.abcdef0", "1.2.3+4.abcdef0", "1.2.3+4.abcdef0", "1.2.3_git4"},
		"no_tag": {
			"abcdef0", "0.0.0-git20261122201504.abcdef0", "0.0.0~git20261122201504.abcdef0", "0.0.0git20261122201504.abcdef0",
			"0.0.0_pre20261122201504",
		},
		"dirty": {"v1.2.3-0-gabcdef0-dirty", "1.2.3.dirty", "1.2.3.dirty", "1.2.3.dirty", "1.2.3"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := parseVersion(tt.described, testTime)
			if err != nil {
				t.Fatal(err)
			}
			for what, pair := range map[string][2]string{
				"semver": {v.semver(), tt.semver}, "deb": {v.deb(), tt.deb}, "arch": {v.arch(), tt.arch}, "apk": {v.apk(), tt.apk},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s = %q, want %q", what, pair[0], pair[1])
				}
			}
		})
	}
	for _, bad := range []string{"", "v1.2-0-gabc", "release", "v1.2.3"} {
		if v, err := parseVersion(bad, testTime); err == nil {
			t.Errorf("parseVersion(%q) = %+v, want an error", bad, v)
		}
	}
}

func TestSourceVersionWithoutRepository(t *testing.T) {
	env := map[string]string{"BERTH_VERSION": "v1.2.3-0-gabc", "SOURCE_DATE_EPOCH": "1000000000"}
	v, at, err := sourceVersion(t.Context(), t.TempDir(), func(name string) string { return env[name] })
	if err != nil || v.semver() != "1.2.3" || at.Unix() != 1000000000 {
		t.Errorf("sourceVersion() = %v, %v, %v", v.semver(), at, err)
	}
	if _, _, err := sourceVersion(t.Context(), t.TempDir(), func(string) string { return "" }); err == nil {
		t.Error("a version came from nowhere")
	}
}

func TestChosen(t *testing.T) {
	list, err := chosen("windows/amd64,linux/arm64")
	if err != nil || len(list) != 2 || list[0].os != "windows" || list[1].arch != "arm64" {
		t.Errorf("chosen() = %v, %v", list, err)
	}
	if _, err := chosen("plan9/amd64"); err == nil {
		t.Error("a system there is no release for was taken")
	}
}

// TestArchives packs the same files twice, written at different times.
func TestArchives(t *testing.T) {
	for name, write := range map[string]func(io.Writer, string, []entry, time.Time) error{"tar": writeTarGz, "zip": writeZip} {
		t.Run(name, func(t *testing.T) {
			var packed [2][]byte
			for i := range packed {
				dir := t.TempDir()
				entries := []entry{
					{name: "berth", source: filepath.Join(dir, "b"), program: true}, {name: "man/berth.1", source: filepath.Join(dir, "m")},
				}
				for _, e := range entries {
					if err := os.WriteFile(e.source, []byte("content of "+e.name), 0o600); err != nil {
						t.Fatal(err)
					}
					old := time.Now().Add(-time.Duration(i) * time.Hour)
					if err := os.Chtimes(e.source, old, old); err != nil {
						t.Fatal(err)
					}
				}
				var b bytes.Buffer
				if err := write(&b, "top", entries, testTime); err != nil {
					t.Fatal(err)
				}
				packed[i] = b.Bytes()
			}
			if !bytes.Equal(packed[0], packed[1]) {
				t.Error("the same files give two archives")
			}
			want := map[string]os.FileMode{"top/berth": 0o755, "top/man/berth.1": 0o644}
			got := modes(t, name, packed[0])
			for file, mode := range want {
				if got[file] != mode {
					t.Errorf("%s has mode %v, want %v", file, got[file], mode)
				}
			}
		})
	}
}

// TestBundle packs the application of macOS, and reads what its plist says.
func TestBundle(t *testing.T) {
	r := &release{root: t.TempDir(), work: t.TempDir(), version: version{base: "1.2.3"}, epoch: testTime}
	tgt := target{"darwin", "arm64"}
	for path, text := range map[string]string{r.program(tgt): "program", r.common("icons", "berth.icns"): "icon"} {
		if err := place(filepath.Dir(path), filepath.Base(path), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := r.bundle(tgt, r.program(tgt))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeZip(&b, "top", entries, testTime); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{
		"top/berth": os.ModeSymlink | 0o777, "top/berth.app/Contents/MacOS/berth": 0o755,
		"top/berth.app/Contents/Info.plist": 0o644, "top/berth.app/Contents/Resources/berth.icns": 0o644,
	}
	if got := modes(t, "zip", b.Bytes()); !maps.Equal(got, want) {
		t.Errorf("the archive has %v, want %v", got, want)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	link, err := fs.ReadFile(z, "top/berth")
	if err != nil || want["top/"+string(link)] != 0o755 {
		t.Errorf("the link leads to %q: %v", link, err)
	}
	plist, err := fs.ReadFile(z, "top/berth.app/Contents/Info.plist")
	if err != nil {
		t.Fatal(err)
	}
	// Keys and texts, in their order: whatever else a plist is, it is XML.
	var words []string
	for d := xml.NewDecoder(bytes.NewReader(plist)); ; {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := tok.(xml.CharData); ok && len(bytes.TrimSpace(text)) > 0 {
			words = append(words, string(text))
		}
	}
	got := strings.Join(words, " ")
	for _, want := range []string{
		"CFBundleIdentifier dev.berth.app ", "CFBundleExecutable berth ", "CFBundleIconFile berth ", "CFBundleVersion 1.2.3 ",
		"CFBundleURLSchemes berth ", "LSEnvironment BERTH_APP tray ", "LSUIElement",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the plist says %q, without %q", got, want)
		}
	}
}

// modes lists an archive.
func modes(t *testing.T, kind string, data []byte) map[string]os.FileMode {
	t.Helper()
	got := make(map[string]os.FileMode)
	if kind == "zip" {
		z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			got[f.Name] = f.Mode()
		}
		return got
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = os.FileMode(h.Mode)
	}
}

// TestStamp: what is packed from the disk has the same modes whatever the builder's umask
// lets through.
func TestStamp(t *testing.T) {
	tree := t.TempDir()
	want := map[string]os.FileMode{
		"usr": 0o755, "usr/bin": 0o755, "usr/bin/berth": 0o755, "usr/share": 0o755, "usr/share/man.gz": 0o644,
	}
	for _, file := range []string{"usr/bin/berth", "usr/share/man.gz"} {
		if err := place(tree, file, nil); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range want {
		if err := os.Chmod(filepath.Join(tree, path), mode&^0o077); err != nil {
			t.Fatal(err)
		}
	}
	if err := stamp(tree, testTime); err != nil {
		t.Fatal(err)
	}
	for path, mode := range want {
		info, err := os.Stat(filepath.Join(tree, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode || !info.ModTime().Equal(testTime) {
			t.Errorf("%s has mode %v of %v, want %v of %v", path, info.Mode().Perm(), info.ModTime(), mode, testTime)
		}
	}
}

func TestDebianChangelog(t *testing.T) {
	changes := "# Changes\n\n## Unreleased\n\n- **First** " + strings.Repeat("word ", 30) + "\n  goes on ([how](docs/HOW.md)).\n- Second.\n\n## 1.0.0\n\n- Old.\n"
	r := &release{version: version{base: "1.2.3"}, epoch: testTime, maintainer: "Jane Doe <jane@example.org>"}
	got := string(r.debianChangelog(changes))
	for _, want := range []string{
		"berth (1.2.3) stable; urgency=medium\n\n  * First word", "\n    word", "goes on.\n  * Second.\n", " -- Jane Doe <jane@example.org>  Sun, 22 Nov 2026 20:15:04 +0000\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "Old") || strings.Contains(got, "Unreleased") {
		t.Errorf("too much:\n%s", got)
	}
	for line := range strings.Lines(got) {
		if len(line) > 81 && !strings.HasPrefix(line, " -- ") {
			t.Errorf("a line of %d: %q", len(line), line)
		}
	}
}

func TestBillOfMaterials(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:x"},
		{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
	}}
	encode := func() string {
		var b bytes.Buffer
		if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).Encode(billOf(info, "1.2.3", [32]byte{1, 2, 3}, testTime)); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	bill := encode()
	if bill != encode() {
		t.Error("the same program has two bills")
	}
	if !json.Valid([]byte(bill)) {
		t.Errorf("no JSON: %s", bill)
	}
	for _, want := range []string{"pkg:golang/example.com/a@v1.0.0", "pkg:golang/example.com/c@v2.0.0", "pkg:golang/std@go1.26.8", "2026-11-22T20:15:04Z"} {
		if !strings.Contains(bill, want) {
			t.Errorf("no %s in %s", want, bill)
		}
	}
	if strings.Contains(bill, "example.com/b") {
		t.Error("a replaced module is in the bill")
	}
}

// TestUnreadModules: a bill holds no module that deps.txt lacks.
func TestUnreadModules(t *testing.T) {
	info := &debug.BuildInfo{Deps: []*debug.Module{{Path: "example.com/a"}, {Path: "example.com/a/v2"}}}
	if odd := unread(info, "berth\nexample.com/a\nexample.com/a/v2\n"); len(odd) > 0 {
		t.Errorf("%q are unread", odd)
	}
	if odd := unread(info, "berth\nexample.com/a\n"); len(odd) != 1 || odd[0] != "example.com/a/v2" {
		t.Errorf("%q are unread", odd)
	}
}

// TestTemplate fills the package's description in for every format.
func TestTemplate(t *testing.T) {
	for _, f := range formats {
		var b bytes.Buffer
		err := nfpmTemplate.Execute(&b, map[string]string{
			"Arch": "amd64", "Version": "1.2.3", "Tree": "/t", "Packager": f.packager, "Time": "now",
			"Maintainer": strconv.Quote("Jane \"J\" Doe <jane@example.org>"), "Homepage": strconv.Quote(""),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Contains(b.String(), "vendor-completions"), f.packager == "deb"; got != want {
			t.Errorf("%s: zsh's Debian folder is there: %v", f.packager, got)
		}
		for _, line := range []string{`maintainer: "Jane \"J\" Doe <jane@example.org>"`, `homepage: ""`} {
			if !strings.Contains(b.String(), "\n"+line+"\n") {
				t.Errorf("%s: no line %s in\n%s", f.packager, line, b.String())
			}
		}
	}
}

func TestMaintainer(t *testing.T) {
	for maintainer, want := range map[string]bool{
		placeholder: true, "Jane Doe <jane@example.org>": true, "jane@example.org": false, "": false, "Jane <jane": false,
		"Jane\nDoe <jane@example.org>": false,
	} {
		if got := wellFormed(maintainer); got != want {
			t.Errorf("wellFormed(%q) = %v, want %v", maintainer, got, want)
		}
	}
}
