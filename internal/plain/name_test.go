package plain_test

import (
	"strings"
	"testing"

	"berth/internal/plain"
)

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"pg-prod": "pg-prod", "R&D main": "R-D-main", "../../etc": "etc", "": "tunnel", "日本": "日本", "größe 1": "größe-1", "gro\u0308\u00dfe": "gr\u00f6\u00dfe", "a\u202eb": "ab", "a שלום": "tunnel", "\u0301x": "x",
		strings.Repeat("a", 99): strings.Repeat("a", 40), strings.Repeat("a", 39) + "-b": strings.Repeat("a", 39),
	} {
		if got := plain.Name(in, 40); got != want {
			t.Errorf("Name(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSameName(t *testing.T) {
	for _, pair := range [][2]string{{"prod", "PROD"}, {"straße", "STRASSE"}, {"pap", "\u0440\u0430\u0440"}, {"ABC", "\uff21\uff22\uff23"}, {"no", "n\u03bf"}, {"local", "\u04c0\u043e\u0441\u0430\u04cf"}, {"pg", "p\u0261"}} {
		if plain.SameName(pair[0]) != plain.SameName(pair[1]) {
			t.Errorf("%q and %q are not the same", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"prod", "prod2"}, {"größe", "grosse"}, {"名前", "名"}} {
		if plain.SameName(pair[0]) == plain.SameName(pair[1]) {
			t.Errorf("%q and %q are the same", pair[0], pair[1])
		}
	}
}

func TestASCII(t *testing.T) {
	for _, name := range []string{"prod-pg", "a.b_c-1", "größe", "заказы.prod", "日本", strings.Repeat("名", 64)} {
		got := plain.ASCII(name)
		if strings.ContainsFunc(got, func(r rune) bool { return r > '~' }) || plain.FromASCII(got) != name {
			t.Errorf("ASCII(%q) = %q, which is %q again", name, got, plain.FromASCII(got))
		}
	}
}
