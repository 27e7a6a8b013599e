package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"aead.dev/minisign"
	"gopkg.in/yaml.v3"
)

func TestPreReleases(t *testing.T) {
	for described, want := range map[string][4]string{
		"v1.2.3-rc.1-0-gabcdef0": {"1.2.3-rc.1", "1.2.3~rc.1", "1.2.3rc.1", "1.2.3_rc1"},
		"v0.0.0-test-0-gabcdef0": {"0.0.0-test", "0.0.0~test", "0.0.0test", "0.0.0_pre"},
		"v1.2.3-beta-0-gabcdef0": {"1.2.3-beta", "1.2.3~beta", "1.2.3beta", "1.2.3_beta"},
	} {
		v, err := parseVersion(described, testTime)
		if err != nil {
			t.Fatal(err)
		}
		if got := [4]string{v.semver(), v.deb(), v.arch(), v.apk()}; got != want {
			t.Errorf("%s: %q, want %q", described, got, want)
		}
	}
}

func TestNotesOf(t *testing.T) {
	const changes = "# Changes\n\n## [Unreleased]\n\n- soon\n\n## [1.2.3] - 2026-11-28\n\n### Added\n\n- a thing\n  ([how](docs/HOW.md)), [two](x.md); [three](https://example.org)\n\n## [1.2.2]\n\n- old\n"
	for _, tt := range []struct {
		version string
		final   bool
		want    string
	}{
		{"1.2.3", true, "### Added\n\n- a thing, two; [three](https://example.org)"},
		{"1.2.2", true, "- old"},
		{"1.3.0", true, ""},
		{"1.3.0-rc.1", false, "- soon"},
	} {
		got, err := notesOf(changes, tt.version, tt.final)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("notesOf(%s) = %q, %v; want %q", tt.version, got, err, tt.want)
		}
	}
}

// source is a repository with what a release looks for.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"CHANGELOG.md":         "# Changes\n\n## [1.2.3]\n\n- a thing\n",
		"SECURITY.md":          "SECURITY_CONTACT=security@example.org\n",
		"packaging/install.sh": "",
	} {
		if err := place(dir, name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile(filepath.Join("..", "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if err := place(dir, "packaging/install.sh", script); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-qm", "all"}} {
		gitIn(t, dir, args...)
	}
	return dir
}

func gitIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.org"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func keyFile(t *testing.T) string {
	t.Helper()
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "key")
}

func newPublication(t *testing.T, root string) *publication {
	t.Helper()
	return &publication{
		release: &release{root: root, out: filepath.Join(t.TempDir(), "dist"), epoch: testTime, maintainer: "Jane Doe <jane@example.org>", homepage: "https://example.org/berth"},
		tag:     "v1.2.3", keyFile: keyFile(t),
	}
}

// What would make a release a bad one is said before anything is built.
func TestPrepare(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, p *publication)
		want  string // in the error; empty means that it is fine
	}{
		"fine":        {func(*testing.T, *publication) {}, ""},
		"no_version":  {func(_ *testing.T, p *publication) { p.tag = "1.2" }, "a version is v1.2.3"},
		"no_section":  {func(_ *testing.T, p *publication) { p.tag = "v9.9.9" }, "no section"},
		"no_key":      {func(_ *testing.T, p *publication) { p.keyFile = "" }, "MINISIGN_KEY"},
		"nobody":      {func(_ *testing.T, p *publication) { p.maintainer = placeholder }, "MAINTAINER"},
		"no_homepage": {func(_ *testing.T, p *publication) { p.homepage = "" }, "HOMEPAGE"},
		"changed": {func(t *testing.T, p *publication) {
			if err := place(p.root, "new.go", nil); err != nil {
				t.Fatal(err)
			}
		}, "in no commit"},
		"tag_elsewhere": {func(t *testing.T, p *publication) {
			gitIn(t, p.root, "tag", "v1.2.3")
			gitIn(t, p.root, "commit", "-q", "--allow-empty", "-m", "later")
		}, "the tag v1.2.3 is at"},
		"no_contact": {func(t *testing.T, p *publication) {
			if err := place(p.root, "SECURITY.md", []byte("SECURITY_CONTACT=x@berth.invalid")); err != nil {
				t.Fatal(err)
			}
			gitIn(t, p.root, "commit", "-qam", "no address")
		}, "SECURITY_CONTACT"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPublication(t, source(t))
			tt.spoil(t, p)
			err := p.prepare(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("prepare: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("prepare: %v, want %q", err, tt.want)
			}
			if tt.want == "" && p.version.semver() != "1.2.3" {
				t.Errorf("the version is %s", p.version.semver())
			}
		})
	}
}

