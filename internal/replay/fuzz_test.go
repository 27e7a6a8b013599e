package replay

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
)

// FuzzReplay plays what a session might have printed, in two pieces, on a terminal of
// any size: nothing panics, and what comes out as text is text.
func FuzzReplay(f *testing.F) {
	for _, said := range append(words[:min(len(words), 20):min(len(words), 20)], "\x1b[999999999@\x1b]0;t\x07", "\x1bP", "\x1b[2J\x1b[5;1Hhun\r\n") {
		f.Add([]byte(said), uint16(3), uint8(80), uint8(24))
	}
	f.Fuzz(func(t *testing.T, said []byte, cut uint16, cols, rows uint8) {
		if len(said) > 4<<10 {
			return // longer texts are more of the same
		}
		at := int(cut) % (len(said) + 1)
		events := []state.RecordingEvent{
			{Kind: state.EventResize, Cols: int(cols), Rows: int(rows)},
			printEvent(string(said[:at])),
			printEvent(string(said[at:])),
		}
		screen := NewScreen()
		defer screen.Close()
		var text, cast bytes.Buffer
		writers := []Writer{NewPlainText(&text), NewAsciicast(&cast, Header{})}
		for i, ev := range events {
			ev.Seq, ev.At = int64(i), time.Duration(i)*time.Second
			screen.Feed(ev)
			for _, w := range writers {
				if err := w.Feed(ev); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, w := range writers {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if strings.ContainsFunc(strings.NewReplacer("\n", "", "\t", "").Replace(text.String()), plain.Invisible) {
			t.Errorf("%q makes the text %q", said, text.String())
		}
	})
}
