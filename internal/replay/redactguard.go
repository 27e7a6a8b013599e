package replay

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
)

// VisibleError says that what the pattern matches can still be read.
type VisibleError struct{ At time.Duration }

func (e *VisibleError) Error() string {
	return fmt.Sprintf("at %s the screen shows what the pattern matches, written in pieces that cannot be masked", e.At.Round(100*time.Millisecond))
}

// errShown is why a watch ends.
var errShown = errors.New("the pattern matches")

// guard reads what was masked as others will: the screen at every moment, the
// bytes without sequences, and the plain text.
type guard struct {
	pattern *regexp.Regexp
	screen  *Screen
	at      time.Duration // when the screen was fed
	fresh   bool          // since it was looked at
	rows    []string      // as they were then
	tracker *tracker
	bytes   *watch // without sequences
	text    *watch // without controls, too
	lines   *watch // as plain text
	plain   *PlainText
}

func newGuard(pattern *regexp.Regexp) *guard {
	lines := &watch{pattern: pattern}
	return &guard{
		pattern: pattern, screen: NewScreen(), tracker: newTracker(), bytes: &watch{pattern: pattern}, text: &watch{pattern: pattern},
		lines: lines, plain: NewPlainText(lines),
	}
}

func (g *guard) close() {
	if g.screen != nil {
		g.screen.Close()
		g.screen = nil
	}
}

// feed takes an event that is about to be written.
func (g *guard) feed(ev state.RecordingEvent) error {
	if ev.At.Milliseconds() != g.at.Milliseconds() { // what came at once is seen at once
		if err := g.look(); err != nil {
			return err
		}
	}
	g.screen.Feed(ev)
	g.at, g.fresh = ev.At, g.fresh || len(ev.Data) > 0 || ev.Cols > 0
	return g.found(errors.Join(g.read(ev.Data), g.plain.Feed(ev)))
}

// read gives the watches what is no sequence.
func (g *guard) read(data []byte) error {
	printed := make([]byte, 0, len(data))
	for _, b := range data {
		if g.tracker.phase == ground && b != 0x1b {
			printed = append(printed, b)
		}
		g.tracker.advance(b)
	}
	_, err := g.bytes.Write(printed)
	text := slices.DeleteFunc(printed, func(b byte) bool { return b < ' ' && b != '\n' && b != '\t' })
	_, textErr := g.text.Write(text)
	return errors.Join(err, textErr)
}

// found makes a watch's error the one for a person.
func (g *guard) found(err error) error {
	if errors.Is(err, errShown) {
		return &VisibleError{At: g.at}
	}
	return err
}

// look looks for the pattern on the screen, and in lines that go on in the next
// row.
func (g *guard) look() error {
	if !g.fresh {
		return nil
	}
	g.fresh = false
	rows := g.screen.Text()
	if slices.Equal(rows, g.rows) {
		return nil
	}
	g.rows = rows
	if shows(g.pattern, strings.Join(rows, "\n")) {
		return &VisibleError{At: g.at}
	}
	var wrapped strings.Builder
	full, _ := g.screen.Size()
	for y, row := range rows {
		wrapped.WriteString(row)
		if g.screen.lastInk(y, full) < full-1 {
			wrapped.WriteByte('\n')
		}
	}
	if shows(g.pattern, wrapped.String()) {
		return &VisibleError{At: g.at}
	}
	return nil
}

// end looks at what is left.
func (g *guard) end() error {
	if err := g.look(); err != nil {
		return err
	}
	return g.found(errors.Join(g.plain.Flush(), g.lines.end(), g.bytes.end(), g.text.end()))
}

// watch is a writer that fails when the pattern matches what is written.
type watch struct {
	pattern *regexp.Regexp
	text    []byte
}

// Write takes more of a text.
func (w *watch) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if len(w.text) < 2*window {
		return len(p), nil
	}
	err := w.end()
	from := len(w.text) - window
	if line := bytes.LastIndexByte(w.text[from/2:from], '\n'); line >= 0 {
		from = from/2 + line + 1
	}
	w.text = append(w.text[:0], w.text[from:]...)
	return len(p), err
}

func (w *watch) end() error {
	if shows(w.pattern, string(w.text)) {
		return errShown
	}
	return nil
}