// released makes a release of stand-ins for programs.
func released(t *testing.T) *publication {
	t.Helper()
	p := newPublication(t, source(t))
	if err := p.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	program := "#!/bin/sh\necho \"berth 1.2.3 $*\"\n"
	entries := []entry{{name: "berth", source: filepath.Join(tree, "berth"), program: true}}
	for _, name := range []string{"completions/berth.bash", "completions/_berth", "completions/berth.fish", "man/berth.1", "man/berth.yaml.5", "LICENSE", "THIRD_PARTY_LICENSES"} {
		entries = append(entries, entry{name: name, source: filepath.Join(tree, filepath.FromSlash(name))})
	}
	for _, e := range entries {
		text := e.name
		if e.program {
			text = program
		}
		if err := place(tree, e.name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tgt := range targets {
		name, suffix, write := fmt.Sprintf("berth_1.2.3_%s_%s", tgt.os, tgt.arch), ".zip", writeZip
		if tgt.os == "linux" {
			suffix, write = ".tar.gz", writeTarGz
		}
		var b bytes.Buffer
		if err := write(&b, name, entries, testTime); err != nil {
			t.Fatal(err)
		}
		if err := place(p.out, name+suffix, b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := place(p.out, "berth_1.2.3_windows_amd64.msi", []byte("an installer")); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRelease(t *testing.T) {
	p := released(t)
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(p.out, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	sums := read(sumsFile)
	var key minisign.PublicKey
	if err := key.UnmarshalText([]byte(p.publicKey())); err != nil {
		t.Fatal(err)
	}
	if !minisign.Verify(key, []byte(sums), []byte(read(sumsFile+".minisig"))) {
		t.Error("the signature of the checksums is wrong")
	}
	if !strings.Contains(sums, "  install.sh\n") || strings.Contains(sums, "manifests") {
		t.Errorf("the checksums are of\n%s", sums)
	}
	notes := read("RELEASE-NOTES.md")
	if !strings.HasPrefix(notes, "- a thing\n") || regexp.MustCompile(`@[A-Z_]+@`).MatchString(notes) {
		t.Errorf("the notes:\n%s", notes)
	}
	if m := regexp.MustCompile(`ARTEFACT=(\S+)`).FindStringSubmatch(notes); m == nil || !strings.Contains(sums, "  "+m[1]+"\n") {
		t.Errorf("the notes verify a file that there is not: %q", m)
	}
	var scoop struct {
		Version      string
		Architecture map[string]struct{ URL, Hash string }
	}
	if err := json.Unmarshal([]byte(read("manifests/scoop/berth.json")), &scoop); err != nil || scoop.Version != "1.2.3" {
		t.Errorf("Scoop's manifest: %+v, %v", scoop, err)
	}
	if at := scoop.Architecture["64bit"]; !strings.Contains(sums, at.Hash+"  "+at.URL[strings.LastIndex(at.URL, "/")+1:]) {
		t.Errorf("Scoop's checksum: %+v", at)
	}
	if cask := read("manifests/homebrew/Casks/berth.rb"); !strings.Contains(cask, `"dev.berth.agent", "dev.berth.tray"`) {
		t.Errorf("Homebrew's cask does not name berth's launchd labels:\n%s", cask)
	}
	for _, to := range manifests {
		text := read("manifests/" + to)
		if strings.HasSuffix(to, ".yaml") {
			var v map[string]any
			if err := yaml.Unmarshal([]byte(text), &v); err != nil || v["PackageVersion"] != "1.2.3" {
				t.Errorf("%s: %v, %v", to, v, err)
			}
		}
		for _, m := range regexp.MustCompile(`\b[0-9a-fA-F]{64}\b`).FindAllString(text, -1) {
			if !strings.Contains(sums, strings.ToLower(m)) {
				t.Errorf("%s has a checksum of no file: %s", to, m)
			}
		}
	}
	if runtime.GOOS != "windows" {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join(p.out, "manifests", "aur", "PKGBUILD")).CombinedOutput(); err != nil {
			if bash, missing := exec.LookPath("bash"); missing != nil || exec.CommandContext(t.Context(), bash, "-n", filepath.Join(p.out, "manifests", "aur", "PKGBUILD")).Run() != nil {
				t.Errorf("PKGBUILD: %s", out)
			}
		}
	}
}

func TestTargetOf(t *testing.T) {
	for name, want := range map[string]string{
		"berth_1.2.3_amd64.deb": "linux/amd64", "berth-1.2.3-1.aarch64.rpm": "linux/arm64", "berth-1.2.3-1-x86_64.pkg.tar.zst": "linux/amd64",
		"berth-1.2.3-r0.x86_64.apk": "linux/amd64", "berth_1.2.3_darwin_arm64.zip": "darwin/arm64", "berth_1.2.3_linux_amd64.tar.gz": "linux/amd64",
		"berth_1.2.3_windows_amd64.cdx.json": "windows/amd64", "berth_1.2.3_windows_amd64.msi": "", "notes.txt": "",
	} {
		got, err := targetOf(name)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("targetOf(%s) = %v, %v; want %q", name, got, err, want)
		}
	}
}

func TestPackagedReadme(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := packagedReadme(string(raw))
	for _, not := range []string{"](docs/", "![", "make demo", "Read on"} {
		if strings.Contains(text, not) {
			t.Errorf("the packaged README has %q", not)
		}
	}
	if !strings.Contains(text, "\n## How it differs\n") || !strings.Contains(text, "berth agent install") || !strings.HasSuffix(text, "\nApache-2.0\n") {
		t.Errorf("the packaged README:\n%s", text)
	}
}
