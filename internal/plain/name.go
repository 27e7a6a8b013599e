package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name makes a tunnel's name of any text, a resource's most often: letters and
// digits, with dots, dashes and underscores between, at most limit of them.
func Name(text string, limit int) string {
	name := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return r
		}
		return '-'
	}, Words(text))
	name = strings.Trim(name, "._-")
	if len(name) > limit {
		name = strings.TrimRight(name[:limit], "._-")
	}
	if name == "" {
		return "tunnel"
	}
	return name
}
