package agent

import (
	"sync"
	"sync/atomic"

	"berth/agent/state"
)

// hub holds the newest snapshot and wakes whoever follows it. Readers never
// lock; publishing never waits for a reader.
type hub struct {
	cur atomic.Pointer[state.Snapshot]

	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
}

func (h *hub) publish(s *state.Snapshot) {
	h.cur.Store(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.watchers {
		select {
		case ch <- struct{}{}:
		default: // already woken; it will read the newest
		}
	}
}

// subscribe returns a channel that receives after each newer snapshot, and the
// function that ends the subscription.
func (h *hub) subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = make(map[chan struct{}]struct{})
	}
	h.watchers[ch] = struct{}{}
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, ch)
	}
}

// watched reports whether anyone follows the snapshots.
func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers) > 0
}
