package proxies

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

// farEnd is a server whose connections take dialTime to make.
type farEnd struct {
	greeting string
	closes   time.Duration // a silent connection after so long; zero: never

	mu    sync.Mutex // guards everything below
	conns []*farConn
	err   error // of the dials
	made  int
}

// farConn is the server's end of a connection, and the credential it was made with.
type farConn struct {
	net.Conn
	key    int
	closed atomic.Bool // by the other end
}

const dialTime = 160 * time.Millisecond

// dial makes a connection with the credential key.
func (f *farEnd) dial(key int) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		f.mu.Lock()
		f.made++
		f.mu.Unlock()
		if !wake.Sleep(ctx, dialTime) {
			return nil, context.Cause(ctx)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.err != nil {
			return nil, f.err
		}
		here, there := net.Pipe()
		c := &farConn{Conn: there, key: key}
		f.conns = append(f.conns, c)
		go f.serve(c)
		return here, nil
	}
}

// serve answers what a client says with the credential that its connection was
// made with.
func (f *farEnd) serve(c *farConn) {
	defer c.Close()
	if f.closes > 0 {
		defer time.AfterFunc(f.closes, func() { _ = c.Close() }).Stop()
	}
	if f.greeting != "" {
		_, _ = io.WriteString(c, f.greeting)
	}
	buf := make([]byte, 16)
	for {
		if _, err := c.Read(buf); err != nil {
			c.closed.Store(true)
			return
		}
		if _, err := c.Write([]byte{byte(c.key)}); err != nil {
			return
		}
	}
}

// open returns the connections that are open.
func (f *farEnd) open() []*farConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.conns), func(c *farConn) bool { return c.closed.Load() })
}

func (f *farEnd) dials() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made
}

func (f *farEnd) way(key int) Way {
	return Way{Key: key, Until: time.Now().Add(time.Hour), Dial: f.dial(key)}
}

// warmed runs a test in a bubble with a Warm that uses the way 1.
func warmed(t *testing.T, far *farEnd, test func(t *testing.T, w *Warm)) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWarm(nil, slog.New(slog.DiscardHandler))
		defer w.Close()
		w.Use(far.way(1))
		test(t, w)
	})
}

// ask speaks over a connection that a Tunnel was handed, and returns which
// credential it was made with.
func ask(t *testing.T, h *handed) int {
	t.Helper()
	defer h.Close()
	if _, err := h.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if p := <-h.begun; len(p.said) == 1 {
		return int(p.said[0])
	}
	t.Fatal("no answer")
	return 0
}

// TestWarm: the first client finds nothing, and those after it a connection that
// is ready, until none came for long.
func TestWarm(t *testing.T) {
	far := &farEnd{}
	warmed(t, far, func(t *testing.T, w *Warm) {
		if time.Sleep(time.Hour / 2); far.dials() != 0 {
			t.Errorf("%d dials for a tunnel that no client has used", far.dials())
		}
		if w.take(t.Context(), 1) != nil {
			t.Error("the first client found a connection")
		}
		for range 20 {
			time.Sleep(10 * time.Second)
			began := time.Now()
			conn := w.take(t.Context(), 1)
			if conn == nil || time.Since(began) > 0 {
				t.Fatalf("a later client found %v after %v", conn, time.Since(began))
			}
			if got := ask(t, conn); got != 1 {
				t.Errorf("it was made with %d", got)
			}
		}
		time.Sleep(warmIdle / 2)
		if n := len(far.open()); n < 1 || n > 2 {
			t.Errorf("%d connections are open, want one or two", n)
		}
		time.Sleep(warmIdle)
		if n := len(far.open()); n != 0 {
			t.Errorf("%d connections are open although none was used for long", n)
		}
		before := far.dials()
		time.Sleep(time.Minute)
		if n := far.dials(); n != before {
			t.Errorf("%d dials for a tunnel that is idle", n-before)
		}
	})
}

// TestWarmIsYoung: no connection waits for longer than warmAge, and there is one
// at every moment.
func TestWarmIsYoung(t *testing.T) {
	far := &farEnd{}
	warmed(t, far, func(t *testing.T, w *Warm) {
		w.take(t.Context(), 1)
		time.Sleep(time.Second)
		for range 300 {
			time.Sleep(time.Second)
			w.mu.Lock()
			if len(w.ready) == 0 {
				t.Error("there is none")
			}
			for _, s := range w.ready {
				if age := time.Since(s.since); age > warmAge {
					t.Errorf("one is %v old", age)
				}
			}
			w.mu.Unlock()
		}
	})
}

