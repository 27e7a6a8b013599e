package wake

import (
	"context"
	"sync"
)

// Turn is what goroutines take turns by at something slow: a bind, a network call, a
// write to the disk. Unlike a mutex it can be waited for with a context. The zero
// value is free.
type Turn struct {
	once  sync.Once
	taken chan struct{} // full while someone has it
}

// Take waits until the turn is free and takes it; false means that ctx ended first.
func (t *Turn) Take(ctx context.Context) bool {
	t.once.Do(func() { t.taken = make(chan struct{}, 1) })
	select {
	case t.taken <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Give gives the turn back.
func (t *Turn) Give() { <-t.taken }
