package shell_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"berth/internal/shell"
	"berth/internal/testneeds"
)

func TestQuote(t *testing.T) {
	for want, args := range map[string][]string{
		"":                          nil,
		"berth request create":      {"berth", "request", "create"},
		"a --b=c:1,2 @/d.e_f%+":     {"a", "--b=c:1,2", "@/d.e_f%+"},
		"'' ' ' 'ä' '~' '#'":        {"", " ", "ä", "~", "#"},
		`'it'\''s' '$(x)' '` + "`'": {"it's", "$(x)", "`"},
	} {
		if got := shell.Quote(args...); got != want {
			t.Errorf("Quote(%q) = %s, want %s", args, got, want)
		}
	}
}

// hostile is a name that no role should have.
var hostile = []string{
	"", "-", "--", "'", "''", `\`, `\'`, `"`, "a b", "a\nb", "\n", "$(touch x)", "`id`", "; rm -rf ~ #", "&& x", "|x", ">x", "<x",
	"*", "?", "[a]", "{a,b}", "~", "!x", "$HOME", "a=b", "\t", "'; x; '", `'\''`, "ä", "two words", `al ice@example.com/#?'"\&=;{}+%`, "\u202e", "\x1b[31m", "\xff",
}

// TestShellTakesQuotesApart asks a real shell.
func TestShellTakesQuotesApart(t *testing.T) {
	sh := testneeds.Program(t, "sh")
	out, err := exec.CommandContext(t.Context(), sh, "-c", `printf '%s\000' `+shell.Quote(hostile...)).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if !slices.Equal(got, hostile) {
		t.Errorf("the shell reads %q, want %q", got, hostile)
	}
}

// FuzzQuote reads a command as POSIX says, as far as Quote uses it.
func FuzzQuote(f *testing.F) {
	for _, s := range hostile {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if got := parse(t, shell.Quote(a, b)); !slices.Equal(got, []string{a, b}) {
			t.Errorf("Quote(%q, %q) reads as %q", a, b, got)
		}
	})
}

func parse(t *testing.T, s string) (words []string) {
	t.Helper()
	word, quoted := "", false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case quoted:
			word += s[i : i+1]
		case s[i] == '\\':
			i++
			word += s[i : i+1]
		case s[i] == ' ':
			words, word = append(words, word), ""
		case strings.ContainsRune("\t\n$`\"|&;<>()*?[]#~!{}", rune(s[i])) || s[i] >= 0x80:
			t.Fatalf("%q stands outside of quotes in %q", s[i], s)
		default:
			word += s[i : i+1]
		}
	}
	if quoted {
		t.Fatalf("a quote is open in %q", s)
	}
	return append(words, word)
}
