package notify

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/plain"
	"berth/notify/internal/words"
)

func TestClean(t *testing.T) {
	long := strings.Repeat("word ", 2048)
	tests := []struct {
		name        string
		title, body string
		wantTitle   string
		wantBody    string
	}{
		{"plain", "Approved: dba", "Until 18:00.\nFor prod-pg.", "Approved: dba", "Until 18:00.\nFor prod-pg."},
		{"escape_codes", "\x1b[31mred\x1b[0m \x1b]0;title\x07x", "\u009b31mc1\x1b]8;;http://x\x1b\\link", "red x", "c1link"},
		{"controls", "a\x00b\x07c\rd", "tab\there\x7f", "abc d", "tab here"},
		{"turned_writing", "user \u202egnp.exe\u202c", "\u2066x\u2069\u200f\u200b", "user gnp.exe", "x"},
		{"other_scripts_stay", "שלום", "مرحبا", "שלום", "مرحبا"},
		{"newlines_in_title", "a\nb\u2028c", "\n\n a \n\n\n b \n", "a b c", "a\nb"},
		{"many_lines", "t", strings.Repeat("x\n", 50), "t", "x\nx\nx\nx\nx\nx …"},
		{"long", long, long, plain.Cut(strings.TrimSpace(long), maxTitle), plain.Cut(strings.TrimSpace(long[:4<<10]), maxBody)},
		{"accents", "e" + strings.Repeat("\u0301", 400) + "!", "", "e\u0301\u0301\u0301!", ""},
		{"markup_is_text", "<b>x</b>", `<img src="file:///etc/passwd">`, "<b>x</b>", `<img src="file:///etc/passwd">`},
		{"not_utf8", "a\xffb", "\xf0\x9f", "a\ufffdb", "\ufffd"},
		{"nothing_left", "\u202e\x07", "", "berth", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := clean(Notification{ID: "x", Title: tt.title, Body: tt.body}, "berth")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.wantTitle, tt.wantBody}, []string{got.Title, got.Body}); diff != "" {
				t.Errorf("clean() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCleanRefuses(t *testing.T) {
	tests := []struct {
		name string
		n    Notification
	}{
		{"no_id", Notification{Title: "x"}},
		{"long_id", Notification{ID: strings.Repeat("x", maxKey+1)}},
		{"no_key", Notification{ID: "x", Actions: []Action{{"", "OK"}}}},
		{"key_with_newline", Notification{ID: "x", Actions: []Action{{"a\nb", "OK"}}}},
		{"key_not_utf8", Notification{ID: "x", Actions: []Action{{"\xff", "OK"}}}},
		{"key_twice", Notification{ID: "x", Actions: []Action{{"a", "OK"}, {"a", "No"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := clean(tt.n, "berth"); err == nil {
				t.Errorf("clean(%+v) = nil, want an error", tt.n)
			}
		})
	}
}

// FuzzClean checks what every desktop may rely on, whatever others have written.
func FuzzClean(f *testing.F) {
	f.Add("Approved", "Until <18:00> & more\x1b[31m")
	f.Add("\u202e\xff", "]]>$(x)`\n\n")
	f.Fuzz(func(t *testing.T, title, body string) {
		n, err := clean(Notification{ID: "x", Title: title, Body: body}, "berth")
		if err != nil {
			t.Fatal(err)
		}
		if n.Title == "" || plain.Width(n.Title) > maxTitle || plain.Width(n.Body) > maxBody {
			t.Errorf("sizes %d, %d", len(n.Title), len(n.Body))
		}
		for _, s := range []string{n.Title, n.Body} {
			if plain.Text(s) != s {
				t.Errorf("%q is not clean", s)
			}
			if h := words.Harmless(s); strings.ContainsAny(h, "$`\"'<>&\\]|") || strings.HasPrefix(h, "-") {
				t.Errorf("words.Harmless(%q) = %q", s, h)
			}
			if e := words.Escape(s); strings.ContainsAny(e, "<>\"'") {
				t.Errorf("words.Escape(%q) = %q", s, e)
			}
		}
		if strings.Contains(n.Title, "\n") {
			t.Errorf("title %q has lines", n.Title)
		}
	})
}
