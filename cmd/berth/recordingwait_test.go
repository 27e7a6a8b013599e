package main

import (
	"bytes"
	"testing"

	"berth/agent/state"
)

// TestWaitLine: a line for each change where it is no terminal, else one that
// writes over itself and goes.
func TestWaitLine(t *testing.T) {
	for width, want := range map[int]string{
		0:  "berth: not uploaded, 3s after its end\nberth: waiting for more\n",
		20: "\r\x1b[Kberth: not uploade…\r\x1b[Kberth: not uploade…\r\x1b[Kberth: waiting for…\r\x1b[K",
	} {
		var out bytes.Buffer
		l := newWaitLine(&out)
		l.width = width
		l.say(state.RecordingAwaited, "not uploaded, 3s after its end")
		l.say(state.RecordingAwaited, "not uploaded, 6s after its end")
		l.say(state.RecordingWaiting, "waiting for more")
		l.say(state.RecordingReading, "")
		l.clear()
		if out.String() != want {
			t.Errorf("%d columns: %q", width, out.String())
		}
	}
}
