package main

import (
	"bytes"
	"testing"
	"time"

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

// TestRecordingStart: of a session of which only the end is known, that is what the
// list says.
func TestRecordingStart(t *testing.T) {
	now := time.Date(2026, 11, 28, 20, 0, 0, 0, time.Local)
	start, end := now.Add(-2*time.Hour), now.Add(-time.Hour)
	for want, r := range map[string]state.Recording{
		"18:00": {StartedAt: &start, EndedAt: &end}, "before 19:00": {EndedAt: &end}, "-": {},
	} {
		if got := recordingStart(r, now); got != want {
			t.Errorf("%+v starts %q, want %q", r, got, want)
		}
	}
}

// TestIDsApart: what the list prints names one session.
func TestIDsApart(t *testing.T) {
	ids := []string{
		"5e000001-aaaa-4000-8000-000000000001", "5e000001-aaab-4000-8000-000000000002", "5e000001-ab00-4000-8000-000000000003",
		"5e000002-0000-4000-8000-000000000004", "5e000001-aaaa-4000-8000-000000000001", "short", "5e000003",
		"5e000003-0000-4000-8000-000000000005",
	}
	var list []state.Recording
	for _, id := range ids {
		list = append(list, state.Recording{ID: id})
	}
	short := idsApart(list)
	for i, want := range []string{
		"5e000001-aaaa", "5e000001-aaab", "5e000001-ab", "5e000002", "5e000001-aaaa", "short", "5e000003", "5e000003-",
	} {
		if got := short[ids[i]]; got != want {
			t.Errorf("%s is listed as %q, want %q", ids[i], got, want)
		}
	}
}