// TestWarmEndsWithItsCert: at the end of the cert nothing is open, and nothing
// is handed out although no timer has run yet.
func TestWarmEndsWithItsCert(t *testing.T) {
	far := &farEnd{}
	warmed(t, far, func(t *testing.T, w *Warm) {
		w.Use(Way{Key: 2, Until: time.Now().Add(time.Minute).Round(0), Dial: far.dial(2)})
		w.take(t.Context(), 2)
		time.Sleep(59 * time.Second)
		if len(far.open()) == 0 {
			t.Error("nothing is open before the end")
		}
		time.Sleep(time.Second)
		if w.take(t.Context(), 2) != nil {
			t.Error("a client got a connection after the end")
		}
		synctest.Wait()
		if n := len(far.open()); n != 0 {
			t.Errorf("%d connections are open after the end", n)
		}
	})
}

// TestWarmForgetsOldRoles: over a thousand takes, while credentials change all the
// time, no client gets a connection that was made with another credential than
// its own, and none is open once Use has returned.
func TestWarmForgetsOldRoles(t *testing.T) {
	far := &farEnd{}
	warmed(t, far, func(t *testing.T, w *Warm) {
		var key atomic.Int64
		key.Store(1)
		ctx, cancel := context.WithCancel(t.Context())
		var changing sync.WaitGroup
		changing.Go(func() {
			for wake.Sleep(ctx, 700*time.Millisecond) {
				next := int(key.Load())%100 + 1
				w.Use(far.way(next))
				key.Store(int64(next))
				synctest.Wait()
				for _, c := range far.open() {
					if c.key != next {
						t.Errorf("a connection of %d is open, %d is in use", c.key, next)
					}
				}
			}
		})
		taken, missed := 0, 0
		for taken < 1000 {
			now := int(key.Load())
			conn := w.take(t.Context(), now)
			if conn == nil {
				missed++
				time.Sleep(dialTime) // the client dials itself
				continue
			}
			if got := ask(t, conn); got != now {
				t.Fatalf("a client with the credential %d got a connection of %d", now, got)
			}
			taken++
			time.Sleep(20 * time.Millisecond)
		}
		cancel()
		changing.Wait()
		t.Logf("%d found none", missed)
	})
}

// TestWarmIsDropped as after a change of the network: all are closed at once, and
// new ones come a little later.
func TestWarmIsDropped(t *testing.T) {
	far := &farEnd{}
	synctest.Test(t, func(t *testing.T) {
		var all []*Warm
		for range 100 {
			w := NewWarm(nil, slog.New(slog.DiscardHandler))
			defer w.Close()
			w.Use(far.way(1))
			w.take(t.Context(), 1)
			all = append(all, w)
		}
		time.Sleep(5 * time.Second)
		before := far.dials()
		for _, w := range all {
			w.Drop()
		}
		synctest.Wait()
		if n := len(far.open()); n != 0 {
			t.Errorf("%d are open", n)
		}
		most := 0
		for range 10 {
			was := far.dials()
			time.Sleep(warmJitter / 10)
			most = max(most, far.dials()-was)
		}
		if most > 40 {
			t.Errorf("%d of 100 tunnels dialled in the same tenth of the time", most)
		}
		time.Sleep(time.Second)
		if n := far.dials() - before; n != 100 {
			t.Errorf("%d dials after all were dropped, want one a tunnel", n)
		}
	})
}

// TestWarmWhereSilenceEnds: a proxy that closes silent connections costs clients
// nothing, and is not dialled over and over.
func TestWarmWhereSilenceEnds(t *testing.T) {
	far := &farEnd{closes: 5 * time.Second}
	warmed(t, far, func(t *testing.T, w *Warm) {
		for range 10 {
			if conn := w.take(t.Context(), 1); conn != nil {
				ask(t, conn)
			}
			time.Sleep(3 * time.Second)
		}
		before := far.dials()
		time.Sleep(5 * time.Minute)
		if n := far.dials() - before; n > 20 {
			t.Errorf("%d dials in 5 minutes without a client", n)
		}
	})
}

// ending is a connection whose end is known before it is read.
type ending struct {
	net.Conn
	hungUp *atomic.Bool
}

func (e ending) HungUp() bool { return e.hungUp.Load() }

// TestWarmIsLookedAt: a client gets no connection of which the system knows already
// that it has ended, though nothing has read that yet.
func TestWarmIsLookedAt(t *testing.T) {
	far := &farEnd{}
	synctest.Test(t, func(t *testing.T) {
		var hungUp atomic.Bool
		dial := far.dial(1)
		w := NewWarm(nil, slog.New(slog.DiscardHandler))
		defer w.Close()
		w.Use(Way{Key: 1, Until: time.Now().Add(time.Hour), Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return ending{conn, &hungUp}, nil
		}})
		w.take(t.Context(), 1)
		time.Sleep(time.Second)
		hungUp.Store(true)
		if w.take(t.Context(), 1) != nil {
			t.Error("a client got a connection that has ended")
		}
		hungUp.Store(false)
		synctest.Wait()
		if n := len(far.open()); n != 0 {
			t.Errorf("%d that had ended are not closed", n)
		}
		time.Sleep(time.Second)
		conn := w.take(t.Context(), 1)
		if conn == nil {
			t.Fatal("no other one took its place")
		}
		ask(t, conn)
	})
}

