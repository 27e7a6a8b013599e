package main

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed nfpm.yaml.tmpl
var nfpmText string

var nfpmTemplate = template.Must(template.New("nfpm.yaml").Parse(nfpmText))

// format is a family of distributions: what nfpm calls its packager, and how
// its files are named.
type format struct {
	packager string
	version  func(version) string
	file     func(version, arch string) string
}

var formats = []format{
	{"deb", version.deb, func(v, arch string) string { return fmt.Sprintf("berth_%s_%s.deb", v, arch) }},
	{"rpm", version.deb, func(v, arch string) string { return fmt.Sprintf("berth-%s-1.%s.rpm", v, machine[arch]) }},
	{"apk", version.apk, func(v, arch string) string { return fmt.Sprintf("berth-%s-r0.%s.apk", v, machine[arch]) }},
	{"archlinux", version.arch, func(v, arch string) string { return fmt.Sprintf("berth-%s-1-%s.pkg.tar.zst", v, machine[arch]) }},
}

// machine maps Go's names of machines to those of most distributions.
var machine = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// writePackages packs for the distributions. The tree they share is laid out
// first; each format picks from it.
func (r *release) writePackages(ctx context.Context, t target, program string) error {
	tree := filepath.Join(r.work, t.os+"-"+t.arch, "tree")
	if err := r.layOut(tree, program); err != nil {
		return err
	}
	if err := stamp(tree, r.epoch); err != nil {
		return err
	}
	for _, f := range formats {
		v := f.version(r.version)
		var config bytes.Buffer
		err := nfpmTemplate.Execute(&config, map[string]string{
			"Arch": t.arch, "Version": v, "Tree": tree, "Packager": f.packager, "Time": r.epoch.Format(time.RFC3339),
			"Maintainer": strconv.Quote(r.maintainer), "Homepage": strconv.Quote(r.homepage),
		})
		if err != nil {
			return err
		}
		dir, name := filepath.Dir(tree), "nfpm-"+f.packager+".yaml"
		if err := place(dir, name, config.Bytes()); err != nil {
			return err
		}
		_, err = r.command(ctx, dir, nil, r.nfpm(), "package",
			"--config", filepath.Join(dir, name), "--packager", f.packager, "--target", filepath.Join(r.out, f.file(v, t.arch)))
		if err != nil {
			return err
		}
	}
	return nil
}

// layOut puts everything where it is to be installed.
func (r *release) layOut(tree, program string) error {
	static := filepath.Join(r.root, "packaging", "linux")
	files := map[string]string{
		"usr/bin/berth":                                   program,
		"usr/lib/systemd/user/berth.service":              r.common("systemd", "berth.service"),
		"usr/share/applications/berth.desktop":            filepath.Join(static, "berth.desktop"),
		"usr/share/applications/berth-link.desktop":       filepath.Join(static, "berth-link.desktop"),
		"etc/xdg/autostart/berth-tray.desktop":            filepath.Join(static, "berth-tray.desktop"),
		"usr/share/icons/hicolor/scalable/apps/berth.svg": filepath.Join(r.root, "packaging", "icons", "fine.svg"),
		"usr/share/bash-completion/completions/berth":     r.common("completions", "berth.bash"),
		"usr/share/zsh/vendor-completions/_berth":         r.common("completions", "_berth"),
		"usr/share/zsh/site-functions/_berth":             r.common("completions", "_berth"),
		"usr/share/fish/vendor_completions.d/berth.fish":  r.common("completions", "berth.fish"),
		"usr/share/doc/berth/completions/berth.ps1":       r.common("completions", "berth.ps1"),
		"usr/share/doc/berth/copyright":                   filepath.Join(static, "copyright"),
		"usr/share/doc/berth/THIRD_PARTY_LICENSES":        r.notices(),
		"usr/share/licenses/berth/LICENSE":                filepath.Join(r.root, "LICENSE"),
		"usr/share/lintian/overrides/berth":               filepath.Join(static, "lintian-overrides"),
	}
	readme, err := os.ReadFile(filepath.Join(r.root, "README.md"))
	if err != nil {
		return err
	}
	if err := place(tree, "usr/share/doc/berth/README.md", []byte(packagedReadme(string(readme)))); err != nil {
		return err
	}
	icons, err := filepath.Glob(r.common("icons", "*.png"))
	if err != nil {
		return err
	}
	for _, icon := range icons {
		size := strings.TrimSuffix(filepath.Base(icon), ".png")
		files["usr/share/icons/hicolor/"+size+"x"+size+"/apps/berth.png"] = icon
	}
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := place(tree, to, data); err != nil {
			return err
		}
	}
	return r.layOutPressed(tree)
}

