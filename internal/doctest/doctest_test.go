package doctest

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// TestDocsLinks looks for what every relative link of every page leads to.
func TestDocsLinks(t *testing.T) {
	files, err := Files(root)
	if err != nil {
		t.Fatal(err)
	}
	pages := make(map[string]Page)
	links := 0
	for _, name := range files {
		raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = Parse(name, string(raw))
		links += len(pages[name].Links)
	}
	if len(pages) < 5 || links < 20 {
		t.Fatalf("found %d pages with %d links: the search is broken", len(pages), links)
	}
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
		return err == nil
	}
	for _, p := range pages {
		for _, l := range p.Links {
			if why := dead(p, l, pages, exists); why != "" {
				t.Errorf("%s:%d: (%s): %s", p.Path, l.Line, l.Target, why)
			}
		}
	}
}

// dead says why a link leads nowhere; it is empty for one that leads
// somewhere, and for those that leave the project.
func dead(p Page, l Link, pages map[string]Page, exists func(string) bool) string {
	if strings.Contains(l.Target, "://") || strings.HasPrefix(l.Target, "mailto:") {
		return ""
	}
	file, anchor, _ := strings.Cut(l.Target, "#")
	target := p.Path
	if file != "" {
		target = path.Join(path.Dir(p.Path), file)
	}
	if strings.HasPrefix(target, "../") || strings.HasPrefix(file, "/") || !exists(target) {
		return "there is no such file"
	}
	if page, ok := pages[target]; anchor != "" && ok && !page.Anchors[anchor] {
		return "there is no such heading"
	}
	return ""
}

func TestDead(t *testing.T) {
	pages := map[string]Page{
		"README.md":  Parse("README.md", "# A\n## When it's *wrong*, `then` what?\n"),
		"docs/A.md":  Parse("docs/A.md", "# Über alles\n"),
		"docs/pic.x": {},
	}
	exists := func(name string) bool { _, ok := pages[name]; return ok }
	for _, tt := range []struct{ from, target, want string }{
		{"README.md", "docs/A.md", ""},
		{"README.md", "docs/A.md#über-alles", ""},
		{"README.md", "docs/A.md#alles", "there is no such heading"},
		{"README.md", "docs/B.md", "there is no such file"},
		{"README.md", "#when-its-wrong-then-what", ""},
		{"docs/A.md", "../README.md", ""},
		{"docs/A.md", "README.md", "there is no such file"},
		{"docs/A.md", "../../secret.md", "there is no such file"},
		{"docs/A.md", "/docs/A.md", "there is no such file"},
		{"docs/A.md", "https://example.com/x.md", ""},
		{"docs/A.md", "pic.x", ""},
	} {
		if got := dead(pages[tt.from], Link{Target: tt.target}, pages, exists); got != tt.want {
			t.Errorf("link to %q in %s: %q, want %q", tt.target, tt.from, got, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	const text = "# Title\n" +
		"See [a](docs/A.md#x), [b](B.md \"title\") and `[no](link.md)`.\n" +
		"![p](images/p.png) <img src=\"images/q.png\" width=\"3\">\n" +
		"Run `berth status --watch` or `tsh login`.\n" +
		"```\n" +
		"$ berth tunnel ls   # all of them\n" +
		"[c](no.md)\n" +
		"```\n" +
		"```yaml\n" +
		"berth: nothing\n" +
		"```\n" +
		"~~~sh\n" +
		"X=1 ./bin/berth agent run | cat\n" +
		"~~~\n"
	want := Page{
		Path:    "p.md",
		Links:   []Link{{2, "docs/A.md#x"}, {2, "B.md"}, {3, "images/p.png"}, {3, "images/q.png"}},
		Anchors: map[string]bool{"title": true},
		Commands: []Command{
			{Line: 4, Args: []string{"status", "--watch"}},
			{Line: 6, Args: []string{"tunnel", "ls"}, Fenced: true},
			{Line: 13, Args: []string{"agent", "run"}, Fenced: true},
		},
	}
	if diff := cmp.Diff(want, Parse("p.md", text)); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

func TestCalls(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		want       [][]string
	}{
		{"plain", "berth status", [][]string{{"status"}}},
		{"alone", "berth", [][]string{{}}},
		{"other", "tsh status --berth", nil},
		{"word_inside", "the berth is free", nil},
		{"substitution", `psql "$(berth tunnel url prod-pg)"`, [][]string{{"tunnel", "url", "prod-pg"}}},
		{"both", `berth exec pg -- psql "$(berth tunnel url pg)"`, [][]string{{"tunnel", "url", "pg"}, {"exec", "pg", "--", "psql", "x"}}},
		{"exported", `export KUBECONFIG="$(berth kube config --path)"`, [][]string{{"kube", "config", "--path"}}},
		{"quotes", `berth request create --reason 'a; b' --role "x y"`, [][]string{{"request", "create", "--reason", "a; b", "--role", "x y"}}},
		{"chain", "berth login && berth status; berth tray &", [][]string{{"login"}, {"status"}, {"tray"}}},
		{"windows", `C:\Tools\berth.exe agent run`, [][]string{{"agent", "run"}}},
		{"exe", `berth.exe agent run`, [][]string{{"agent", "run"}}},
		{"redirected", "berth completion bash > f", [][]string{{"completion", "bash"}}},
		{"prompt", "$ berth tunnel ls", [][]string{{"tunnel", "ls"}}},
		{"continued", `berth tunnel add db x \`, [][]string{{"tunnel", "add", "db", "x"}}},
		{"open_quote", `berth status "x`, [][]string{{"status", "x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Calls(tt.line)); diff != "" {
				t.Errorf("Calls(%q) (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# x\n```sh\nberth $(berth 'a\n```\n`berth \\`[a](b#c)")
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		p := Parse("x.md", text)
		for _, c := range p.Commands {
			if c.Line < 1 || c.Line > lines {
				t.Errorf("command on line %d of %d", c.Line, lines)
			}
		}
	})
}
