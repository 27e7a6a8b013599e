// Package plain makes text that others wrote (names, reasons, errors, output of
// programs) safe to show: in a terminal, a menu, a notification, a page, or in
// the answer to a client.
//
// It is the only place in berth that decides what is safe. It removes
//
//   - escape sequences, as a whole and even if they never end: colours, titles,
//     links, cursor movement, device strings, in their form with ESC and in
//     the one of a single C1 control;
//   - all other control characters;
//   - marks that turn the direction of writing or hide in a word, letters and
//     marks that show nothing, tags, characters for private use;
//   - marks above the third that pile up on one letter, and those without a
//     letter, which would land on the character before the text.
//
// Bytes that are no UTF-8 become U+FFFD. Letters of every script stay, and so
// do emoji, joined ones too. Markup stays as well: whoever writes to a place
// that understands markup escapes it there.
//
// Cleaning a clean text changes nothing.
//
// Widths are those of a terminal. They are counted, and texts are cut, by
// grapheme clusters, which github.com/rivo/uniseg finds: it is one package
// without dependencies and adds 150 kB, where github.com/charmbracelet/x/ansi
// would bring four more modules. Removing escape sequences, which only the
// latter does, takes one short function here, stricter towards those that never
// end.
package plain

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

const (
	// maxMarks is how many marks one letter may carry. Living scripts need no
	// more; a tower of them reaches into the lines above.
	maxMarks = 3
	// maxJoins is how many joiners one emoji may have: a family of four has three.
	maxJoins = 3
	// maxCluster is how many runes count as one character when a width is
	// counted. The longest emoji has ten.
	maxCluster = 10
)

const (
	escape      = '\x1b'
	joiner      = '\u200d' // makes one emoji of two
	textStyle   = '\ufe0e' // asks for an emoji's form as text
	emojiStyle  = '\ufe0f' // asks for its form as a picture
	lightTone   = '\U0001f3fb'
	darkTone    = '\U0001f3ff'
	blankSymbol = '\u2800' // braille without a dot
	more        = "…"
)

// Line returns s on one line: a break or a tab is a blank. Other blanks stay as
// they are, so that a path or a command can be copied from it.
func Line(s string) string { return clean(s, false) }

// Words returns the words of s on one line, with one blank between them.
func Words(s string) string {
	return strings.Join(strings.FieldsFunc(clean(s, false), blank), " ")
}

// Text returns s with its lines, which end in "\n".
func Text(s string) string { return clean(s, true) }

// Invisible reports whether r does something to a text without being seen. White
// space of one line is not meant, line breaks and tabs are.
func Invisible(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == '\x7f'
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point)
}

// blank reports whether r shows nothing but a gap.
func blank(r rune) bool { return unicode.IsSpace(r) || r == blankSymbol }

// clean returns s without what the package removes. With lines, line breaks
// stay.
func clean(s string, lines bool) string {
	if isASCII(s) {
		return s
	}
	c := cleaner{lines: lines}
	c.out.Grow(len(s))
	broken := false // the byte before was no UTF-8
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			if !broken {
				c.letter(utf8.RuneError)
			}
			broken = true
		} else {
			broken = false
			if n := sequence(s); n > 0 {
				size = n
			} else {
				c.add(r)
			}
		}
		s = s[size:]
	}
	return c.out.String()
}

// isASCII reports whether s has nothing but printable ASCII.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// cleaner writes a clean text rune by rune. What it does with a rune depends on
// what it has written alone, so that a clean text passes unchanged.
type cleaner struct {
	out   strings.Builder
	lines bool

	base    rune // that marks now land on; zero at the start of a line
	marks   int  // on base
	emoji   bool // base is one
	joins   int  // in the emoji so far
	pending bool // a joiner, which stays if an emoji follows
}

func (c *cleaner) add(r rune) {
	switch {
	case r == '\n' && c.lines:
		c.out.WriteByte('\n')
		c.base, c.emoji, c.pending = 0, false, false
	case r == '\t', r == '\n', r == '\v', r == '\f', r == '\r', r == '\u0085', r == '\u2028', r == '\u2029':
		c.letter(' ')
	case r == joiner:
		c.pending = c.emoji && c.joins < maxJoins
	case (r == textStyle || r == emojiStyle) && c.emoji && !c.pending:
		c.mark(r)
	case Invisible(r):
	case unicode.In(r, unicode.Mn, unicode.Me), lightTone <= r && r <= darkTone:
		c.mark(r)
	default:
		c.letter(r)
	}
}

// letter writes what can stand alone.
func (c *cleaner) letter(r rune) {
	emoji := isEmoji(r)
	if c.pending && emoji {
		c.out.WriteRune(joiner)
		c.joins++
	} else {
		c.joins = 0
	}
	c.out.WriteRune(r)
	c.base, c.marks, c.emoji, c.pending = r, 0, emoji, false
}

// mark writes what belongs to the letter before it.
func (c *cleaner) mark(r rune) {
	c.pending = false
	if c.base == 0 || blank(c.base) || c.marks == maxMarks {
		return
	}
	c.marks++
	c.out.WriteRune(r)
}

// isEmoji reports whether r has an emoji form as well as a text form. The
// library has no call for that, but its widths differ.
func isEmoji(r rune) bool {
	if r < '\u00a9' || unicode.IsLetter(r) {
		return false
	}
	return uniseg.StringWidth(string([]rune{r, textStyle})) == 1 && uniseg.StringWidth(string([]rune{r, emojiStyle})) == 2
}

// sequence returns the length of the escape sequence or C1 control that s begins
// with, and zero where it begins with neither. A sequence ends where it is
// broken off: at the first character that cannot belong to it, a string at the
// end of its line.
func sequence(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	var kind byte
	switch {
	case r == '\u0085': // a line break
		return 0
	case 0x80 <= r && r <= 0x9f:
		kind = byte(r) - 0x40
	case r != escape:
		return 0
	case len(s) == 1 || s[1] < ' ' || s[1] > '~':
		return 1
	default:
		kind, n = s[1], 2
	}
	within := func(least, most byte) bool { return n < len(s) && least <= s[n] && s[n] <= most }
	switch kind {
	case '[': // parameters, then one letter
		for within(' ', '?') {
			n++
		}
		if within('@', '~') {
			n++
		}
	case ']', 'P', 'X', '^', '_': // a string; the sequence that ends it is one of its own
		for n < len(s) && !strings.ContainsRune("\a\n\r\x18\x1a\x1b", rune(s[n])) && !strings.HasPrefix(s[n:], "\u009c") {
			n++
		}
		if within('\a', '\a') {
			n++
		}
	default: // a few characters of punctuation, then one more
		if kind <= '/' {
			for within(' ', '/') {
				n++
			}
			if within('0', '~') {
				n++
			}
		}
	}
	return n
}
