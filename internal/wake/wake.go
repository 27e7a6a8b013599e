// Package wake is how goroutines wait for each other: for a time, for a signal
// to one of them, for a change that any number of them look at.
package wake

import (
	"context"
	"sync"
	"time"
)

// Sleep waits for d or until ctx ends, and reports whether ctx is still alive.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// Signal wakes one goroutine, which receives from it. Signals that come before
// it receives are one: after waking it looks at everything again.
type Signal chan struct{}

// NewSignal returns a signal that has not been given.
func NewSignal() Signal { return make(Signal, 1) }

// Wake gives the signal. It never blocks.
func (s Signal) Wake() {
	select {
	case s <- struct{}{}:
	default: // given already, and not received yet
	}
}

// Broadcast wakes every goroutine that waits for a change. The zero value is
// ready to use.
type Broadcast struct {
	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// Changed returns a channel that the next Wake closes. To miss no change, call
// it before looking at what may change, and receive from it after:
//
//	for changed := b.Changed(); !done(); changed = b.Changed() {
//		<-changed
//	}
func (b *Broadcast) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// Wake wakes all that wait. Call it after the change. It never blocks, so it
// may be called with any lock held.
func (b *Broadcast) Wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}
