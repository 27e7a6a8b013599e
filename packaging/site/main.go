// Command site makes a static site of the documents: a page for each Markdown
// file and each page of the manual, with a search that needs no server. It uses
// nothing from elsewhere, follows the reader's dark or light, and fails on a link
// that leads nowhere.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"html/template"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	rendererhtml "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
)

//go:embed page.html
var pageText string

//go:embed style.css
var style []byte

//go:embed search.js
var script []byte

var pageTemplate = template.Must(template.New("page").Parse(pageText))

func main() {
	root := flag.String("root", "../..", "the folder of berth's source")
	out := flag.String("out", "", "where the site goes (default: build/site in the source)")
	manual := flag.String("man", "", "a folder with pages of the manual, to include")
	flag.Parse()
	if *out == "" {
		*out = filepath.Join(*root, "build", "site")
	}
	if err := build(*root, *out, *manual); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

// page is one page of the site.
type page struct {
	Path, Title string // with slashes, from the top
	Body        template.HTML
	Up          string // what leads from the page to the top
	Groups      []group
	sections    []section
}

// group is a part of the list of pages.
type group struct {
	Name  string
	Pages []link
}

type link struct {
	Path, Title string
	Here        bool
}

// section is what the search finds.
type section struct {
	Path  string `json:"p"`
	Title string `json:"t"`
	Text  string `json:"x"`
}

// groups are the pages in the order in which people look for them; what is in
// none of them comes last.
var groups = []struct {
	name  string
	pages []string
}{
	{"Start", []string{"README.md", "docs/CONCEPTS.md", "docs/GETTING-STARTED.md", "docs/FAQ.md", "docs/COMPARISON.md"}},
	{"Use", []string{"docs/TUNNELS.md", "docs/SESSIONS.md", "docs/KUBERNETES.md", "docs/ACCESS-REQUESTS.md", "docs/WINDOW.md",
		"docs/RECORDINGS.md", "docs/NOTIFICATIONS.md", "docs/LINKS.md", "docs/PLACES.md", "docs/RELIABILITY.md", "docs/TROUBLESHOOTING.md"}},
	{"Clients", nil}, // docs/clients
	{"Reference", []string{"docs/COMMANDS.md", "docs/CONFIG.md", "docs/POLICY.md", "docs/METRICS.md", "docs/SECURITY-MODEL.md",
		"docs/PRIVACY.md", "docs/PLATFORMS.md", "docs/BENCHMARKS.md"}},
	{"Project", nil}, // the rest
	{"Manual", nil},  // man
}

func groupOf(name string) string {
	for _, g := range groups {
		if slices.Contains(g.pages, name) {
			return g.name
		}
	}
	switch {
	case strings.HasPrefix(name, "docs/clients/"):
		return "Clients"
	case strings.HasPrefix(name, "man/"):
		return "Manual"
	}
	return "Project"
}

// target is where a file of the source is on the site.
func target(name string) string {
	if name == "README.md" {
		return "index.html"
	}
	if path.Ext(name) == ".md" {
		return strings.TrimSuffix(name, ".md") + ".html"
	}
	return name
}

func build(root, out, manual string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	sources, others, err := files(root)
	if err != nil {
		return err
	}
	var pages []page
	var names []string
	for _, name := range sources {
		raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		p, err := fromMarkdown(name, raw)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pages, names = append(pages, p), append(names, name)
	}
	if manual != "" {
		more, err := fromManual(manual)
		if err != nil {
			return err
		}
		for _, p := range more {
			pages, names = append(pages, p), append(names, strings.TrimSuffix(p.Path, ".html"))
		}
	}
	var index []section
	for i := range pages {
		pages[i].Groups = navigation(pages, names, i)
		var b bytes.Buffer
		if err := pageTemplate.Execute(&b, pages[i]); err != nil {
			return err
		}
		if err := write(out, pages[i].Path, b.Bytes()); err != nil {
			return err
		}
		index = append(index, pages[i].sections...)
	}
	for _, name := range others {
		raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if err := write(out, name, raw); err != nil {
			return err
		}
	}
	words, err := json.Marshal(index)
	if err != nil {
		return err
	}
	// A script and not JSON: a page opened from a disk may not fetch.
	for name, data := range map[string][]byte{"style.css": style, "search.js": script, "index.js": slices.Concat([]byte("const INDEX="), words, []byte(";\n"))} {
		if err := write(out, name, data); err != nil {
			return err
		}
	}
	if err := check(out); err != nil {
		return err
	}
	fmt.Printf("site: %d pages, %d sections to search, in %s\n", len(pages), len(index), out)
	return nil
}

// files are the Markdown files of the source, and what else their pages need.
func files(root string) (markdown, others []string, err error) {
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir() && name != "." && name != "docs" && !strings.HasPrefix(name, "docs/"):
			return filepath.SkipDir
		case d.IsDir():
		case path.Ext(name) == ".md":
			markdown = append(markdown, name)
		case strings.HasPrefix(name, "docs/") || name == "LICENSE":
			others = append(others, name)
		}
		return nil
	})
	return markdown, others, err
}

// headings gives headings the names that links in the source have for them.
type headings struct{ seen map[string]bool }

