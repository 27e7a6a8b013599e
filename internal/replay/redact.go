package replay

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"berth/agent/state"
	"berth/internal/plain"
)

const (
	// maskRune is what stands for each character that is masked.
	maskRune = '*'
	// maxHeld bounds the bytes of a line that is held until it is complete.
	maxHeld = 256 << 10
)

// Redactor masks what a pattern matches, in what was printed and in the words of
// events. It holds back a line until it is complete, so that a match may be in
// several events and have colours in it. It hands on all events in their order.
//
// It also watches the screen: what a program printed in pieces that only the
// cursor's movement puts together is found there, and is an error.
type Redactor struct {
	pattern *regexp.Regexp
	next    Writer
	held    []state.RecordingEvent
	bytes   int
	tracker *tracker
	screen  *Screen
	looked  time.Duration
}

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
	ev.Text = r.mask(ev.Text)
	ev.Fields = r.mask(ev.Fields)
	ev.Data = append([]byte(nil), ev.Data...)
	r.held = append(r.held, ev)
	r.bytes += len(ev.Data)
	if ends := strings.ContainsAny(string(ev.Data), "\n"); ends || r.bytes > maxHeld || len(ev.Data) == 0 && r.bytes == 0 {
		return r.release()
	}
	return nil
}

// mask masks a text, its length in characters kept.
func (r *Redactor) mask(text string) string {
	if text == "" {
		return text
	}
	return r.pattern.ReplaceAllStringFunc(text, func(match string) string {
		return strings.Repeat(string(maskRune), utf8.RuneCountInString(match))
	})
}

// place is where a visible byte is.
type place struct{ event, at int }

// release masks what is held and hands it on.
func (r *Redactor) release() error {
	var seen []byte
	var places []place
	for i, ev := range r.held {
		for at, b := range ev.Data {
			was := r.tracker.phase
			r.tracker.advance(b)
			if was == ground && b >= ' ' && b != 0x7f || was == ground && (b == '\n' || b == '\t') {
				seen = append(seen, b)
				places = append(places, place{i, at})
			}
		}
	}
	for _, match := range r.pattern.FindAllIndex(seen, -1) {
		r.blot(seen, places, match[0], match[1])
	}
	for _, ev := range r.held {
		if err := r.hand(ev); err != nil {
			return err
		}
	}
	r.held, r.bytes = r.held[:0], 0
	return nil
}

// blot masks the visible bytes of a match: a star for each column, and the bytes
// that are left become nothing.
func (r *Redactor) blot(seen []byte, places []place, from, to int) {
	for from < to {
		char, size := utf8.DecodeRune(seen[from:to])
		if char == '\n' {
			from += size
			continue
		}
		width := min(max(1, plain.Width(string(char))), size)
		for i := range size {
			p := places[from+i]
			b := byte(0) // terminals ignore it
			if i < width {
				b = maskRune
			}
			r.held[p.event].Data[p.at] = b
		}
		from += size
	}
}

// hand hands an event on, once the screen was looked at.
func (r *Redactor) hand(ev state.RecordingEvent) error {
	r.screen.Feed(ev)
	if len(ev.Data) > 0 && (ev.At-r.looked >= lookEvery || len(ev.Data) >= lookBytes) {
		r.looked = ev.At
		if r.pattern.MatchString(strings.Join(r.screen.Text(), "\n")) {
			return &VisibleError{At: ev.At}
		}
	}
	return r.next.Feed(ev)
}

// Flush hands on what is held, and ends the writer.
func (r *Redactor) Flush() error {
	defer r.screen.Close()
	if err := r.release(); err != nil {
		return err
	}
	if r.pattern.MatchString(strings.Join(r.screen.Text(), "\n")) {
		return &VisibleError{At: r.looked}
	}
	return r.next.Flush()
}
