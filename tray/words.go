package tray

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The lengths at which other people's text is cut.
const (
	maxName   = 40
	maxReason = 48
	maxLabel  = 96   // of a whole line
	maxTold   = 1000 // of what a notification says
)

// clean makes other people's text fit for a line: white space of any kind
// becomes one blank, and characters that cannot be seen but do something
// (control codes, marks that turn text around, hidden letters) are dropped.
func clean(s string) string {
	var b strings.Builder
	blank := false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r), unicode.In(r, unicode.Zl, unicode.Zp):
			blank = b.Len() > 0
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co), r == utf8.RuneError:
		default:
			if blank {
				b.WriteByte(' ')
				blank = false
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// cut cleans a text and shortens it to a number of runes. What cannot stand
// alone (accents upon accents) does not count as more than three.
func cut(s string, limit int) string {
	if len(s) > 16*limit {
		s = s[:16*limit] // more of it will not be looked at
	}
	s = clean(s)
	n, marks := 0, 0
	var b strings.Builder
	for _, r := range s {
		if unicode.In(r, unicode.Mn, unicode.Me) {
			if marks++; marks > 3 {
				continue
			}
		} else {
			n, marks = n+1, 0
		}
		if n > limit {
			return strings.TrimRight(clip(b.String(), limit), " ") + "…"
		}
		b.WriteRune(r)
	}
	return b.String()
}

// clip drops the last rune: it gives way to the dots.
func clip(s string, limit int) string {
	if utf8.RuneCountInString(s) < limit {
		return s
	}
	_, size := utf8.DecodeLastRuneInString(s)
	return s[:len(s)-size]
}

// escape writes a label so that the system shows it as it is: each reads one
// character as a mark of the key that chooses the line.
func escape(goos, label string) string {
	switch goos {
	case "windows":
		// A tab would part the label from its shortcut; clean took it away.
		return strings.ReplaceAll(label, "&", "&&")
	case "darwin":
		return label
	default:
		return strings.ReplaceAll(label, "_", "__")
	}
}

// words turns a state's name into words.
func words[T ~string](s T) string { return clean(strings.ReplaceAll(string(s), "_", " ")) }

// hostOf drops the usual port of a proxy's address.
func hostOf(proxy string) string { return strings.TrimSuffix(proxy, ":443") }
