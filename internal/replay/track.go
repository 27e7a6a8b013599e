package replay

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// tracker follows what an emulator keeps and does not show: the pen, modes, the
// scroll region, character sets. With the cells these make a terminal's state,
// so that one can begin in the middle of a recording. It also says when a
// terminal is between two sequences, which is the only place to begin.
type tracker struct {
	phase   phase
	seq     []byte // of the sequence that is being read, without its ESC
	more    lack   // of the character
	pen     []string
	mainPen []string        // the main screen's, while the other one is shown
	modes   map[string]bool // those that are set or reset, by prefix and number, as in ?25
	other   int             // 1 while the other screen is shown, not the main one
	region  [2]string       // parameters of each screen's scroll region; empty means all of it
	sets    map[byte]byte   // G0 to G3, by their intermediate
	shift   byte            // SO or SI
	saved   [2]*saved       // the cursors that were saved, of the main screen and the other

	// before is called with a sequence that is about to be obeyed.
	before func(sequence string)
}

// saved is a cursor that a program saved.
type saved struct {
	x, y   int
	hidden bool
	pen    []string
}

type phase int

const (
	ground phase = iota
	inEscape
	inCSI
	inString // until ST or BEL
	stringEscape
)

const (
	// maxSequence bounds what is kept of a sequence; a longer one sets nothing here.
	maxSequence = 256
	// maxPen bounds the sequences since the pen was last reset.
	maxPen = 64
)

func newTracker() *tracker { return &tracker{modes: make(map[string]bool), sets: make(map[byte]byte)} }

// clean reports whether the terminal is between two characters and sequences.
func (t *tracker) clean() bool { return t.phase == ground && t.more == 0 }

// next takes bytes up to the end of a sequence, and returns how many.
func (t *tracker) next(data []byte) int {
	for i, b := range data {
		if t.advance(b) {
			return i + 1
		}
	}
	return len(data)
}

// advance takes a byte and reports whether it ended a sequence.
func (t *tracker) advance(b byte) bool {
	if t.phase == ground {
		t.inGround(b)
		return false
	}
	if b == 0x18 || b == 0x1a { // CAN, SUB
		t.phase = ground
		return false
	}
	switch t.phase {
	case ground: // above
	case inEscape:
		t.inEscape(b)
	case inCSI:
		t.keep(b)
		if b == 0x1b {
			t.phase, t.seq = inEscape, t.seq[:0]
		} else if b >= 0x40 && b <= 0x7e {
			t.phase = ground
		}
	case inString:
		switch b {
		case 0x07:
			t.phase, t.seq = ground, t.seq[:0]
		case 0x1b:
			t.phase = stringEscape
		}
	case stringEscape:
		t.phase = ground
		if t.seq = t.seq[:0]; b != '\\' {
			t.phase = inEscape
			t.inEscape(b)
		}
	}
	if t.phase == ground {
		if len(t.seq) > 0 {
			t.obey(string(t.seq))
		}
		return true
	}
	return false
}

func (t *tracker) inGround(b byte) {
	switch b {
	case 0x1b:
		t.phase, t.seq, t.more = inEscape, t.seq[:0], 0
	case 0x0e, 0x0f:
		t.shift, t.more = b, 0
	default:
		t.more.take(b)
	}
}

// lack is how many bytes of UTF-8 the character that has begun still needs.
type lack int

func (n *lack) take(b byte) {
	switch {
	case b >= 0xf0 && b < 0xf8:
		*n = 3
	case b >= 0xe0 && b < 0xf0:
		*n = 2
	case b >= 0xc0 && b < 0xe0:
		*n = 1
	case b >= 0x80 && b < 0xc0 && *n > 0:
		*n--
	default:
		*n = 0
	}
}

func (t *tracker) inEscape(b byte) {
	switch {
	case b == '[':
		t.phase = inCSI
		t.keep(b)
	case b == ']' || b == 'P' || b == 'X' || b == '^' || b == '_':
		t.phase, t.seq = inString, t.seq[:0]
	case b == 0x1b:
		t.seq = t.seq[:0]
	case b >= 0x20 && b < 0x30: // an intermediate
		t.keep(b)
	default:
		t.keep(b)
		t.phase = ground
	}
}

// keep adds a byte to the sequence, unless that is too long to mean anything.
func (t *tracker) keep(b byte) {
	if len(t.seq) < maxSequence {
		t.seq = append(t.seq, b)
	}
}

// obey notes what a sequence, given without its ESC, does.
func (t *tracker) obey(seq string) {
	if t.before != nil {
		t.before(seq)
	}
	final := seq[len(seq)-1]
	if seq[0] != '[' {
		switch {
		case seq == "c": // a reset of everything
			before := t.before
			*t = *newTracker()
			t.before = before
		case seq == "8": // back to the cursor that was saved, and its pen
			t.pen = nil
			if saved := t.saved[t.other]; saved != nil {
				t.pen = slices.Clone(saved.pen)
			}
		case len(seq) == 2 && strings.IndexByte("()*+", seq[0]) >= 0:
			t.sets[seq[0]] = final
		}
		return
	}
	params := seq[1 : len(seq)-1]
	switch {
	case final == 'm' && !strings.ContainsAny(params, "<=>?!\"#$%&' "):
		t.draw(params)
	case (final == 'h' || final == 'l') && strings.Trim(params, "0123456789;?") == "":
		prefix := ""
		if rest, ok := strings.CutPrefix(params, "?"); ok {
			prefix, params = "?", rest
		}
		for mode := range strings.SplitSeq(params, ";") {
			if _, err := strconv.ParseUint(mode, 10, 16); err == nil && len(t.modes) < maxSequence {
				t.set(prefix+mode, final == 'h')
			}
		}
	case final == 'r' && strings.Trim(params, "0123456789;") == "":
		t.region[t.other] = params
	}
}

// set notes a mode.
func (t *tracker) set(mode string, on bool) {
	t.modes[mode] = on
	if mode == "?47" || mode == "?1047" || mode == "?1049" {
		switch {
		case on && t.other == 0:
			t.other, t.mainPen = 1, slices.Clone(t.pen)
		case !on && t.other == 1:
			t.other, t.pen = 0, t.mainPen
		}
	}
}

// draw notes a change of the pen.
func (t *tracker) draw(params string) {
	if params == "" || params == "0" {
		t.pen = nil
		return
	}
	if strings.HasPrefix(params, "0;") || strings.HasPrefix(params, ";") {
		t.pen = nil
	}
	if len(t.pen) == maxPen {
		t.pen = slices.Delete(t.pen, 0, 1)
	}
	t.pen = append(t.pen, params)
}

// sequence saves the cursor again.
func (s *saved) sequence() string {
	if s == nil {
		return ""
	}
	shown := "h"
	if s.hidden {
		shown = "l"
	}
	return fmt.Sprintf("\x1b[?25%s\x1b[%d;%dH%s\x1b7\x1b[?25h\x1b[0m", shown, s.y+1, s.x+1, penSequence(s.pen))
}

// scrolls sets the scroll region again.
func (t *tracker) scrolls() string {
	if region := t.region[t.other]; region != "" {
		return "\x1b[" + region + "r"
	}
	return ""
}

// penSequence sets a pen.
func penSequence(pen []string) string {
	var b bytes.Buffer
	b.WriteString("\x1b[0m")
	for _, params := range pen {
		b.WriteString("\x1b[" + params + "m")
	}
	return b.String()
}
