package osevents

import (
	"context"
	"slices"
	"sync"
)

// queue holds events until they are delivered. It has at most one of each kind:
// a newer event replaces an older one that was not delivered yet.
type queue struct {
	ready chan struct{} // capacity 1: there is something to deliver

	mu      sync.Mutex
	pending []queued // guarded by mu
}

type queued struct {
	Event

	done chan struct{} // closed when delivered or replaced
}

// add queues an event; the channel is closed when it was delivered.
func (q *queue) add(e Event) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.IndexFunc(q.pending, func(p queued) bool { return p.Kind == e.Kind }); i >= 0 {
		e.By += q.pending[i].By // both have happened
		close(q.pending[i].done)
		q.pending = slices.Delete(q.pending, i, i+1)
	}
	done := make(chan struct{})
	q.pending = append(q.pending, queued{Event: e, done: done})
	select {
	case q.ready <- struct{}{}:
	default: // woken already
	}
	return done
}

// deliver calls tell for each event, one after the other, until ctx ends.
func (q *queue) deliver(ctx context.Context, tell func(Event)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.ready:
		}
		for ctx.Err() == nil {
			q.mu.Lock()
			if len(q.pending) == 0 {
				q.mu.Unlock()
				break
			}
			next := q.pending[0]
			q.pending = slices.Delete(q.pending, 0, 1)
			q.mu.Unlock()
			tell(next.Event)
			close(next.done)
		}
	}
}
