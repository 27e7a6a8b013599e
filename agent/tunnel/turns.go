package tunnel

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

const (
	// turnsMost is how many tunnels of one cluster are resolved at once, beside those
	// for which a client waits. Each keeps a stack of 16 to 32 KB while its cert is
	// minted; at a distance of 200 ms so many still see to 300 tunnels a second.
	turnsMost = 128
	// turnsStuck is when no tunnel waits for a turn any longer because none has come
	// free: what hangs must hold nothing else up. The first turns take as long as
	// the way to the cluster, which is opened then.
	turnsStuck = 2 * time.Second
)

// turns bounds the memory that resolving takes when a login or the start has
// thousands of tunnels do so at once. The zero value is ready to use.
type turns struct {
	mu sync.Mutex // guards by
	by map[string]*turnsAt
}

// turnsAt is those of one cluster.
type turnsAt struct {
	taken chan struct{}
	given atomic.Int64 // when one came free last, in Unix nanoseconds
}

func (t *turns) of(cluster string) *turnsAt {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[string]*turnsAt)
	}
	if t.by[cluster] == nil {
		t.by[cluster] = &turnsAt{taken: make(chan struct{}, turnsMost)}
	}
	return t.by[cluster]
}

// take waits for a turn, unless it is urgent or becomes so, of which changed hears, and
// returns what ends the turn.
func (t *turnsAt) take(ctx context.Context, changed *wake.Broadcast, urgent func() bool) (end func()) {
	select {
	case t.taken <- struct{}{}:
		return t.end
	default:
	}
	none := func() {}
	began, stuck := time.Now(), time.NewTimer(turnsStuck)
	defer stuck.Stop()
	for {
		hurry := changed.Changed()
		left := turnsStuck - min(time.Since(began), time.Since(time.Unix(0, t.given.Load())))
		if urgent() || left <= 0 {
			return none
		}
		stuck.Reset(left)
		select {
		case t.taken <- struct{}{}:
			return t.end
		case <-ctx.Done():
			return none
		case <-hurry:
		case <-stuck.C:
		}
	}
}

func (t *turnsAt) end() {
	t.given.Store(time.Now().UnixNano())
	<-t.taken
}