// TestWarmWhileAway: a proxy that is away is dialled rarely, and soon again for a
// client.
func TestWarmWhileAway(t *testing.T) {
	far := &farEnd{err: errors.New("connection refused")}
	warmed(t, far, func(t *testing.T, w *Warm) {
		if w.take(t.Context(), 1) != nil {
			t.Error("a client got a connection")
		}
		time.Sleep(5 * time.Minute)
		if n := far.dials(); n > 25 {
			t.Errorf("%d dials in 5 minutes", n)
		}
		far.mu.Lock()
		far.err = nil
		far.mu.Unlock()
		if w.take(t.Context(), 1) != nil {
			t.Error("a client found a connection right after the proxy was back")
		}
		time.Sleep(time.Second)
		conn := w.take(t.Context(), 1)
		if conn == nil {
			t.Fatal("nothing is ready a second after the proxy is back")
		}
		ask(t, conn)
	})
}

// TestWarmGreeting: what the server said before there was a client reaches it.
func TestWarmGreeting(t *testing.T) {
	far := &farEnd{greeting: "8.0.0"}
	warmed(t, far, func(t *testing.T, w *Warm) {
		w.take(t.Context(), 1)
		time.Sleep(time.Second)
		h := w.take(t.Context(), 1)
		defer h.Close()
		if p := <-h.begun; string(p.said) != "8.0.0" {
			t.Errorf("the client reads %q", p.said)
		}
	})
}

// TestWarmIsJoined: a client takes what is under way for as long as that is quick.
func TestWarmIsJoined(t *testing.T) {
	far := &farEnd{}
	warmed(t, far, func(t *testing.T, w *Warm) {
		w.take(t.Context(), 1)
		time.Sleep(time.Minute) // now it is known how long a dial takes
		w.Use(far.way(3))
		w.take(t.Context(), 3)
		time.Sleep(dialTime / 2)
		began := time.Now()
		conn := w.take(t.Context(), 3)
		if conn == nil || time.Since(began) != dialTime/2 {
			t.Fatalf("got %v after %v, want half of a dial", conn, time.Since(began))
		}
		ask(t, conn)

		hangs := Way{Key: 2, Until: time.Now().Add(time.Hour), Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		w.Use(hangs)
		w.take(t.Context(), 2)
		time.Sleep(dialTime / 2)
		began = time.Now()
		if conn := w.take(t.Context(), 2); conn != nil || time.Since(began) > dialTime {
			t.Errorf("got %v after %v, want to dial after %v", conn, time.Since(began), dialTime)
		}
	})
}

// TestWarmForACrowd: as many are kept as clients came in the last second, and
// clients at the same instant do not wait for each other.
func TestWarmForACrowd(t *testing.T) {
	far := &farEnd{}
	warmed(t, far, func(t *testing.T, w *Warm) {
		found := func() (n int) {
			for range 8 {
				if conn := w.take(t.Context(), 1); conn != nil {
					ask(t, conn)
					n++
				}
			}
			return n
		}
		found()
		time.Sleep(500 * time.Millisecond)
		if n := found(); n < 7 {
			t.Errorf("%d of 8 clients found a connection", n)
		}
		var wg sync.WaitGroup
		before := far.dials()
		for range 500 {
			wg.Go(func() {
				if conn := w.take(t.Context(), 1); conn != nil {
					_ = conn.Close()
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if n := far.dials() - before; n > 50 {
			t.Errorf("%d dials for no client after 500 of them", n)
		}
		time.Sleep(time.Minute)
		if n := len(far.open()); n > 2 {
			t.Errorf("%d connections are kept a minute later", n)
		}
	})
}

// TestWarmNotAllowed: on battery, for one, nothing is kept.
func TestWarmNotAllowed(t *testing.T) {
	far := &farEnd{}
	synctest.Test(t, func(t *testing.T) {
		var allowed atomic.Bool
		w := NewWarm(allowed.Load, slog.New(slog.DiscardHandler))
		defer w.Close()
		w.Use(far.way(1))
		w.take(t.Context(), 1)
		if time.Sleep(time.Minute); far.dials() != 0 {
			t.Errorf("%d dials", far.dials())
		}
		allowed.Store(true)
		w.take(t.Context(), 1)
		time.Sleep(time.Minute)
		if len(far.open()) == 0 {
			t.Error("nothing is kept although it may be")
		}
		allowed.Store(false)
		time.Sleep(warmAge)
		if n := len(far.open()); n != 0 {
			t.Errorf("%d are kept although they may no longer be", n)
		}
	})
}
