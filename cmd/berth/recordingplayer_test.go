package main

import (
	"bytes"
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/replay"
)

// TestPlayerDrawsTheCursor: what moves the cursor and nothing else is drawn, and what
// changes nothing is not.
func TestPlayerDrawsTheCursor(t *testing.T) {
	events := []state.RecordingEvent{
		{Kind: "session.start", Cols: 20, Rows: 5},
		{Kind: state.EventPrint, Data: []byte("one\r\ntwo")},
		{Kind: state.EventPrint, At: time.Second, Data: []byte("\x1b[1;2H")},
		{Kind: state.EventPrint, At: 2 * time.Second, Data: []byte("\x1b[?25l")},
		{Kind: state.EventPrint, At: 3 * time.Second, Data: []byte("\x1b[?25h")},
	}
	source := func(_ context.Context, from int64) iter.Seq2[state.RecordingEvent, error] {
		return func(yield func(state.RecordingEvent, error) bool) {
			for i, ev := range events[min(from, int64(len(events))):] {
				if ev.Seq = from + int64(i); !yield(ev, nil) {
					return
				}
			}
		}
	}
	var out bytes.Buffer
	p := newPlayer(source, recordingPlayOptions{speed: 1, noControls: true})
	defer p.close()
	p.out, p.size = &out, func() (int, int) { return 20, 5 }
	if err := p.scan(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	p.view = replay.NewView(t.Context(), source, p.timeline)
	for _, step := range []struct {
		at   time.Duration
		want string
	}{
		{0, "\x1b[2;4H\x1b[?25h"}, {time.Second, "\x1b[1;2H\x1b[?25h"}, {2 * time.Second, "\x1b[?25l"}, {3 * time.Second, "\x1b[1;2H\x1b[?25h"},
	} {
		out.Reset()
		if err := p.seek(t.Context(), step.at); err != nil {
			t.Fatal(err)
		}
		p.arrive(t)
		if err := p.draw(); err != nil || !strings.HasSuffix(out.String(), step.want) || step.at > 0 && out.String() != step.want {
			t.Errorf("at %v is drawn %q (%v), want %q", step.at, out.String(), err, step.want)
		}
		out.Reset()
		if err := p.draw(); err != nil || out.Len() > 0 {
			t.Errorf("at %v is drawn again: %q (%v)", step.at, out.String(), err)
		}
	}
}

// arrive goes on until the view is where the player is.
func (p *player) arrive(t *testing.T) {
	t.Helper()
	for p.behind {
		if _, err := p.step(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
}
