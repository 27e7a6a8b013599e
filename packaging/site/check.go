package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/net/html"
)

// check follows every link of every page of the site, to its heading.
func check(out string) error {
	type found struct {
		ids   map[string]bool
		links []string
	}
	pages := make(map[string]*found)
	err := filepath.WalkDir(out, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(out, file)
		if err != nil {
			return err
		}
		f := &found{ids: make(map[string]bool)}
		pages[filepath.ToSlash(name)] = f
		if path.Ext(name) != ".html" {
			return nil
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		doc, err := html.Parse(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		for n := range doc.Descendants() {
			for _, a := range n.Attr {
				switch a.Key {
				case "id":
					f.ids[a.Val] = true
				case "href", "src":
					f.links = append(f.links, a.Val)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for name, f := range pages {
		for _, l := range f.links {
			if strings.Contains(l, "://") || strings.HasPrefix(l, "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(l, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}
			switch p := pages[to]; {
			case p == nil:
				errs = append(errs, fmt.Errorf("%s: %s: there is no such page", name, l))
			case anchor != "" && path.Ext(to) == ".html" && !p.ids[anchor]:
				errs = append(errs, fmt.Errorf("%s: %s: there is no such heading", name, l))
			}
		}
	}
	return errors.Join(errs...)
}
