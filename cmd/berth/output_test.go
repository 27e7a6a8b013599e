package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/internal/plain"
)

func TestCleanLines(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"one", "a", "a"},
		{"more_are_indented", "a\nb\n  c\n", "a\n  b\n  c"},
		{"none_passes_for_ours", "x\nberth: hint: run rm -rf", "x\n  berth: hint: run rm -rf"},
		{"carriage_return", "x\rberth: all is well", "x berth: all is well"},
		{"codes", "\x1b[1ma\n\x1b[2Kb", "a\n  b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := cleanLines(test.in); got != test.want {
				t.Errorf("cleanLines(%q) = %q, want %q", test.in, got, test.want)
			}
		})
	}
}

func FuzzOutput(f *testing.F) {
	for _, seed := range []string{"", "prod-pg", "\x1b[31m", "a\u202eb", "\x9b", "\u009b", "\U000e0041", "a\nb\r\n", "\xf0\x9f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for i, line := range strings.Split(cleanLines(in), "\n") {
			if plain.Line(line) != line || (i > 0 && !strings.HasPrefix(line, "  ")) {
				t.Errorf("cleanLines(%q) has the line %q", in, line)
			}
		}
		// JSON keeps every character, and shows none of those.
		var out bytes.Buffer
		a := &app{out: &out}
		if err := a.printJSON([]string{in}); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(out.String(), "\n", "")
		if strings.ContainsFunc(text, plain.Invisible) {
			t.Errorf("JSON of %q is not safe: %q", in, text)
		}
		var back []string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Fatalf("JSON of %q cannot be read: %v", in, err)
		}
		if want := strings.ToValidUTF8(in, "\ufffd"); utf8.ValidString(in) && back[0] != want {
			t.Errorf("JSON of %q says %q", in, back[0])
		}
	})
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, color: true}
	err := a.table([]string{"NAME", "STATE", "WHERE"}, [][]string{
		{"größe", "ready", "x"},
		{"名前", "ready", "x"},
		{"a\x1b[2J", "error", ""},
	}, func(column int, cell string) string {
		if column == 1 {
			return stateColor(state.TunnelState(cell))
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "NAME   STATE  WHERE\n" +
		"größe  " + green + "ready" + reset + "  x\n" +
		"名前   " + green + "ready" + reset + "  x\n" +
		"a      " + red + "error" + reset + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_234_567: "1.2 MB", 5_000_000_000: "5.0 GB", 9_900_000_000_000_000: "9900.0 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestWantsColor(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"by_default", map[string]string{"TERM": "xterm"}, true},
		{"no_color", map[string]string{"NO_COLOR": "1"}, false},
		{"dumb", map[string]string{"TERM": "dumb"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := wantsColor(func(key string) string { return test.env[key] }, "linux"); got != test.want {
				t.Errorf("wantsColor = %v, want %v", got, test.want)
			}
			if wantsColor(func(key string) string { return test.env[key] }, "windows") {
				t.Error("wantsColor on Windows = true, want false")
			}
		})
	}
}