func (h headings) Generate(value []byte, _ ast.NodeKind) []byte {
	id := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.TrimSpace(string(value)))
	for n := 1; h.seen[id]; n++ {
		id = fmt.Sprintf("%s-%d", strings.TrimSuffix(id, fmt.Sprintf("-%d", n-1)), n)
	}
	h.seen[id] = true
	return []byte(id)
}

func (h headings) Put(value []byte) { h.seen[string(value)] = true }

func fromMarkdown(name string, raw []byte) (page, error) {
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(rendererhtml.WithUnsafe())) // the source is the project's own, and has <br>
	ctx := parser.NewContext(parser.WithIDs(headings{make(map[string]bool)}))
	doc := md.Parser().Parse(text.NewReader(raw), parser.WithContext(ctx))
	p := page{Path: target(name), Up: strings.Repeat("../", strings.Count(target(name), "/"))}
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if l, ok := n.(*ast.Link); ok {
			l.Destination = []byte(onSite(string(l.Destination)))
		}
		if h, ok := n.(*ast.Heading); ok {
			title := plainText(h, raw)
			if p.Title == "" {
				p.Title = title
			}
			id, _ := h.AttributeString("id")
			anchor, _ := id.([]byte)
			p.sections = append(p.sections, section{Path: p.Path + "#" + string(anchor), Title: title})
		} else if len(p.sections) > 0 && n.Type() == ast.TypeBlock {
			if t := plainText(n, raw); t != "" && n.FirstChild() == nil || n.Kind() == ast.KindParagraph || n.Kind() == ast.KindTextBlock || n.Kind().String() == "TableCell" {
				last := &p.sections[len(p.sections)-1]
				last.Text = strings.TrimSpace(last.Text + " " + t)
			}
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return page{}, err
	}
	for i := range p.sections {
		if p.sections[i].Title != p.Title {
			p.sections[i].Title = p.Title + ": " + p.sections[i].Title
		}
	}
	var b bytes.Buffer
	if err := md.Renderer().Render(&b, raw, doc); err != nil {
		return page{}, err
	}
	p.Body = template.HTML(b.String()) //nolint:gosec // of the project's own text
	return p, nil
}

// onSite is a link of the source as it is on the site.
func onSite(dest string) string {
	file, anchor, hasAnchor := strings.Cut(dest, "#")
	if strings.Contains(dest, "://") || path.Ext(file) != ".md" {
		return dest
	}
	if path.Base(file) == "README.md" && !strings.Contains(file, "clients/") && strings.Trim(file, "./") == "README.md" && file != "README.md" {
		file = strings.TrimSuffix(file, "README.md") + "index.html"
	} else {
		file = strings.TrimSuffix(file, ".md") + ".html"
	}
	if hasAnchor {
		file += "#" + anchor
	}
	return file
}

// plainText is the text of a node without its markup.
func plainText(n ast.Node, raw []byte) string {
	var b strings.Builder
	if n.Type() == ast.TypeBlock && (n.Kind() == ast.KindFencedCodeBlock || n.Kind() == ast.KindCodeBlock) {
		for i := range n.Lines().Len() {
			line := n.Lines().At(i)
			b.Write(line.Value(raw))
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(raw))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return strings.Join(strings.Fields(b.String()), " ")
}

// fromManual renders the pages of the manual with man itself.
func fromManual(dir string) ([]page, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.[15]"))
	if err != nil {
		return nil, err
	}
	var pages []page
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		cmd := exec.Command("man", "-l", abs)
		cmd.Env = append(os.Environ(), "MANWIDTH=88", "LC_ALL=C.UTF-8", "MANPAGER=cat", "GROFF_NO_SGR=1", "MANROFFOPT=-c")
		raw, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("man -l %s: %w", filepath.Base(file), err)
		}
		plain := regexp.MustCompile(".\b").ReplaceAllString(string(raw), "")
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		p := page{Path: "man/" + filepath.Base(file) + ".html", Up: "../", Title: name + "(" + strings.TrimPrefix(filepath.Ext(file), ".") + ")"}
		p.Body = template.HTML("<pre class=man>" + html.EscapeString(strings.TrimSpace(plain)) + "</pre>") //nolint:gosec // escaped
		p.sections = []section{{Path: p.Path, Title: p.Title, Text: strings.Join(strings.Fields(plain), " ")}}
		pages = append(pages, p)
	}
	return pages, nil
}

// navigation is the list of pages, as page number here shows it.
func navigation(pages []page, names []string, here int) []group {
	var list []group
	for _, g := range groups {
		var links []link
		add := func(i int) {
			links = append(links, link{Path: pages[i].Path, Title: pages[i].Title, Here: i == here})
		}
		for _, name := range g.pages {
			if i := slices.Index(names, name); i >= 0 {
				add(i)
			}
		}
		for i, name := range names {
			if !slices.Contains(g.pages, name) && groupOf(name) == g.name {
				add(i)
			}
		}
		if len(links) > 0 {
			list = append(list, group{g.name, links})
		}
	}
	return list
}

func write(out, name string, data []byte) error {
	file := filepath.Join(out, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}
