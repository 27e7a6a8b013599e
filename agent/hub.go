package agent

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/state"
)

// hub holds the newest snapshot and wakes whoever follows it. Readers never
// lock; publishing never waits for a reader.
type hub struct {
	cur atomic.Pointer[state.Snapshot]

	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
	told     time.Time // when the watchers were last woken
}

// sameAgain is how often watchers are told of a snapshot in which nothing has
// changed: by the minute is how they draw the time that is left.
const sameAgain = time.Minute

func (h *hub) publish(s *state.Snapshot) {
	old := h.cur.Swap(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); old == nil || now.Sub(h.told) >= sameAgain || !reflect.DeepEqual(old, s) {
		h.told = now
	} else {
		return
	}
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
