package replay

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testneeds"
)

// TestLargeScreens: a recording that claims the largest screens, all of them
// drawn, is scanned and shown within a bound.
func TestLargeScreens(t *testing.T) {
	const most = 100 << 20
	var full strings.Builder
	for y := range testneeds.Part(1000) {
		fmt.Fprintf(&full, "\x1b[%d;1H\x1b[38;5;%dm%s", y+1, y%256, strings.Repeat("x", 1000))
	}
	var events []state.RecordingEvent
	for i := range 4 {
		at := time.Duration(i) * time.Minute
		events = append(events, state.RecordingEvent{Seq: int64(2 * i), At: at, Kind: state.EventResize, Cols: 1000, Rows: 1000 - i},
			state.RecordingEvent{Seq: int64(2*i + 1), At: at, Kind: state.EventPrint, Data: []byte([]string{"\x1b[?1049h", "\x1b[?1049l"}[i%2] + full.String())})
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	timeline := NewTimeline()
	take, end := timeline.NewScan()
	for _, ev := range events {
		take(ev)
	}
	view := NewView(t.Context(), func(_ context.Context, from int64) iter.Seq2[state.RecordingEvent, error] {
		return func(yield func(state.RecordingEvent, error) bool) {
			for _, ev := range events[from:] {
				if !yield(ev, nil) {
					return
				}
			}
		}
	}, timeline)
	defer view.Close()
	arrive(t, view, time.Hour)
	grown := int64(heap() - before)
	end()
	t.Logf("the heap grew by %d MiB", grown>>20)
	if cols, rows := view.Screen().Size(); grown > most || cols != 1000 || rows < 100 {
		t.Errorf("the heap grew by %d MiB for screens of %d×%d", grown>>20, cols, rows)
	}
	runtime.KeepAlive(timeline)
}
