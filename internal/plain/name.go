package plain

import (
	"net/url"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// Name makes a tunnel's name of any text, a resource's most often: letters and
// digits of any script, with dots, dashes and underscores between, at most limit of
// them.
func Name(text string, limit int) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, NFC(Words(text)))
	name = strings.TrimFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) })
	name = strings.TrimLeftFunc(name, unicode.IsMark)
	if runes := []rune(name); len(runes) > limit {
		name = strings.TrimRight(string(runes[:limit]), "._-")
	}
	if name == "" || Turns(name) {
		return "tunnel"
	}
	return name
}

// NFC returns the composed form of s, in which names are kept: keyboards and file
// systems differ in how they write the same letter.
func NFC(s string) string { return norm.NFC.String(s) }

// Turns reports whether s has letters of both directions of writing, so that its
// parts may be seen in another order than they are in.
func Turns(s string) bool {
	var left, right bool
	for _, r := range s {
		p, _ := bidi.LookupRune(r)
		class := p.Class()
		left = left || class == bidi.L
		right = right || class == bidi.R || class == bidi.AL
	}
	return left && right
}

// alike are letters that look like one of a keyboard's: those of other scripts, and of
// phonetic ones.
var alike = strings.NewReplacer(
	"\u0430", "a", "\u0432", "b", "\u0435", "e", "\u0456", "i", "\u0458", "j", "\u043a", "k", "\u043c", "m", "\u043d", "h", "\u043e", "o",
	"\u0440", "p", "\u0441", "c", "\u0442", "t", "\u0443", "y", "\u0445", "x", "\u0455", "s", "\u04bb", "h", "\u0501", "d", "\u051b", "q", "\u051d", "w",
	"\u03b1", "a", "\u03b5", "e", "\u03b9", "i", "\u03ba", "k", "\u03bd", "v", "\u03bf", "o", "\u03c1", "p", "\u03c4", "t", "\u03c5", "u",
	"\u03c7", "x", "\u03b2", "b", "\u03b7", "n", "\u0585", "o", "\u057d", "u", "\u0570", "h", "\u0131", "i",
	"\u0475", "v", "\u04cf", "l", "\u03f3", "j", "\u0251", "a", "\u0261", "g", "\u026a", "i", "\u029f", "l",
)

// SameName is equal for names that a person, or a file system that ignores case,
// takes for the same.
func SameName(name string) string { return alike.Replace(cases.Fold().String(norm.NFKC.String(name))) }

// ASCII returns a name for places that take ASCII only: as it is, or encoded as a
// host name of such letters is.
func ASCII(name string) string {
	encoded, err := idna.Punycode.ToASCII(name)
	if err != nil {
		return url.PathEscape(name)
	}
	return encoded
}

// FromASCII returns the name that ASCII encoded.
func FromASCII(encoded string) string {
	name, err := idna.Punycode.ToUnicode(encoded)
	if err != nil {
		return encoded
	}
	return name
}
