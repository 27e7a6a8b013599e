package tunnel

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

func never() bool { return false }

// TestTurns: so many go on at once and no more, as long as they end.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		var mu sync.Mutex // guards now and most
		var now, most, urgent int
		add := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			now += n
			most = max(most, now)
			return now
		}
		var wg sync.WaitGroup
		for range 5 * turnsMost {
			wg.Go(func() {
				defer all.of("prod").take(t.Context(), new(wake.Broadcast), never)()
				add(1)
				time.Sleep(turnsStuck / 2)
				add(-1)
			})
		}
		synctest.Wait() // all turns are taken
		var comes wake.Broadcast
		var wants atomic.Bool
		wg.Go(func() {
			defer all.of("prod").take(t.Context(), &comes, wants.Load)()
			urgent = add(0)
		})
		synctest.Wait()
		wants.Store(true)
		comes.Wake()
		wg.Wait()
		if most != turnsMost || urgent != turnsMost {
			t.Errorf("%d at once, and %d beside one that became urgent; want %d", most, urgent, turnsMost)
		}
	})
}

// TestTurnsThatHang hold nobody up for longer than turnsStuck, those of another
// cluster not at all.
func TestTurnsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range turnsMost {
			wg.Go(func() {
				defer all.of("prod").take(ctx, new(wake.Broadcast), never)()
				<-ctx.Done()
			})
		}
		synctest.Wait()
		took := func(cluster string) time.Duration {
			began := time.Now()
			all.of(cluster).take(ctx, new(wake.Broadcast), never)()
			return time.Since(began)
		}
		if d := took("prod"); d != turnsStuck {
			t.Errorf("a turn beside those that hang: after %v, want %v", d, turnsStuck)
		}
		if d := took("other"); d != 0 {
			t.Errorf("a turn of another cluster: after %v", d)
		}
		cancel()
		wg.Wait()
	})
}
