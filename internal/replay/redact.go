package replay

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"berth/agent/state"
	"berth/internal/plain"
)

const (
	// maskRune is what stands for each character that is masked.
	maskRune = '*'
	// window is how many characters a match may have at most.
	window = 64 << 10
	// mostHeld bounds the bytes that are held where little of it can be seen.
	mostHeld = 4 << 20
	// eventBytes is about what an event takes that says nothing.
	eventBytes = 128
	// maskRounds is how often a text is searched: masks may make a match of what
	// lies between them.
	maskRounds = 4
)

// Redactor masks what a pattern matches, in what was printed and in the words of
// events. It holds back what it has not searched, so that a match may be in
// several events and lines, and have colours in it. It hands on all events in
// their order. Titles, links and other strings for the terminal go: no screen
// shows them, and they can hold anything. So does what terminals disagree about:
// broken sequences, and controls and characters that show nothing.
//
// A guard looks at what is left as a reader will. What can still be read, such as
// a text that only the cursor's movement puts together, is a VisibleError.
type Redactor struct {
	pattern *regexp.Regexp
	next    Writer
	guard   *guard
	held    []state.RecordingEvent
	weight  int     // of what is held, in bytes
	text    []glyph // what can be seen of what is held
	limiter *limiter
	tracker *tracker
	part    []byte // of a character that is not whole
	masked  Masked
}

// Masked is in how many places a Redactor masked something.
type Masked struct {
	Printed int // in what was printed
	Words   int // in the words of events, or of a header
}

// glyph is a character that can be seen, and where it is: in which event that is
// held, and where there. One that has no size is a gap that a movement leaves.
type glyph struct {
	char                rune
	size, event, offset int32
}

// NewRedactor returns a redactor in front of a writer. ^ and $ are the ends of a
// line as well. Close ends it.
func NewRedactor(pattern *regexp.Regexp, next Writer) *Redactor {
	pattern = regexp.MustCompile("(?m)" + pattern.String())
	return &Redactor{pattern: pattern, next: next, guard: newGuard(pattern), limiter: newLimiter(), tracker: newTracker()}
}

// Close ends what Flush does not, whether that was called or not.
func (r *Redactor) Close() { r.guard.close() }

// Masked returns in how many places something was masked so far.
func (r *Redactor) Masked() Masked { return r.masked }

// Feed takes an event.
func (r *Redactor) Feed(ev state.RecordingEvent) error {
	for len(ev.Data) > window {
		part := ev
		part.Data, ev.Data = ev.Data[:window], ev.Data[window:]
		if err := r.feed(part); err != nil {
			return err
		}
	}
	return r.feed(ev)
}

func (r *Redactor) feed(ev state.RecordingEvent) error {
	ev.Text, ev.Fields = r.words(ev.Text, ev.Fields)
	ev.Data = r.see(r.limiter.take(ev))
	r.held = append(r.held, ev)
	r.weight += weightOf(ev)
	switch {
	case len(r.text) == 0 || r.weight > mostHeld:
		return r.release(len(r.text))
	case len(r.text) >= 2*window:
		return r.release(r.cut())
	}
	return nil
}

func weightOf(ev state.RecordingEvent) int {
	return eventBytes + len(ev.Data) + len(ev.Text) + len(ev.Fields)
}

// cut returns up to where a text is released: to the beginning of a line if there
// is one.
func (r *Redactor) cut() int {
	last := len(r.text) - window
	for i := last; i > last/2; i-- {
		if before := r.text[i-1]; before.char == '\n' && before.size > 0 {
			return i
		}
	}
	return last
}

