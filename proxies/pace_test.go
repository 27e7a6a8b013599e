package proxies

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

// busyProxy is a proxy with one processor, which all handshakes share.
type busyProxy struct {
	needs time.Duration // of the processor, for each
	far   time.Duration // before it begins

	cpu       chan struct{} // capacity 1
	now, most atomic.Int64
	served    atomic.Int64
}

func (b *busyProxy) dial(ctx context.Context) (net.Conn, error) {
	if !wake.Sleep(ctx, b.far) {
		return nil, context.Cause(ctx)
	}
	for n := b.now.Add(1); ; {
		if m := b.most.Load(); n <= m || b.most.CompareAndSwap(m, n) {
			break
		}
	}
	defer b.now.Add(-1)
	const slice = time.Millisecond
	for done := time.Duration(0); done < b.needs; done += slice {
		b.cpu <- struct{}{}
		time.Sleep(slice)
		<-b.cpu
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	b.served.Add(1)
	here, there := net.Pipe()
	_ = there.Close()
	return here, nil
}

// crowd has so many clients dial at the same instant and returns their errors.
func crowd(ctx context.Context, clients int, dial func(i int) Dial) (failed []error) {
	errs := make(chan error, clients)
	for i := range clients {
		go func() {
			conn, err := dial(i)(ctx)
			if conn != nil {
				_ = conn.Close()
			}
			errs <- err
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// TestCrowd: 500 clients at the same instant, at a proxy that needs 100 ms of its
// processor for each, are all served, and the agent's own dials pass meanwhile.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := &busyProxy{cpu: make(chan struct{}, 1), needs: 100 * time.Millisecond}
		pace := NewPace()
		ctx, cancel := context.WithCancel(t.Context())
		var own sync.WaitGroup
		own.Go(func() { // it does not wait for a turn
			for wake.Sleep(ctx, time.Second) {
				began := time.Now()
				if _, err := proxy.dial(ctx); err == nil && time.Since(began) > MaxDialTimeout/2 {
					t.Errorf("a dial of the agent's own took %v", time.Since(began))
				}
			}
		})
		began := time.Now()
		for _, err := range crowd(t.Context(), 500, func(int) Dial { return pace.Paced("pg", proxy.dial) }) {
			t.Errorf("a client was refused: %v", err)
		}
		if took := time.Since(began); took > time.Minute+10*time.Second {
			t.Errorf("500 clients took %v, where the proxy needs 50 s", took)
		}
		cancel()
		own.Wait()
		t.Logf("%d handshakes at once at most", proxy.most.Load())
	})
}

// TestCrowdAtAQuickProxy: latency of the way alone keeps no one waiting.
func TestCrowdAtAQuickProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := &busyProxy{cpu: make(chan struct{}, 1), needs: time.Millisecond, far: 400 * time.Millisecond}
		pace := NewPace()
		began := time.Now()
		if failed := crowd(t.Context(), 500, func(int) Dial { return pace.Paced("pg", proxy.dial) }); len(failed) > 0 {
			t.Errorf("refused: %v", failed)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("500 clients took %v", took)
		}
	})
}

// TestTurns: a tunnel with one client does not wait for one with hundreds.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := &busyProxy{cpu: make(chan struct{}, 1), needs: 100 * time.Millisecond}
		pace := NewPace()
		var took time.Duration
		began := time.Now()
		failed := crowd(t.Context(), 300, func(i int) Dial {
			if i < 299 {
				return pace.Paced("crowded", proxy.dial)
			}
			return func(ctx context.Context) (net.Conn, error) {
				time.Sleep(2 * time.Second)
				began := time.Now()
				defer func() { took = time.Since(began) }()
				return pace.Paced("other", proxy.dial)(ctx)
			}
		})
		if len(failed) > 0 {
			t.Errorf("refused: %v", failed)
		}
		if all := time.Since(began); took > 4*time.Second || all < 10*time.Second {
			t.Errorf("the other tunnel's client waited %v of %v", took, all)
		}
	})
}