var (
	pictureLine  = regexp.MustCompile(`(?m)^.*!\[[^\]]*\]\([^)]*\).*\n(?:\|[-|]+\|\n)?(?:\|.*\n)?`)
	relativeLink = regexp.MustCompile(`\[([^\]]*)\]\((?:[^):]*)\)`)
	asideLink    = regexp.MustCompile(`\s*\(\[[^\]]*\]\([^):]*\)\)`) // says nothing without the link
	sourceOnly   = regexp.MustCompile(`(?s)## Try it\n.*?\n(## )|\*\*Read on:\*\*.*?\n\n`)
	emptyLines   = regexp.MustCompile(`\n{3,}`)
)

// unlinked is text without links to pages of the source.
func unlinked(text string) string {
	return relativeLink.ReplaceAllString(asideLink.ReplaceAllString(text, ""), "$1")
}

// packagedReadme is the README without pictures, without links to pages that are not
// in the package, and without what needs the source.
func packagedReadme(text string) string {
	text = sourceOnly.ReplaceAllString(text, "$1")
	return emptyLines.ReplaceAllString(unlinked(pictureLine.ReplaceAllString(text, "")), "\n\n")
}

// stamp gives everything below dir one time, which some formats keep of folders, and the
// modes that it has under the usual umask: nfpm packs those on the disk.
func stamp(dir string, at time.Time) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() || filepath.Base(filepath.Dir(path)) == "bin" {
			mode = 0o755
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
		return os.Chtimes(path, at, at)
	})
}

// layOutPressed adds what distributions want compressed.
func (r *release) layOutPressed(tree string) error {
	pages, err := filepath.Glob(r.common("man", "*.[15]"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		if err := placePressed(tree, "usr/share/man/man"+page[len(page)-1:]+"/"+filepath.Base(page)+".gz", text); err != nil {
			return err
		}
	}
	changes, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	return placePressed(tree, "usr/share/doc/berth/changelog.gz", r.debianChangelog(string(changes)))
}

// debianChangelog writes the newest section of the changelog in Debian's form.
func (r *release) debianChangelog(changes string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "berth (%s) stable; urgency=medium\n\n", r.version.deb())
	_, section, _ := strings.Cut(changes, "\n## ")
	section, older, _ := strings.Cut(section, "\n## ")
	if !strings.Contains(section, "\n- ") { // of a release nothing is unreleased
		section, _, _ = strings.Cut(older, "\n## ")
	}
	section = unlinked(subheading.ReplaceAllString(section, ""))
	section = strings.ReplaceAll(section, "**", "")
	_, items, _ := strings.Cut(section, "\n- ") // after the heading
	for item := range strings.SplitSeq(items, "\n- ") {
		line := "  *"
		for word := range strings.FieldsSeq(item) {
			if len(line)+1+len(word) > changelogWidth {
				fmt.Fprintln(&b, line)
				line = "   "
			}
			line += " " + word
		}
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintf(&b, "\n -- %s  %s\n", r.maintainer, r.epoch.Format(time.RFC1123Z))
	return b.Bytes()
}

// subheading is a line such as "### Added".
var subheading = regexp.MustCompile(`(?m)^### .*\n+`)

// changelogWidth is how long Debian wants a changelog's lines.
const changelogWidth = 78

func placePressed(tree, to string, data []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return place(tree, to, b.Bytes())
}

// place writes a file below a folder; what goes to usr/bin is a program.
func place(tree, to string, data []byte) error {
	file := filepath.Join(tree, filepath.FromSlash(to))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(to, "usr/bin/") {
		mode = 0o755
	}
	return os.WriteFile(file, data, mode)
}