// see notes what can be seen of the next event, and returns a copy of it without
// what is left out.
func (r *Redactor) see(data []byte) []byte {
	kept := make([]byte, 0, len(data))
	for _, b := range data {
		if r.tracker.phase == ground && b != 0x1b {
			r.tracker.advance(b)
			kept = r.char(kept, b)
			continue
		}
		kept = r.broken(kept)
		if r.tracker.advance(b) && wellFormed(r.tracker.seq) {
			kept = append(append(kept, 0x1b), r.tracker.seq...)
			r.gap(string(r.tracker.seq))
		}
	}
	return kept
}

// char takes a byte of text or a control.
func (r *Redactor) char(kept []byte, b byte) []byte {
	if b >= utf8.RuneSelf {
		r.part = append(r.part, b)
		for len(r.part) > 0 && utf8.FullRune(r.part) {
			char, size := utf8.DecodeRune(r.part)
			r.part = r.part[size:]
			kept = r.put(kept, char)
		}
		return kept
	}
	kept = r.broken(kept)
	switch b {
	case '\r', '\b', '\v', '\f':
		r.move(rune(b))
	case '\a', 0x0e, 0x0f:
	default:
		if b < ' ' && b != '\n' && b != '\t' || b == 0x7f {
			return kept // terminals ignore it, or answer
		}
		return r.put(kept, rune(b))
	}
	return append(kept, b)
}

// broken ends a character that is not whole.
func (r *Redactor) broken(kept []byte) []byte {
	if len(r.part) > 0 {
		r.part = r.part[:0]
		kept = r.put(kept, utf8.RuneError)
	}
	return kept
}

// put keeps a character. Of those that show nothing only what joins emoji stays.
func (r *Redactor) put(kept []byte, char rune) []byte {
	seen := char == '\n' || char == '\t' || !plain.Invisible(char)
	if !seen && char != '\u200d' && char != '\ufe0e' && char != '\ufe0f' {
		return kept
	}
	at := len(kept)
	kept = utf8.AppendRune(kept, char)
	if seen {
		r.text = append(r.text, glyph{char, int32(len(kept) - at), int32(len(r.held)), int32(at)})
	}
	return kept
}

// move notes that the cursor moves, which may end a word.
func (r *Redactor) move(char rune) {
	r.text = append(r.text, glyph{char: char, event: int32(len(r.held))})
}

// maxGap bounds the blanks for which a movement to the right counts.
const maxGap = 8

// gap notes what a sequence leaves in a text: nothing if it sets the pen or a mode.
func (r *Redactor) gap(seq string) {
	switch {
	case seq[0] == '[' && strings.IndexByte("mhlqnct", seq[len(seq)-1]) >= 0, seq[0] >= 0x20 && seq[0] < 0x30:
	case seq[0] == '[' && seq[len(seq)-1] == 'C':
		n := 0
		_, _ = fmt.Sscanf(seq[1:], "%d", &n) // none means one
		for range min(max(n, 1), maxGap) {
			r.move(' ')
		}
	default:
		r.move('\v')
	}
}

// wellFormed reports whether every terminal reads a sequence, without its ESC, in
// the same way.
func wellFormed(seq []byte) bool {
	if len(seq) == 0 || len(seq) == maxSequence {
		return false
	}
	body, final := seq[:len(seq)-1], seq[len(seq)-1]
	least := byte(0x30)
	if seq[0] == '[' {
		body, least = bytes.TrimLeft(body[1:], "0123456789:;<=>?"), 0x40
	}
	return len(bytes.Trim(body, " !\"#$%&'()*+,-./")) == 0 && final >= least && final <= 0x7e
}

// mask masks a text, its length in characters kept. What hides in a word or
// breaks it is no way to keep something from it.
func (r *Redactor) mask(text string) string {
	masked := r.maskAll(text)
	for _, read := range []func(string) string{plain.Text, plain.Line} {
		if shows(r.pattern, read(masked)) {
			masked = r.maskAll(read(masked))
		}
	}
	return masked
}

func (r *Redactor) maskAll(text string) string {
	return r.pattern.ReplaceAllStringFunc(text, func(match string) string {
		if isShown(match) {
			r.masked.Words++
		}
		return strings.Repeat(string(maskRune), utf8.RuneCountInString(match))
	})
}

