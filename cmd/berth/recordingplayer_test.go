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

// TestPlayerWhileReading: keys do not speak of what was not read yet, and tenths are
// of the whole recording.
func TestPlayerWhileReading(t *testing.T) {
	var events []state.RecordingEvent
	for i := range int64(11) {
		events = append(events, state.RecordingEvent{Seq: i, At: time.Duration(i) * time.Minute, Kind: state.EventPrint, Data: []byte("x")})
	}
	source := func(_ context.Context, from int64) iter.Seq2[state.RecordingEvent, error] {
		return func(yield func(state.RecordingEvent, error) bool) {
			for _, ev := range events[min(from, int64(len(events))):] {
				if !yield(ev, nil) {
					return
				}
			}
		}
	}
	p := newPlayer(source, recordingPlayOptions{speed: 1})
	defer p.close()
	p.length, p.playing = 10*time.Minute, false
	take, end := p.timeline.NewScan()
	for _, ev := range events[:3] {
		take(ev)
	}
	p.view = replay.NewView(t.Context(), source, p.timeline)
	press := func(keys ...string) string {
		for _, key := range keys {
			if _, err := p.key(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			p.arrive(t)
		}
		return p.say
	}
	for key, want := range map[string]string{
		"e": "no further command or query, reading … 20 %", "m": "no further mark, reading … 20 %", "M": "no further mark",
		"n": "nothing was searched for", "?": playerKeys,
	} {
		if got := press(key); got != want {
			t.Errorf("key %s: %q, want %q", key, got, want)
		}
	}
	if press("1"); p.at != time.Minute {
		t.Errorf("the first tenth is at %s", p.at)
	}
	if press("5"); p.at != time.Minute || p.from != 5*time.Minute {
		t.Errorf("at %s the player goes to %s", p.at, p.from)
	}
	if line := p.status(80, 24); !strings.Contains(line, "looking for 5:00, reading … 20 %") {
		t.Errorf("it says %q", line)
	}
	for _, ev := range events[3:] {
		take(ev)
	}
	end()
	if _, err := p.step(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if p.arrive(t); p.at != 5*time.Minute || p.from != 0 {
		t.Errorf("once it is read the player is at %s", p.at)
	}
	if got := press("e"); got != "no further command or query" {
		t.Errorf("once it is read: %q", got)
	}
	press("/", "y", "\r")
	p.searched(t.Context(), <-p.found)
	if p.say != "not found: y" || press("n") != "not found: y" {
		t.Errorf("after a search: %q", p.say)
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
