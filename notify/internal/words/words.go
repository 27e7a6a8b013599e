// Package words makes text that others have written fit to be drawn by a
// desktop: short, without control characters, and text wherever markup, XML or
// a script would be understood.
package words

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxRaw is how many bytes of a text are looked at: what is longer is cut
// before anything costly is done with it.
const maxRaw = 4 << 10

// terminalCodes are escape sequences: CSI, OSC up to its end, and two-byte ones.
var terminalCodes = regexp.MustCompile(
	"(?:\x1b\\[|\u009b)[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b[ -/]*[0-~]")

// scrub removes what is not text: escape codes, control characters other than
// newlines, and the invisible characters that turn the direction of writing or
// hide inside words.
func scrub(s string) string {
	if len(s) > maxRaw {
		s = s[:maxRaw]
	}
	s = terminalCodes.ReplaceAllString(strings.ToValidUTF8(s, ""), "")
	marks := 0 // in a row
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			if marks++; marks > 3 { // towers of accents reach into other lines
				return -1
			}
			return r
		}
		marks = 0
		switch {
		case r == '\n':
			return r
		case r == '\t', r == '\r', unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), unicode.Is(unicode.Zs, r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), r == utf8.RuneError:
			return -1
		}
		return r
	}, s)
}

// Line returns s as a line of at most limit characters.
func Line(s string, limit int) string {
	return Cut(strings.Join(strings.Fields(scrub(s)), " "), limit)
}

// Lines returns s as at most count lines of at most limit characters together.
func Lines(s string, limit, count int) string {
	var kept []string
	for line := range strings.SplitSeq(scrub(s), "\n") {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" {
			continue
		}
		if len(kept) == count {
			kept[count-1] += " …"
			break
		}
		kept = append(kept, line)
	}
	return Cut(strings.Join(kept, "\n"), limit)
}

// Cut shortens s to limit characters, the last of which then is an ellipsis.
func Cut(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	runes := []rune(s)
	return strings.TrimRight(string(runes[:limit-1]), " \n") + "…"
}

// Slug returns the letters, digits and dashes of s in lower case.
func Slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		case r == '_':
			return '-'
		}
		return -1
	}, s)
	return s[:min(len(s), 32)]
}

// tags are what a server that knows no markup might still take for some.
var tags = regexp.MustCompile(`</?[a-zA-Z][^<>]*>`)

// WithoutTags removes what looks like markup.
func WithoutTags(s string) string { return tags.ReplaceAllString(s, "") }

var markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")

// Escape returns s for places that read markup.
func Escape(s string) string { return markup.Replace(s) }

// Harmless returns what is left of s when everything is taken away that means
// something to a shell, a script, a template or a command line: letters,
// digits and quiet punctuation.
func Harmless(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.Is(unicode.Mn, r), strings.ContainsRune(" \n.,:;-_/()!?+@", r):
			return r
		case r == '…':
			return r
		}
		return ' '
	}, s)
	var kept []string
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimLeft(strings.Join(strings.Fields(line), " "), "-@ "); line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// LastLine returns the last line of s that says something, cut to limit
// characters.
func LastLine(s string, limit int) string {
	s = strings.TrimSpace(s)
	return Line(s[strings.LastIndexByte(s, '\n')+1:], limit)
}