// shows reports whether a pattern matches more of a text than masks and blanks.
func shows(pattern *regexp.Regexp, text string) bool {
	for _, at := range pattern.FindAllStringIndex(text, -1) {
		if isShown(text[at[0]:at[1]]) {
			return true
		}
	}
	return false
}

func isShown(match string) bool {
	return strings.ContainsFunc(match, func(char rune) bool { return char > ' ' && char != maskRune })
}

// release masks what is held and hands on the events that end before a character.
// Those after it stay, and so does the text from there on: a match may go on.
func (r *Redactor) release(upTo int) error {
	n := len(r.held)
	if err := r.blotAll(upTo); err != nil {
		return err
	}
	if upTo < len(r.text) {
		n = int(r.text[upTo].event)
	}
	for _, ev := range r.held[:n] {
		r.weight -= weightOf(ev)
		ev.Data = slices.DeleteFunc(ev.Data, func(b byte) bool { return b == 0 })
		if err := r.guard.feed(ev); err != nil {
			return err
		}
		if err := r.next.Feed(ev); err != nil {
			return err
		}
	}
	r.held = slices.Delete(r.held, 0, n)
	r.text = slices.Delete(r.text, 0, upTo)
	for i := range r.text {
		r.text[i].event -= int32(n)
	}
	return nil
}

// blotAll masks what the pattern matches in the text that is held, read with and
// without the gaps. A match that begins before upTo may not go on after all that
// is held.
func (r *Redactor) blotAll(upTo int) error {
	for range maskRounds {
		found := false
		for _, gaps := range []bool{false, true} {
			text, places := r.read(gaps)
			for _, match := range r.pattern.FindAllStringIndex(text, -1) {
				if !isShown(text[match[0]:match[1]]) {
					continue
				}
				first, last := places[match[0]], places[match[1]-1]
				if first < upTo && upTo < len(r.text) && match[1] == len(text) {
					return fmt.Errorf("at %s the pattern matches more than %d KB of text, which cannot be masked",
						r.held[len(r.held)-1].At.Round(100*time.Millisecond), window>>10)
				}
				for i := first; i <= last; i++ {
					r.blot(&r.text[i])
				}
				found = true
				r.masked.Printed++
			}
		}
		if !found {
			return nil
		}
	}
	return nil // the guard looks at what is left
}

// read returns the text that is held, and for each of its bytes the glyph.
func (r *Redactor) read(gaps bool) (text string, places []int) {
	var b strings.Builder
	b.Grow(len(r.text))
	places = make([]int, 0, len(r.text))
	for i, g := range r.text {
		char := g.char
		switch {
		case g.size > 0:
		case !gaps, char == '\r' && i+1 < len(r.text) && r.text[i+1].char == '\n':
			continue
		case char != ' ':
			char = '\n'
		}
		b.WriteRune(char)
		for len(places) < b.Len() {
			places = append(places, i)
		}
	}
	return b.String(), places
}

// blot masks a character: a star for each column, and the bytes that are left go.
func (r *Redactor) blot(g *glyph) {
	if g.size == 0 || g.char == '\n' || g.char == maskRune {
		return
	}
	width := plain.Width(string(g.char))
	if g.char == '\t' {
		width = 1
	}
	for i := range g.size {
		b := byte(0)
		if int(i) < width {
			b = maskRune
		}
		r.held[g.event].Data[g.offset+i] = b
	}
	g.char = maskRune
}

// Cut says that the recording's end is missing.
func (r *Redactor) Cut() { r.next.Cut() }

// Flush hands on what is held, and ends the writer.
func (r *Redactor) Flush() error {
	if err := r.release(len(r.text)); err != nil {
		return err
	}
	if err := r.guard.end(); err != nil {
		return err
	}
	return r.next.Flush()
}
