package replay

import (
	"bytes"
	"math"
	"strconv"

	"berth/agent/state"
)

const (
	// maxString bounds a title, picture or the like, which shows no text.
	maxString = 1 << 20
	// maxParam bounds a number that says no place and no count: a mode or a colour.
	maxParam = 9999
	// maxRepeat bounds how often a sequence repeats a character or a tab.
	maxRepeat = 4096
	// counting are the sequences with which a program counts or names a place: no
	// number beyond the screen's size says more than that size.
	counting = "@ABCDEFGHILMPSTXZ`adefr"
)

// limiter is the first to have what a session printed, for every way in which it is
// shown. It passes bytes on so that a terminal neither counts for minutes to what a
// sequence says nor hides the rest of the session in a title that never ends.
//
//   - Numbers of a sequence are cut to what can have an effect. A sequence that
//     repeats a character or tab more often than any program does is left out.
//   - A title or other string ends with its line, though pictures may have lines.
//   - Control characters above ASCII, which some terminals obey and others show, go.
type limiter struct {
	side  int // the longer one of the screen
	phase phase
	held  []byte // of a sequence, from its ESC
	lead  bool   // 0xc2 came, which begins a control character or an ordinary one
	more  lack   // of the character
	count int    // bytes of the string
	intro bool   // what came of the string are parameters, of a picture perhaps
	sixel bool   // it is a picture
	out   []byte
}

func newLimiter() *limiter { return &limiter{side: maxSide} }

// clean reports whether nothing is held back.
func (l *limiter) clean() bool { return l.phase == ground && !l.lead }

// take returns what is passed on of an event. It is valid until the next call.
func (l *limiter) take(ev state.RecordingEvent) []byte {
	if ev.Cols > 0 && ev.Rows > 0 {
		l.side = max(state.ShownSize(ev.Cols, ev.Rows))
	}
	l.out = l.out[:0]
	for _, b := range ev.Data {
		if l.lead {
			l.lead = false
			if b >= 0x80 && b < 0xa0 {
				continue
			}
			l.step(0xc2)
		}
		if b == 0xc2 {
			l.lead = true
		} else {
			l.step(b)
		}
	}
	return l.out
}

func (l *limiter) step(b byte) {
	switch l.phase {
	case ground:
		l.inGround(b)
	case inEscape, inCSI:
		l.inSequence(b)
	case inString:
		l.inString(b)
	case stringEscape:
		l.end()
		if b != '\\' {
			l.phase, l.held = inEscape, append(l.held[:0], 0x1b)
			l.inSequence(b)
		}
	}
}

func (l *limiter) inGround(b byte) {
	switch {
	case b == 0x1b:
		l.phase, l.more, l.held = inEscape, 0, append(l.held[:0], b)
		return
	case b >= 0x80 && b < 0xa0 && l.more == 0: // a control character to some
		l.out = append(l.out, "\ufffd"...)
		return
	}
	l.more.take(b)
	l.out = append(l.out, b)
}

// inSequence holds a sequence until it is whole.
func (l *limiter) inSequence(b byte) {
	switch {
	case b == 0x1b:
		l.phase, l.held = inEscape, append(l.held[:0], b)
	case b == 0x18 || b == 0x1a: // CAN and SUB end it
		l.phase = ground
	case b < ' ': // obeyed at once
		l.out = append(l.out, b)
	case b >= 0x7f: // no part of it
	case l.phase == inEscape && len(l.held) == 1 && b == '[':
		l.phase, l.held = inCSI, append(l.held, b)
	case l.phase == inEscape && len(l.held) == 1 && bytes.IndexByte([]byte("]PX^_"), b) >= 0:
		l.phase, l.count, l.intro, l.sixel = inString, 0, b == 'P', false
		l.out = append(l.out, 0x1b, b)
	default:
		if len(l.held) < maxSequence {
			l.held = append(l.held, b)
		}
		if b >= 0x40 || l.phase == inEscape && b >= 0x30 {
			l.pass(b)
		}
	}
}

// pass passes on the sequence that is held and that b ends.
func (l *limiter) pass(b byte) {
	isCSI := l.phase == inCSI
	l.phase = ground
	if len(l.held) == maxSequence { // longer than any that means something
		return
	}
	if !isCSI {
		l.out = append(l.out, l.held...)
		return
	}
	params := l.held[2 : len(l.held)-1]
	most := maxParam
	switch {
	case bytes.IndexByte([]byte("bIZ"), b) >= 0 && largest(params) > maxRepeat:
		return
	case bytes.IndexByte([]byte(counting), b) >= 0:
		most = l.side
	}
	l.out = append(l.out, "\x1b["...)
	for len(params) > 0 {
		n, value := number(params)
		switch {
		case n == 0:
			l.out, n = append(l.out, params[0]), 1
		case value > most:
			l.out = strconv.AppendInt(l.out, int64(most), 10)
		default:
			l.out = append(l.out, params[:n]...)
		}
		params = params[n:]
	}
	l.out = append(l.out, b)
}

// number reads the number at the beginning of a text, and returns its length.
func number(text []byte) (n, value int) {
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		value = min(value*10+int(text[n]-'0'), math.MaxInt32)
		n++
	}
	return n, value
}

// largest returns the largest number of a sequence.
func largest(params []byte) (most int) {
	for len(params) > 0 {
		n, value := number(params)
		most, params = max(most, value), params[max(n, 1):]
	}
	return most
}

// inString passes on a string up to its end, or to where it must have one.
func (l *limiter) inString(b byte) {
	l.count++
	l.sixel = l.sixel || l.intro && b == 'q'
	l.intro = l.intro && (b == ';' || b >= '0' && b <= '9')
	switch {
	case b == 0x07 || b == 0x18 || b == 0x1a:
		l.out, l.phase = append(l.out, b), ground
	case b == 0x1b:
		l.phase = stringEscape
	case l.count > maxString, b == '\n' && !l.sixel, l.sixel && (b == ' ' || b >= 0x7f): // no picture has these
		l.end()
		l.inGround(b)
	default:
		l.out = append(l.out, b)
	}
}

// end ends a string.
func (l *limiter) end() {
	l.phase = ground
	l.out = append(l.out, 0x1b, '\\')
}
