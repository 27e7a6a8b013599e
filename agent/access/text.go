package access

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The most that is kept of what others wrote, in bytes.
const (
	maxReason = 1000
	maxName   = 200
)

// Clean makes text that somebody else wrote fit to be shown on one line: no
// escape sequences, controls, or marks that turn or hide text, no run of
// spaces, and at most limit bytes of it. What is cut off is told by the size
// of the whole: "… (64 KiB)". Markup is left alone: escaping it is for those
// who print it somewhere it would work.
func Clean(s string, limit int) string {
	whole := len(s)
	var b strings.Builder
	space := false // one is due before the next character
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == escape {
			s = s[escapeLen(s):]
			continue
		}
		s = s[size:]
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case hidden(r):
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r) // a broken byte becomes U+FFFD
		if b.Len() > limit {
			return cut(b.String(), limit) + fmt.Sprintf("… (%s)", sizeOf(whole))
		}
	}
	return b.String()
}

const escape = '\x1b'

// escapeLen is the length of the escape sequence that s begins with: a control
// sequence up to its final byte, a string sequence (titles, links) up to its
// end, or the escape and one more.
func escapeLen(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x7e { // not part of one
				return i
			}
		}
		return len(s)
	case ']', 'P', 'X', '^', '_':
		for i := 2; i < len(s); i++ {
			if s[i] == '\a' {
				return i + 1
			}
			if s[i] == escape {
				return min(i+2, len(s)) // ESC \ ends it, and anything else too
			}
			if s[i] == '\n' {
				return i
			}
		}
		return len(s)
	default:
		if s[1] >= utf8.RuneSelf {
			return 1
		}
		return 2
	}
}

// hidden reports whether r has no business in a line of text: controls, marks
// that change its direction or are invisible, private and unassigned ones.
func hidden(r rune) bool {
	switch {
	case r == '\u034f' || r == '\u115f' || r == '\u1160' || r == '\u17b4' || r == '\u17b5' || r == '\u3164' || r == '\uffa0':
		return true // letters and marks by name, and blank all the same
	case r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0000 && r <= 0xe0fff:
		return true // variation selectors and tags
	case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r), unicode.Is(unicode.Cs, r):
		return true
	case r == utf8.RuneError:
		return false
	default:
		return !unicode.IsGraphic(r)
	}
}

// cut shortens s to at most limit bytes without breaking a character.
func cut(s string, limit int) string {
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return strings.TrimRight(s[:limit], " ")
}

func sizeOf(n int) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d KiB", (n+512)/1024)
}

func cleanName(s string) string { return Clean(s, maxName) }

// cleanNames cleans a list; it returns no nil.
func cleanNames(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, cleanName(s))
	}
	return out
}
