package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a file of an archive: its name there, where it comes from, and
// whether it is a program. A link leads to another entry instead.
type entry struct {
	name, source string
	program      bool
	link         string
}

// writeArchive packs the program with its documents, for people who install by
// hand: zip where that is the custom.
func (r *release) writeArchive(t target, program string) error {
	name := fmt.Sprintf("berth_%s_%s_%s", r.version.semver(), t.os, t.arch)
	entries := []entry{{name: filepath.Base(program), source: program, program: true}}
	if t.os == "darwin" {
		var err error
		if entries, err = r.bundle(t, program); err != nil {
			return err
		}
	}
	entries = append(entries, entry{name: "THIRD_PARTY_LICENSES", source: r.notices()})
	for _, doc := range []string{"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"} {
		entries = append(entries, entry{name: doc, source: filepath.Join(r.root, doc)})
	}
	folders := []string{"completions", "man"}
	if t.os == "windows" {
		folders = folders[:1]
	}
	for _, dir := range folders {
		files, err := filepath.Glob(r.common(dir, "*"))
		if err != nil {
			return err
		}
		for _, file := range files {
			entries = append(entries, entry{name: dir + "/" + filepath.Base(file), source: file})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	write, suffix := writeTarGz, ".tar.gz"
	if t.os != "linux" {
		write, suffix = writeZip, ".zip"
	}
	f, err := os.Create(filepath.Join(r.out, name+suffix))
	if err != nil {
		return err
	}
	return errors.Join(write(f, name, entries, r.epoch), f.Close())
}

// mode is the permissions of an entry.
func (e entry) mode() os.FileMode {
	switch {
	case e.link != "":
		return os.ModeSymlink | 0o777
	case e.program:
		return 0o755
	default:
		return 0o644
	}
}

// content is what a zip has of an entry: of a link where it leads.
func (e entry) content() ([]byte, error) {
	if e.link != "" {
		return []byte(e.link), nil
	}
	return os.ReadFile(e.source)
}

func writeTarGz(w io.Writer, top string, entries []entry, at time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, e := range entries {
		data, err := os.ReadFile(e.source)
		if err != nil {
			return err
		}
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: top + "/" + e.name, Mode: int64(e.mode()), Size: int64(len(data)), ModTime: at, Format: tar.FormatUSTAR,
			Uname: "root", Gname: "root",
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func writeZip(w io.Writer, top string, entries []entry, at time.Time) error {
	z := zip.NewWriter(w)
	for _, e := range entries {
		data, err := e.content()
		if err != nil {
			return err
		}
		h := &zip.FileHeader{Name: top + "/" + e.name, Method: zip.Deflate, Modified: at.UTC()}
		h.SetMode(e.mode())
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			return err
		}
	}
	return z.Close()
}
