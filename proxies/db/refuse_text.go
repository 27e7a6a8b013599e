package db

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest texts sent, in bytes. Beyond a few lines nobody reads, and every
// protocol but MySQL's has room for this much.
const (
	titleMax = 200
	textMax  = 1000
	hintMax  = 500
)

// clean makes the texts harmless for every protocol and terminal: one line of
// valid, printable UTF-8 each, of bounded length. There is always a title.
func (r Refusal) clean() Refusal {
	r.Title = strings.TrimRight(cleanLine(r.Title), ".: ")
	r.Text, r.Hint = cut(cleanLine(r.Text), textMax), cut(cleanLine(r.Hint), hintMax)
	r.Title = cut(cmp.Or(r.Title, "Connection refused"), titleMax)
	return r
}

// cleanLine replaces what is not text, line breaks among it, by spaces, and
// removes what would reorder or hide the rest.
func cleanLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r): // bidirectional overrides, zero-width characters
			return -1
		case !unicode.IsPrint(r):
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Join(strings.Fields(s), " ")
}

// cut shortens s to at most limit bytes, saying so.
func cut(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	n := max(limit-len(more), 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	if n == 0 {
		return ""
	}
	return strings.TrimRight(s[:n], " ") + more
}

// line returns all of r as one line of at most limit bytes, for protocols with
// one place for text. If it is too long the text suffers, then the hint.
func (r Refusal) line(limit int) string {
	if r.Text != "" && !strings.ContainsRune(".!?…", lastRune(r.Text)) {
		r.Text += "."
	}
	whole := r.join()
	if over := len(whole) - limit; over > 0 {
		r.Text = cut(r.Text, max(len(r.Text)-over, 0))
		whole = r.join()
	}
	return cut(whole, limit)
}

func (r Refusal) join() string {
	s := r.Title
	if r.Text != "" {
		s += ": " + r.Text
	}
	if r.Text == "" && r.Hint != "" {
		s += "."
	}
	if r.Hint != "" {
		s += " Hint: " + r.Hint
	}
	return s
}

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(s)
	return r
}

// wholeLine is all of r in one line, where length is no matter.
func (r Refusal) wholeLine() string { return r.line(titleMax + textMax + hintMax) }
