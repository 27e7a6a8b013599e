package replay

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"berth/agent/state"
	"berth/internal/plain"
)

// cleaner leaves of what a session printed what a screen shows: characters, colours
// and movements. An emulator keeps the rest to itself, but a terminal obeys it:
// titles, links, the clipboard, questions that it answers, modes of its keyboard and
// mouse, and characters that show nothing or turn others round.
type cleaner struct {
	limiter *limiter
	tracker *tracker
	part    []byte // of a character that is not whole
}

func newCleaner() *cleaner { return &cleaner{limiter: newLimiter(), tracker: newTracker()} }

// take returns what is left of the next event, as whole characters.
func (c *cleaner) take(ev state.RecordingEvent) string {
	var kept strings.Builder
	for _, b := range c.limiter.take(ev) {
		switch {
		case c.tracker.phase != ground || b == 0x1b:
			kept.WriteString(c.end())
			if c.tracker.advance(b) {
				kept.WriteString(harmless(c.tracker.seq))
			}
		case b >= utf8.RuneSelf:
			c.tracker.advance(b)
			c.part = append(c.part, b)
			for len(c.part) > 0 && utf8.FullRune(c.part) {
				char, size := utf8.DecodeRune(c.part)
				c.part = c.part[size:]
				if !plain.Invisible(char) || char == '\u200d' || char == '\ufe0e' || char == '\ufe0f' { // these join emoji
					kept.WriteRune(char)
				}
			}
		default:
			c.tracker.advance(b)
			kept.WriteString(c.end())
			if b >= ' ' && b != 0x7f || strings.IndexByte("\b\t\n\v\f\r\x0e\x0f", b) >= 0 {
				kept.WriteByte(b)
			}
		}
	}
	return kept.String()
}

// end returns what stands for a character that is not whole.
func (c *cleaner) end() string {
	if len(c.part) == 0 {
		return ""
	}
	c.part = c.part[:0]
	return string(utf8.RuneError)
}

// shownModes are the modes that change what a screen shows.
var shownModes = []string{"4", "20", "?3", "?5", "?6", "?7", "?25", "?47", "?1047", "?1048", "?1049", "?69"}

// harmless returns a sequence, given without its ESC, of which what only a terminal
// would obey is left out; empty where nothing is left.
func harmless(seq []byte) string {
	if !wellFormed(seq) {
		return ""
	}
	final := seq[len(seq)-1]
	if seq[0] != '[' {
		if len(seq) == 1 && bytes.IndexByte([]byte("78DEHMNOc"), final) < 0 || seq[0] == ' ' {
			return "" // another one is for the keyboard, or a question
		}
		return "\x1b" + string(seq)
	}
	body := string(seq[1 : len(seq)-1])
	params := strings.TrimRight(body, " !\"#$%&'()*+,-./")
	between := body[len(params):]
	private := strings.HasPrefix(params, "?")
	switch {
	case between != "": // a soft reset, the cursor's shape, and those that scroll sideways
		if !slices.Contains([]string{"!p", " q", " @", " A"}, between+string(final)) {
			return ""
		}
	case final == 'h' || final == 'l':
		return shownOnly(params, final)
	case strings.IndexByte("cinqtxy", final) >= 0, private && final != 'J' && final != 'K':
		return ""
	}
	if strings.ContainsAny(params, "<=>") {
		return ""
	}
	return "\x1b" + string(seq)
}

// shownOnly sets or resets those of some modes that a screen shows.
func shownOnly(params string, final byte) string {
	prefix := ""
	if rest, ok := strings.CutPrefix(params, "?"); ok {
		prefix, params = "?", rest
	}
	modes := slices.DeleteFunc(strings.Split(params, ";"), func(mode string) bool {
		return !slices.Contains(shownModes, prefix+mode)
	})
	if len(modes) == 0 {
		return ""
	}
	return "\x1b[" + prefix + strings.Join(modes, ";") + string(final)
}
