package plain_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"berth/internal/plain"
)

const accent = "\u0301"

func TestLine(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"plain", "prod-pg", "prod-pg"},
		{"markup_stays", `<b>x</b> & 'y' $(z)`, `<b>x</b> & 'y' $(z)`},
		{"letters_of_all_scripts", "größe привет 名前 שלום مرحبا กำ क्षि မြို့", "größe привет 名前 שלום مرحبا กำ क्षि မြို့"},
		{"blanks_stay", " a  b\u00a0\u3000c ", " a  b\u00a0\u3000c "},
		{"breaks_are_blanks", "a\nb\tc\rd\ve\ff\u0085g\u2028h\u2029i", "a b c d e f g h i"},
		{"each_break_is_one", "a\r\nb", "a  b"},

		{"nul_bell_delete_backspace", "a\x00\a\x7f\bb", "ab"},
		{"colour", "\x1b[31mred\x1b[0m", "red"},
		{"true_colour", "\x1b[38:2::1:2:3mred\x1b[m", "red"},
		{"private_mode", "\x1b[?1049h\x1b[>4;2m\x1b[2 qx", "x"},
		{"title", "\x1b]0;owned\aok", "ok"},
		{"title_by_string_end", "\x1b]2;owned\x1b\\ok", "ok"},
		{"title_of_letters", "\x1b]0;größe\aok", "ok"},
		{"link", "\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\", "click"},
		{"clipboard", "a\x1b]52;c;cm0gLXJm\x07b", "ab"},
		{"device_string", "a\x1bP1$r0m\x1b\\b", "ab"},
		{"other_strings", "a\x1bXsos\x1b\\b\x1b^pm\x1b\\c\x1b_apc\x1b\\d", "abcd"},
		{"charset", "a\x1b(0b\x1b%Gc", "abc"},
		{"two_bytes", "a\x1bcb\x1b7c\x1b=d", "abcd"},
		{"lone_escape", "ok\x1b", "ok"},
		{"escape_before_a_letter", "a\x1bäb", "aäb"},
		{"two_escapes", "a\x1b\x1b[31mb", "ab"},
		{"half_a_colour", "ok\x1b[31", "ok"},
		{"colour_broken_off", "ok\x1b[31ä", "okä"},
		{"half_a_title", "a\x1b]0;evil", "a"},
		{"title_ends_with_its_line", "a\x1b]0;evil\nb", "a b"},
		{"title_cancelled", "a\x1b]0;evil\x18b", "ab"},
		{"colour_in_a_title", "a\x1b]0;evil\x1b[31mb", "ab"},
		{"c1_colour", "a\u009b31mred", "ared"},
		{"c1_title", "a\u009d0;owned\ab\u009d0;owned\u009cc", "abc"},
		{"c1_half_a_title", "a\u0090evil", "a"},
		{"c1_others", "a\u0080\u0084\u009c\u009fb", "a"},
		{"c1_as_a_raw_byte", "\x9b31mred", "\ufffd31mred"},

		{"override", "user \u202egnp.exe\u202c", "user gnp.exe"},
		{"isolates_and_marks", "\u2066a\u2069\u2067b\u2068\u200e\u200f\u061cc", "abc"},
		{"zero_width", "a\u200bd\u200cm\u200di\u2060n\ufeff", "admin"},
		{"soft_hyphen", "a\u00adb", "ab"},
		{"tags", "a\U000e0041\U000e007fb", "ab"},
		{"blank_letters", "a\u3164\u115f\u1160\uffa0\u034f\u17b4b", "ab"},
		{"variation_selectors", "a\ufe0f\ufe00\U000e0100\u180bb", "ab"},
		{"private_use", "a\ue000\U000f0000\U0010fffdb", "ab"},
		{"noncharacters", "a\ufffe\ufdd0\U0001ffffb", "ab"},
		{"not_assigned_yet", "a\U0001faf9b", "a\U0001faf9b"},

		{"accent", "e" + accent, "e" + accent},
		{"tower_of_accents", "e" + strings.Repeat(accent, 400) + "!", "e" + strings.Repeat(accent, 3) + "!"},
		{"tower_in_disguise", "e" + strings.Repeat(accent+"\u200b\x1b[m", 9), "e" + strings.Repeat(accent, 3)},
		{"accent_without_a_letter", accent + "a " + accent + "b\n" + accent + "c", "a b c"},
		{"circles", "a\u20dd\u20dd\u20dd\u20dd\u20dd", "a\u20dd\u20dd\u20dd"},

		{"emoji", "🙂 👍🏽 ❤️ 🇩🇪", "🙂 👍🏽 ❤️ 🇩🇪"},
		{"joined_emoji", "👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 👩🏻‍❤️‍💋‍👨🏼", "👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 👩🏻‍❤️‍💋‍👨🏼"},
		{"joiner_without_an_emoji", "👩\u200da \u200d👩 a\u200d👩 👩\u200d", "👩a 👩 a👩 👩"},
		{"joiners_in_a_row", "👩\u200d\u200d\u200b💻", "👩‍💻"},
		{"endless_emoji", strings.Repeat("👩\u200d", 9), "👩‍👩‍👩‍👩👩‍👩‍👩‍👩👩"},
		{"endless_tone", strings.Repeat("👍🏽", 2) + strings.Repeat("🏽", 9), "👍🏽👍🏽🏽🏽"},

		{"not_utf8", "caf\xe9 a\xc3(b", "caf\ufffd a\ufffd(b"},
		{"not_utf8_in_a_row", "a\xff\xfe\xfdb\xf0\x9f", "a\ufffdb\ufffd"},
		{"surrogates", "a\xed\xa0\x80b", "a\ufffdb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := plain.Line(tt.in); got != tt.want {
				t.Errorf("Line(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		" a\r\n\t b \n":              "a b",
		"a\u00a0\u3000\u2800b\u2028": "a b",
		" \u200b \u0301":             "",
		"\x1b[1m a \x1b[m b":         "a b",
	} {
		if got := plain.Words(in); got != want {
			t.Errorf("Words(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\n":                     "a\nb\n",
		"a\r\nb\tc\u2028d":           "a \nb c d",
		"x\rberth: all is well":      "x berth: all is well",
		"a\x1b]0;evil\nb":            "a\nb",
		"a\n\u0301b":                 "a\nb",
		"\x1b[1ma\n\x1b[2Kb\u202e\n": "a\nb\n",
	} {
		if got := plain.Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWidth(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want int
	}{
		{"", 0},
		{"prod-pg", 7},
		{"größe", 5},
		{"e" + accent + "t" + accent, 2},
		{"名前", 4},
		{"ｶﾅ", 2},
		{"🙂", 2},
		{"👨‍👩‍👧‍👦👩🏻‍❤️‍💋‍👨🏼", 4},
		{"❤", 1},
		{"❤️", 2},
		{"🇩🇪🇫🇷", 4},
		{"각", 2},
	} {
		if got := plain.Width(tt.s); got != tt.want {
			t.Errorf("Width(%q) = %d, want %d", tt.s, got, tt.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		s       string
		columns int
		want    string
	}{
		{"prod-pg", 7, "prod-pg"},
		{"prod-pg", 6, "prod-…"},
		{"prod  pg", 7, "prod…"},
		{"名前名前", 8, "名前名前"},
		{"名前名前", 7, "名前名…"},
		{"名前名前", 6, "名前…"},
		{"e" + accent + "e" + accent + "e" + accent, 2, "e" + accent + "…"},
		{"👨‍👩‍👧‍👦👨‍👩‍👧‍👦", 3, "👨‍👩‍👧‍👦…"},
		{"👨‍👩‍👧‍👦", 1, "…"},
		{"x", 0, ""},
		{"", 0, ""},
	} {
		if got := plain.Cut(tt.s, tt.columns); got != tt.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", tt.s, tt.columns, got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	if got, want := plain.Short(" a\n\x1b[31m  b\tcd", 4), "a b…"; got != want {
		t.Errorf("Short = %q, want %q", got, want)
	}
}

func TestHead(t *testing.T) {
	for _, tt := range []struct {
		s     string
		bytes int
		want  string
	}{
		{"prod-pg", 7, "prod-pg"},
		{"prod pg", 5, "prod"},
		{strings.Repeat("я", 10), 5, "яя"},
		{"ae" + accent, 3, "a"},
		{"a👨‍👩‍👧‍👦", 20, "a"},
		{"я", 1, ""},
	} {
		if got := plain.Head(tt.s, tt.bytes); got != tt.want {
			t.Errorf("Head(%q, %d) = %q, want %q", tt.s, tt.bytes, got, tt.want)
		}
	}
}

// FuzzPlain checks what every place that shows a text may rely on.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"", "prod-pg", "\x1b[31m", "\x1b]x", "\u009b", "a\x1b\u00e9", "a\u202eb\r\n", "\xff\xfe\x9b", "e\u0301\u0301\u0301\u0301",
		"👩\u200d💻\u200d", "👍🏽\ufe0f", "\U000e0041", "ᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀ", "ｶﾞﾞﾞﾞ", "\u0d4e\u0d4e", " \u0301",
		"क" + strings.Repeat("ः", 9),
	} {
		f.Add(s, 7)
	}
	f.Fuzz(func(t *testing.T, in string, n int) {
		line, text, words := plain.Line(in), plain.Text(in), plain.Words(in)
		for _, c := range []struct {
			name  string
			clean func(string) string
			got   string
		}{{"Line", plain.Line, line}, {"Text", plain.Text, text}, {"Words", plain.Words, words}} {
			safe(t, c.name, in, c.got)
			if again := c.clean(c.got); again != c.got {
				t.Errorf("%s(%q) is not settled: %q, then %q", c.name, in, c.got, again)
			}
		}
		if strings.Contains(line+words, "\n") {
			t.Errorf("Line and Words of %q have lines: %q, %q", in, line, words)
		}
		if got := strings.ReplaceAll(text, "\n", " "); got != line && !strings.ContainsAny(in, "\n") {
			t.Errorf("Text and Line of %q differ: %q, %q", in, got, line)
		}
		if got := strings.Join(strings.Fields(words), " "); got != words {
			t.Errorf("Words(%q) = %q has blanks too many", in, words)
		}
		n &= 0x3f
		for _, s := range []string{line, in} {
			cut := plain.Cut(s, n)
			if plain.Width(cut) > n || len(cut) > n*40 {
				t.Errorf("Cut(%q, %d) = %q has %d columns", s, n, cut, plain.Width(cut))
			}
			if kept, was := strings.CutSuffix(cut, "…"); cut != s && (!strings.HasPrefix(s, kept) || !was && n > 0) {
				t.Errorf("Cut(%q, %d) = %q is not its beginning", s, n, cut)
			}
			if middle := plain.Middle(s, n); plain.Width(middle) > n || !strings.HasPrefix(s, strings.Split(middle, "…")[0]) {
				t.Errorf("Middle(%q, %d) = %q has %d columns", s, n, middle, plain.Width(middle))
			}
			if head := plain.Head(s, n); len(head) > n || !strings.HasPrefix(s, head) {
				t.Errorf("Head(%q, %d) = %q", s, n, head)
			}
		}
		safe(t, "Cut", line, plain.Cut(line, n))
		safe(t, "Middle", line, plain.Middle(line, n))
		safe(t, "Short", in, plain.Short(in, n))
		safe(t, "Head", line, plain.Head(line, n))
	})
}

// safe fails the test unless got may be shown anywhere.
func safe(t *testing.T, what, in, got string) {
	t.Helper()
	if !utf8.ValidString(got) {
		t.Errorf("%s(%q) = %q is no UTF-8", what, in, got)
	}
	marks, before := 3, rune(0) // what may carry no mark has its full number
	for _, r := range got {
		joins := r == '\u200d' && before > '\u00a8' || (r == '\ufe0e' || r == '\ufe0f') && before > '\u00a8'
		switch {
		case r == '\n':
		case plain.Invisible(r) && !joins:
			t.Errorf("%s(%q) = %q has %U", what, in, got, r)
		}
		if unicode.In(r, unicode.Mn, unicode.Me) {
			marks++
		} else if marks = 0; unicode.IsSpace(r) {
			marks = 3
		}
		if marks > 3 {
			t.Errorf("%s(%q) = %q has a mark too many", what, in, got)
		}
		before = r
	}
}

func TestMiddle(t *testing.T) {
	for _, tt := range []struct {
		in      string
		columns int
		want    string
	}{
		{"prod-pg", 7, "prod-pg"}, {"billing-production", 9, "bill…tion"}, {"billing-production", 10, "billi…tion"},
		{"名前名前名前", 7, "名前…前"}, {"ab", 1, "…"}, {"abcd", 3, "ab…"}, {"e\u0301e\u0301e\u0301e\u0301e\u0301", 4, "e\u0301e\u0301…e\u0301"}, {"", 4, ""},
		// the first character is wider than there is room for it
		{"क" + strings.Repeat("ः", 9) + " please approve this", 17, "…ove this"},
		{"क" + strings.Repeat("ः", 9), 5, "…"},
	} {
		if got := plain.Middle(tt.in, tt.columns); got != tt.want || plain.Width(got) > tt.columns {
			t.Errorf("Middle(%q, %d) = %q, want %q", tt.in, tt.columns, got, tt.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", []string{""}}, {"a b", []string{"a b"}}, {"one two three", []string{"one two", "three"}},
		{"verylongword x", []string{"verylongword", "x"}}, {"名前 名前", []string{"名前", "名前"}},
		{"\x1b[31mone\x1b[0m two x", []string{"\x1b[31mone\x1b[0m two", "x"}},
	} {
		if got := plain.Wrap(tt.in, 8); !slices.Equal(got, tt.want) {
			t.Errorf("Wrap(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestIsolated(t *testing.T) {
	for in, want := range map[string]string{
		"prod": "prod", "größe 名前": "größe 名前", "שלום 1": "\u2068שלום 1\u2069", "a مرحبا": "\u2068a مرحبا\u2069",
	} {
		if got := plain.Isolated(in); got != want {
			t.Errorf("Isolated(%q) = %q, want %q", in, got, want)
		}
	}
}
