package osevents

import (
	"context"
	"sync"
	"testing"
	"time"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }

// recorder records the events it gets.
type recorder struct {
	got chan Event

	mu     sync.Mutex // guards before
	before func(Event)
}

func newRecorder() *recorder { return &recorder{got: make(chan Event, 64)} }

func (r *recorder) tell(e Event) {
	r.mu.Lock()
	before := r.before
	r.mu.Unlock()
	if before != nil {
		before(e)
	}
	r.got <- e
}

// want fails unless the next events are of these kinds.
func (r *recorder) want(t *testing.T, kinds ...Kind) (last Event) {
	t.Helper()
	for _, want := range kinds {
		select {
		case last = <-r.got:
			if last.Kind != want {
				t.Fatalf("got %v from %s, want %v", last.Kind, last.Source, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing came, want %v", want)
		}
	}
	return last
}

// none fails if anything comes within a while.
func (r *recorder) none(t *testing.T, within time.Duration) {
	t.Helper()
	select {
	case e := <-r.got:
		t.Fatalf("got %v from %s, want nothing", e.Kind, e.Source)
	case <-time.After(within):
	}
}

// start runs m until the test ends.
func start(t *testing.T, m *Monitor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
}
