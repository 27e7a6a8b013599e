package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed manifests/*.tmpl
var manifestFiles embed.FS

var manifestTemplates = template.Must(template.ParseFS(manifestFiles, "manifests/*.tmpl"))

// manifests maps the templates to what they become, below the folder manifests.
var manifests = map[string]string{
	"formula.rb.tmpl":            "homebrew/Formula/berth.rb",
	"cask.rb.tmpl":               "homebrew/Casks/berth.rb",
	"scoop.json.tmpl":            "scoop/berth.json",
	"winget.version.yaml.tmpl":   "winget/Berth.Berth.yaml",
	"winget.installer.yaml.tmpl": "winget/Berth.Berth.installer.yaml",
	"winget.locale.yaml.tmpl":    "winget/Berth.Berth.locale.en-US.yaml",
	"PKGBUILD.tmpl":              "aur/PKGBUILD",
	"SRCINFO.tmpl":               "aur/.SRCINFO",
	"flake.nix.tmpl":             "nix/flake.nix",
}

// manifest is what a template may ask.
type manifest struct {
	Version, Arch, Base, Homepage, Maintainer, Publisher string

	dir string // of the files
}

func (m manifest) file(suffix string) string { return "berth_" + m.Version + "_" + suffix }

// URL is where a file will be: one of those named berth_VERSION_SUFFIX.
func (m manifest) URL(suffix string) string { return m.Base + "/" + m.file(suffix) }

// Sum is the checksum of that file.
func (m manifest) Sum(suffix string) (string, error) {
	return sumOf(filepath.Join(m.dir, m.file(suffix)))
}

// SUM is the checksum in the capitals that winget wants.
func (m manifest) SUM(suffix string) (string, error) {
	sum, err := m.Sum(suffix)
	return strings.ToUpper(sum), err
}

// writeManifests writes what package managers need to know of the files that
// were built. A manifest that needs a file that was not built is left out, aloud:
// only a part of the systems was built, or there was no wixl.
func (p *publication) writeManifests() error {
	publisher, _, _ := strings.Cut(p.maintainer, " <")
	m := manifest{
		Version: p.version.semver(), Arch: p.version.arch(), Base: p.downloads, Homepage: p.homepage, Maintainer: p.maintainer, Publisher: publisher,
		dir: p.out,
	}
	for name, to := range manifests {
		var b bytes.Buffer
		if err := manifestTemplates.ExecuteTemplate(&b, name, m); err != nil {
			var missing *fs.PathError
			if errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) {
				fmt.Printf("dist: NO %s: %s was not built\n", to, filepath.Base(missing.Path))
				continue
			}
			return fmt.Errorf("%s: %w", to, err)
		}
		if err := place(filepath.Join(p.out, "manifests"), to, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
