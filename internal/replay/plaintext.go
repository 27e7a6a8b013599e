package replay

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"berth/agent/state"
	"berth/internal/plain"
)

// maxLine bounds a line that is still being written; a longer one is broken.
const maxLine = 64 << 10

// PlainText writes what a session printed as plain text: lines without colours,
// as they were when they were left. What programs draw by moving the cursor
// comes out as text as well, without its place.
type PlainText struct {
	out     *bufio.Writer
	limiter *limiter
	tracker *tracker
	line    []rune
	column  int
	rest    []byte // of a character
	cut     bool
	err     error
}

// NewPlainText returns a writer to w. Flush ends it.
func NewPlainText(w io.Writer) *PlainText {
	p := &PlainText{out: bufio.NewWriter(w), limiter: newLimiter(), tracker: newTracker()}
	p.tracker.before = p.sequence
	return p
}

// Feed takes an event.
func (p *PlainText) Feed(ev state.RecordingEvent) error {
	for _, b := range p.limiter.take(ev) {
		if p.tracker.phase != ground || b == 0x1b {
			p.tracker.advance(b)
			continue
		}
		p.tracker.advance(b)
		p.take(b)
	}
	return p.err
}

// take takes a byte that is in no sequence.
func (p *PlainText) take(b byte) {
	if b >= utf8.RuneSelf {
		p.rest = append(p.rest, b)
		if !utf8.FullRune(p.rest) {
			return
		}
		r, _ := utf8.DecodeRune(p.rest)
		p.rest = p.rest[:0]
		p.put(r)
		return
	}
	if len(p.rest) > 0 { // a character that was not finished
		p.rest = p.rest[:0]
		p.put(utf8.RuneError)
	}
	switch b {
	case '\n':
		p.newline()
	case '\r':
		p.column = 0
	case '\b':
		p.column = max(0, p.column-1)
	default:
		if b >= ' ' || b == '\t' {
			p.put(rune(b))
		}
	}
}

func (p *PlainText) put(r rune) {
	if p.column < len(p.line) {
		p.line[p.column] = r
	} else {
		p.line = append(p.line, r)
	}
	p.column++
	if len(p.line) >= maxLine {
		p.newline()
	}
}

// sequence obeys what moves within a line; what moves elsewhere ends it.
func (p *PlainText) sequence(seq string) {
	if seq[0] != '[' {
		return
	}
	params := seq[1 : len(seq)-1]
	n := 0
	for _, r := range params {
		if r < '0' || r > '9' || n > maxLine {
			break
		}
		n = n*10 + int(r-'0')
	}
	switch seq[len(seq)-1] {
	case 'K':
		if params == "" || params == "0" {
			p.line = p.line[:min(p.column, len(p.line))]
		}
	case 'C':
		for range min(max(n, 1), maxSide) {
			if p.column >= len(p.line) {
				p.put(' ')
			} else {
				p.column++
			}
		}
	case 'D':
		p.column = max(0, p.column-max(n, 1))
	case 'P':
		from := min(p.column, len(p.line))
		p.line = append(p.line[:from], p.line[min(len(p.line), from+max(n, 1)):]...)
	case '@':
		from := min(p.column, len(p.line))
		n = min(max(n, 1), maxSide, maxLine-len(p.line))
		p.line = slices.Insert(p.line, from, []rune(strings.Repeat(" ", n))...)
	case 'A', 'B', 'E', 'F', 'H', 'f', 'd', 'J':
		if len(p.line) > 0 {
			p.newline()
		}
	}
}

func (p *PlainText) newline() {
	if p.err == nil {
		_, p.err = p.out.WriteString(strings.TrimRight(plain.Line(string(p.line)), " ") + "\n")
	}
	p.line, p.column = p.line[:0], 0
}

// Cut has the last line say that the recording's end is missing.
func (p *PlainText) Cut() { p.cut = true }

// Drain writes the lines that are whole, before more is waited for. What fails is
// an error of what follows.
func (p *PlainText) Drain() { _ = p.out.Flush() }

// Flush writes what is left.
func (p *PlainText) Flush() error {
	if len(p.line) > 0 {
		p.newline()
	}
	if p.cut && p.err == nil {
		_, p.err = p.out.WriteString("[" + cutText + "]\n")
	}
	if p.err != nil {
		return p.err
	}
	return p.out.Flush()
}
