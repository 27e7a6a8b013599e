// Package words makes text that others have written, once package plain has
// cleaned it, fit to be drawn by a desktop: a few lines, and text wherever
// markup, XML or a script would be understood.
package words

import (
	"regexp"
	"strings"
	"unicode"

	"berth/internal/plain"
)

// Lines returns s as at most count lines of at most limit columns together.
func Lines(s string, limit, count int) string {
	var kept []string
	for line := range strings.SplitSeq(plain.Text(s), "\n") {
		if line = plain.Words(line); line == "" {
			continue
		}
		if len(kept) == count {
			kept[count-1] += " …"
			break
		}
		kept = append(kept, line)
	}
	return plain.Cut(strings.Join(kept, "\n"), limit)
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

// tags match text that a server without markup support might still take for it.
var tags = regexp.MustCompile(`</?[a-zA-Z][^<>]*>`)

// WithoutTags removes what looks like markup, also what does so only once a tag inside
// it has gone.
func WithoutTags(s string) string {
	for tags.MatchString(s) {
		s = tags.ReplaceAllString(s, "")
	}
	return s
}

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
// columns.
func LastLine(s string, limit int) string {
	s = strings.TrimSpace(s)
	return plain.Short(s[strings.LastIndexByte(s, '\n')+1:], limit)
}
