// Package doctest reads the project's Markdown for the tests that keep it
// true: which links it has, which headings they may lead to, and which berth
// commands it tells people to type. It also keeps the pages that are made from
// the code what the code makes of them. It promises to find every link and every
// command of the plain Markdown the project writes, each with its line; it is
// no parser of Markdown in general.
package doctest

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// A Page is what one Markdown file holds.
type Page struct {
	// Path is where the file is, from the root of the project, with slashes.
	Path     string
	Links    []Link
	Commands []Command
	// Anchors are the headings, as links name them.
	Anchors map[string]bool
}

// A Link is one target that a page names.
type Link struct {
	Line   int
	Target string
}

// A Command is one call of berth that a page shows.
type Command struct {
	Line int
	// Args are the words after berth, without quotes.
	Args []string
	// Fenced says that it stands in a block to be copied, and is complete;
	// others are mentions, which may leave out arguments.
	Fenced bool
}

var (
	link   = regexp.MustCompile(`\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)(?:\s+"[^"]*")?\)`)
	source = regexp.MustCompile(`<(?:img|a)\s[^>]*(?:src|href)="([^"]*)"`)
	inline = regexp.MustCompile("(``+|`)(.+?)(``+|`)")
	head   = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
	fence  = regexp.MustCompile("^\\s*(```+|~~~+)\\s*([A-Za-z0-9_-]*)")
)

// notShell are the languages of blocks in which nothing is to be typed.
var notShell = map[string]bool{"text": true, "yaml": true, "json": true, "jsonc": true, "go": true, "ini": true, "sql": true, "xml": true}

// Parse reads a page.
func Parse(path, text string) Page {
	p := Page{Path: path, Anchors: make(map[string]bool)}
	opened, language := "", ""
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		n := i + 1
		if m := fence.FindStringSubmatch(line); m != nil {
			switch {
			case opened == "":
				opened, language = m[1], m[2]
				continue
			case strings.HasPrefix(m[1], opened) && m[2] == "":
				opened = ""
				continue
			}
		}
		if opened != "" {
			if !notShell[language] {
				p.addCommands(n, line, true)
			}
			continue
		}
		p.addProse(n, line)
	}
	return p
}

// addProse reads a line outside of blocks.
func (p *Page) addProse(n int, line string) {
	if m := head.FindStringSubmatch(line); m != nil {
		p.addAnchor(m[1])
	}
	for _, m := range inline.FindAllStringSubmatch(line, -1) {
		if m[1] == m[3] {
			p.addCommands(n, strings.TrimSpace(m[2]), false)
		}
	}
	prose := inline.ReplaceAllString(line, "code")
	for _, re := range []*regexp.Regexp{link, source} {
		for _, m := range re.FindAllStringSubmatch(prose, -1) {
			p.Links = append(p.Links, Link{Line: n, Target: m[1]})
		}
	}
}

// addAnchor notes a heading by the name that links to it have: lower case,
// spaces as dashes, without punctuation.
func (p *Page) addAnchor(heading string) {
	name := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, heading)
	p.Anchors[name] = true
}

func (p *Page) addCommands(n int, line string, fenced bool) {
	for _, args := range Calls(line) {
		p.Commands = append(p.Commands, Command{Line: n, Args: args, Fenced: fenced})
	}
}

// Files are the project's Markdown files beneath root, from root, with
// slashes. Hidden folders, test data and what is built are left out.
func Files(root string) ([]string, error) {
	var files []string
	made := []string{"testdata", "bin", "build", "dist", "node_modules"}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || slices.Contains(made, name)) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.EqualFold(filepath.Ext(name), ".md") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files = append(files, filepath.ToSlash(rel))
		return nil
	})
	return files, err
}
