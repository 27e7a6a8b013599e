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
	// maxHeld bounds the bytes that are held for a line that goes on; then all but
	// the end of it, tailHeld, is handed on.
	maxHeld  = 256 << 10
	tailHeld = 64 << 10
	// mostHeld bounds them where little of it can be seen: then the line is cut.
	mostHeld = 4 << 20
	// eventBytes is about what an event takes that says nothing.
	eventBytes = 128
)

// Redactor masks what a pattern matches, in what was printed and in the words of
// events. It holds back a line until it is complete, so that a match may be in
// several events and have colours in it. It hands on all events in their order.
// Titles, links and other strings for the terminal go: no screen shows them, and
// they can hold anything.
//
// It also watches the screen: what a program printed in pieces that only the
// cursor's movement puts together is found there, and is an error.
type Redactor struct {
	pattern *regexp.Regexp
	next    Writer
	held    []state.RecordingEvent
	weight  int     // of what is held, in bytes
	seen    []byte  // the visible bytes of the line that goes on, unmasked
	places  []place // of each
	tracker *tracker
	screen  *Screen
	looked  time.Duration
	shown   time.Duration // when the screen was fed
	fresh   int           // bytes that were printed since the last look
}

// place is where a visible byte is: in which event that is held, and where there.
type place struct{ event, at int }

// NewRedactor returns a redactor in front of a writer.
func NewRedactor(pattern *regexp.Regexp, next Writer) *Redactor {
	return &Redactor{pattern: pattern, next: next, tracker: newTracker(), screen: NewScreen()}
}

// VisibleError says that the pattern can still be seen.
type VisibleError struct{ At time.Duration }

func (e *VisibleError) Error() string {
	return fmt.Sprintf("at %s the screen shows what the pattern matches, written in pieces that cannot be masked", e.At.Round(100*time.Millisecond))
}

// Feed takes an event.
func (r *Redactor) Feed(ev state.RecordingEvent) error {
	ev.Text, ev.Fields = r.words(ev.Text, ev.Fields)
	before := len(r.seen)
	ev.Data = r.see(ev.Data)
	r.held = append(r.held, ev)
	r.weight += weightOf(ev)
	line := bytes.LastIndexByte(r.seen[before:], '\n')
	switch {
	case line >= 0:
		return r.release(before + line + 1)
	case len(r.seen) == 0 || r.weight > mostHeld:
		return r.release(len(r.seen))
	case r.weight > maxHeld && len(r.seen) >= 2*tailHeld:
		return r.release(len(r.seen) - tailHeld)
	}
	return nil
}

func weightOf(ev state.RecordingEvent) int {
	return eventBytes + len(ev.Data) + len(ev.Text) + len(ev.Fields)
}

// see notes which bytes of the next event can be seen, and returns a copy of it
// without what strings for the terminal hold.
func (r *Redactor) see(data []byte) []byte {
	kept := make([]byte, 0, len(data))
	for _, b := range data {
		was := r.tracker.phase
		r.tracker.advance(b)
		switch now := r.tracker.phase; {
		case was == inString && (now == inString || b == 0x07):
			continue
		case was != inString && now == inString: // begins: it becomes one that ends, which means nothing
			b = '\\'
		}
		if was == ground && (b >= ' ' && b != 0x7f || b == '\n' || b == '\t') {
			r.seen = append(r.seen, b)
			r.places = append(r.places, place{len(r.held), len(kept)})
		}
		kept = append(kept, b)
	}
	return kept
}

// mask masks a text, its length in characters kept.
func (r *Redactor) mask(text string) string {
	return r.pattern.ReplaceAllStringFunc(text, func(match string) string {
		return strings.Repeat(string(maskRune), utf8.RuneCountInString(match))
	})
}

// shows reports whether the pattern matches more of a text than masks and blanks.
func (r *Redactor) shows(text string) bool {
	for _, at := range r.pattern.FindAllStringIndex(text, -1) {
		if strings.Trim(text[at[0]:at[1]], string(maskRune)+" \n") != "" {
			return true
		}
	}
	return false
}

// release masks what is held and hands on the events that end before a visible
// byte. Those after it stay, and so do the bytes from there on, unmasked: a match
// may go on.
func (r *Redactor) release(upTo int) error {
	n := len(r.held)
	goesOn := upTo > 0 && upTo < len(r.seen) && r.seen[upTo-1] != '\n'
	for _, match := range r.pattern.FindAllIndex(r.seen, -1) {
		if goesOn && match[0] < upTo && match[1] == len(r.seen) {
			return fmt.Errorf("at %s the pattern matches more than %d KB of one line, which cannot be masked",
				r.held[n-1].At.Round(100*time.Millisecond), tailHeld>>10)
		}
		r.blot(match[0], match[1])
	}
	if upTo < len(r.seen) {
		n = r.places[upTo].event
	}
	for _, ev := range r.held[:n] {
		r.weight -= weightOf(ev)
		if err := r.hand(ev); err != nil {
			return err
		}
	}
	r.held = slices.Delete(r.held, 0, n)
	r.seen = slices.Delete(r.seen, 0, upTo)
	r.places = slices.Delete(r.places, 0, upTo)
	for i := range r.places {
		r.places[i].event -= n
	}
	return nil
}

// blot masks the visible bytes of a match: a star for each column, and the bytes
// that are left become nothing.
func (r *Redactor) blot(from, to int) {
	for from < to {
		char, size := utf8.DecodeRune(r.seen[from:to])
		if char == '\n' {
			from += size
			continue
		}
		width := min(max(1, plain.Width(string(char))), size)
		for i := range size {
			p := r.places[from+i]
			b := byte(0) // terminals ignore it
			if i < width {
				b = maskRune
			}
			r.held[p.event].Data[p.at] = b
		}
		from += size
	}
}

// hand hands an event on, once the screen was looked at as it was before it.
func (r *Redactor) hand(ev state.RecordingEvent) error {
	if r.fresh > 0 && (ev.At-r.looked >= lookEvery || r.fresh >= lookBytes) {
		if err := r.look(); err != nil {
			return err
		}
		r.looked = ev.At
	}
	r.screen.Feed(ev)
	r.shown, r.fresh = ev.At, r.fresh+len(ev.Data)
	return r.next.Feed(ev)
}

// look looks for the pattern on the screen.
func (r *Redactor) look() error {
	r.fresh = 0
	if r.shows(strings.Join(r.screen.Text(), "\n")) {
		return &VisibleError{At: r.shown}
	}
	return nil
}

// Flush hands on what is held, and ends the writer.
func (r *Redactor) Flush() error {
	defer r.screen.Close()
	if err := r.release(len(r.seen)); err != nil {
		return err
	}
	if err := r.look(); err != nil {
		return err
	}
	return r.next.Flush()
}