// TestNothingGetsThrough: then all are refused when the time of one dial is over,
// however many they are.
func TestNothingGetsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace()
		began := time.Now()
		failed := crowd(t.Context(), 300, func(int) Dial {
			return pace.Paced("pg", func(ctx context.Context) (net.Conn, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			})
		})
		if len(failed) != 300 || !errors.Is(failed[0], context.DeadlineExceeded) {
			t.Errorf("%d of 300 were refused, with %v", len(failed), failed[0])
		}
		if took := time.Since(began); took > 2*MaxDialTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// TestOneHangs: a dial that hangs while others get through ends too.
func TestOneHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := &busyProxy{cpu: make(chan struct{}, 1), needs: 10 * time.Millisecond}
		pace := NewPace()
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		others.Go(func() {
			for wake.Sleep(ctx, time.Second) {
				if conn, err := pace.Paced("pg", proxy.dial)(ctx); err == nil {
					_ = conn.Close()
				}
			}
		})
		began := time.Now()
		_, err := pace.Paced("pg", func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})(t.Context())
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > dialMax+time.Second {
			t.Errorf("it ended after %v with %v", took, err)
		}
		cancel()
		others.Wait()
	})
}

// TestSpareGivesWay: what no client waits for comes last, and never fills a proxy.
func TestSpareGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxy := &busyProxy{cpu: make(chan struct{}, 1), needs: 100 * time.Millisecond}
		pace := NewPace()
		var spare sync.WaitGroup
		for range 100 {
			spare.Go(func() { _, _ = pace.Spare(proxy.dial)(t.Context()) })
		}
		synctest.Wait()
		if n := proxy.now.Load(); n != dialsFirst/2 {
			t.Errorf("%d dials for no client are under way, want %d", n, dialsFirst/2)
		}
		began := time.Now()
		if _, err := pace.Paced("pg", proxy.dial)(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("a client waited %v for what no client needs: %v", time.Since(began), err)
		}
		spare.Wait()
		if n := proxy.served.Load(); n != 101 {
			t.Errorf("%d dials were served", n)
		}
	})
}

// TestLeavesTheLine: a client that hangs up while it waits takes no turn.
func TestLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace()
		hung := func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 * dialsFirst {
			wg.Go(func() { _, _ = pace.Paced("pg", hung)(ctx) })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if pace.under != 0 || len(pace.lines) != 0 {
			t.Errorf("%d turns are taken, %d lines wait", pace.under, len(pace.lines))
		}
	})
}

// TestStuck: dials that hang do not keep a client waiting who comes later, and
// whom the proxy answers.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPace()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range dialsFirst {
			wg.Go(func() {
				_, _ = pace.Paced("pg", func(ctx context.Context) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})(ctx)
			})
		}
		time.Sleep(stuckAfter - time.Millisecond)
		proxy := &busyProxy{cpu: make(chan struct{}, 1), needs: 10 * time.Millisecond}
		began := time.Now()
		if _, err := pace.Paced("pg", proxy.dial)(t.Context()); err != nil || time.Since(began) > 20*time.Millisecond {
			t.Errorf("the client waited %v: %v", time.Since(began), err)
		}
		cancel()
		wg.Wait()
		if pace.under != 0 || pace.stuck != 0 || pace.spare != 0 {
			t.Errorf("%d turns are taken, %d are stuck", pace.under, pace.stuck)
		}
	})
}

// TestStuckTooLate: a dial that ends at the instant when it would be passed over keeps
// no turn and is not counted as stuck.
func TestStuckTooLate(t *testing.T) {
	pace := NewPace()
	one := pace.try(t.Context())
	defer one.stop()
	if !pace.enter(one, "pg") {
		t.Fatal("it may not begin")
	}
	pace.leave(one, "pg", errors.New("refused"))
	pace.passOver(one)
	if pace.under != 0 || pace.stuck != 0 {
		t.Errorf("%d turns are taken, %d are stuck", pace.under, pace.stuck)
	}
}
