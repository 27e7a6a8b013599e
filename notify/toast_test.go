package notify

import (
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestToast(t *testing.T) {
	evil := `"/><action content='x' arguments="y"/>]]>$(calc)&amp;` + "`whoami`\x1b[31m\u202e"
	tests := []struct {
		name string
		n    Notification
	}{
		{"approved", Notification{ID: "request-1", Title: "Approved: dba", Body: "Until 18:00, for <prod-pg> & more.", Urgency: UrgencyCritical,
			Actions: []Action{{"assume:1", "Assume"}, {"later:1", "Later"}, {DefaultKey, "Details"}}}},
		{"words_only", Notification{ID: "x", Title: "Renewed"}},
		{"low", Notification{ID: "x", Title: "Renewed", Body: "First line\nSecond line", Urgency: UrgencyLow}},
		{"critical_without_buttons", Notification{ID: "x", Title: "Broken", Urgency: UrgencyCritical}},
		{"many_buttons", Notification{ID: "x", Title: "x", Actions: []Action{{"a", "A"}, {"b", "B"}, {"c", "C"}, {"d", "D"}, {"e", "E"}, {"f", "F"}}}},
		{"hostile", Notification{ID: `"&<x>`, Title: evil, Body: evil, Group: evil, Actions: []Action{{`"/><x y="`, evil}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := clean(tt.n, "berth")
			if err != nil {
				t.Fatal(err)
			}
			got, err := toast(n)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "toast", tt.name+".xml")
			pretty := strings.ReplaceAll(got, "><", ">\n<") + "\n"
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(pretty), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), pretty); diff != "" {
				t.Errorf("toast() (-want +got; -update rewrites):\n%s", diff)
			}
		})
	}
}

// FuzzToast checks that nothing gets out of the place it is written to.
func FuzzToast(f *testing.F) {
	f.Add("id", "title", "body", "key", "label")
	f.Add(`"><`, "]]>", "&#0;", `'/>`, "$(x)")
	f.Fuzz(func(t *testing.T, id, title, body, key, label string) {
		n, err := clean(Notification{ID: id, Title: title, Body: body, Actions: []Action{{key, label}}}, "berth")
		if err != nil {
			return // it is refused before it gets here
		}
		text, err := toast(n)
		if err != nil {
			t.Fatal(err)
		}
		var got toastXML
		if err := xml.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := 1
		if body := n.Body; body != "" {
			want = 2
		}
		if len(got.Binding.Texts) != want || got.Binding.Texts[0] != n.Title {
			t.Errorf("%q is another toast than %+v", text, n)
		}
		if got.Actions == nil || len(got.Actions.Action) != 1 {
			if key != DefaultKey {
				t.Fatalf("%q has not the button of %+v", text, n)
			}
			return
		}
		for _, a := range got.Actions.Action {
			gotID, gotKey, ok := toastClick(a.Arguments)
			if !ok || gotID != id || gotKey != key || a.Content != n.Actions[0].Label {
				t.Errorf("the button of %+v is %+v", n, a)
			}
		}
	})
}

func TestToastClickRefuses(t *testing.T) {
	for _, arguments := range []string{"", "id=x", "key=x", "id=&key=x", "x&key=y", "id=%zz&key=x", "id=x&key=%00",
		"id=" + strings.Repeat("x", maxKey+1) + "&key=y", strings.Repeat("x", 1<<20)} {
		if id, key, ok := toastClick(arguments); ok {
			t.Errorf("toastClick(%.40q) = %.40q, %q, want a refusal", arguments, id, key)
		}
	}
	if id, key, ok := toastClick(toastArguments("request-1", "")); !ok || id != "request-1" || key != "" {
		t.Errorf("a click on the words is %q, %q, %v", id, key, ok)
	}
}
