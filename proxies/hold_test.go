package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/testwait"
	"berth/internal/wake"
	"berth/proxies/internal/nettest"
)

// gate is a Source that waits until it is opened.
type gate struct {
	up   *nettest.Server
	open chan struct{}
	err  error // answered instead of a Dial, once open
}

func newGate(up *nettest.Server) *gate { return &gate{up: up, open: make(chan struct{})} }

func (g *gate) source(ctx context.Context) (Dial, error) {
	select {
	case <-g.open:
		if g.err != nil {
			return nil, g.err
		}
		return g.up.Dial, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestHeldClientsGoOnTogether(t *testing.T) {
	const clients = 100
	g := newGate(nettest.Serve(t, nettest.Echo))
	r := run(t, Config{Source: g.source, Hold: nettest.Patience})
	var wg sync.WaitGroup
	for i := range clients {
		c := r.connect(t)
		wg.Go(func() {
			if err := nettest.TryRoundTrip(c, fmt.Sprintf("client %d", i)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	testwait.Eventually(t, "all are held", func() bool { return r.Status().Waiting == clients })
	if s := r.Status(); s.OldestWait.IsZero() || time.Since(s.OldestWait) > nettest.Patience {
		t.Errorf("OldestWait = %v", s.OldestWait)
	}
	opened := time.Now()
	close(g.open)
	wg.Wait()
	testwait.Soon(t, "what the held clients need to go on", time.Since(opened), 5*time.Second)
	if s := r.Status(); s.Waiting != 0 || !s.OldestWait.IsZero() || s.LastError != nil {
		t.Errorf("status = %+v", s)
	}
	for _, e := range r.of(EventConnected) {
		if e.Waited <= 0 {
			t.Errorf("connected event = %+v, want the time waited", e)
		}
	}
}

func TestHoldEnds(t *testing.T) {
	g := newGate(nettest.Serve(t, nettest.Echo))
	r := run(t, Config{Source: g.source, Hold: 100 * time.Millisecond})
	c := r.connect(t)
	fmt.Fprint(c, "startup message")
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("client reads %q, %v; want a clean end", b, err)
	}
	refused := r.await(t, EventRefused, 1)[0]
	if !errors.Is(refused.Err, ErrHoldEnded) || refused.Waited < 100*time.Millisecond {
		t.Errorf("refused event = %+v", refused)
	}
	if s := r.Status(); !errors.Is(s.LastError, ErrHoldEnded) || s.Waiting != 0 {
		t.Errorf("status = %+v", s)
	}
}

func TestHoldEndsWithSourcesOwnWords(t *testing.T) {
	why := errors.New("login of alice is open")
	r := run(t, Config{Hold: 50 * time.Millisecond, Source: func(ctx context.Context) (Dial, error) {
		<-ctx.Done()
		return nil, why
	}})
	r.connect(t)
	err := r.await(t, EventRefused, 1)[0].Err
	if !errors.Is(err, ErrHoldEnded) || !errors.Is(err, why) {
		t.Errorf("refused with %v", err)
	}
}

func TestNoHoldStillLeavesTimeToMint(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: func(ctx context.Context) (Dial, error) {
		select {
		case <-time.After(50 * time.Millisecond):
			return up.Dial, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	nettest.RoundTrip(t, r.connect(t), "hello")
}

func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		during string // "hold" or "dial"
		hangUp func(*net.TCPConn)
	}{
		{"silent_in_hold", "hold", func(c *net.TCPConn) { c.Close() }},
		{"after_startup_in_hold", "hold", func(c *net.TCPConn) { fmt.Fprint(c, "startup"); c.Close() }},
		{"reset_in_hold", "hold", func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }},
		{"silent_in_dial", "dial", func(c *net.TCPConn) { c.Close() }},
		{"reset_in_dial", "dial", func(c *net.TCPConn) { fmt.Fprint(c, "startup"); _ = c.SetLinger(0); c.Close() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entered := make(chan struct{}, 1)
			var ended atomic.Int64
			stall := func(ctx context.Context) error {
				entered <- struct{}{}
				<-ctx.Done()
				ended.Add(1)
				return ctx.Err()
			}
			r := run(t, Config{Hold: time.Minute, Source: func(ctx context.Context) (Dial, error) {
				if tt.during == "hold" {
					return nil, stall(ctx)
				}
				return func(ctx context.Context) (net.Conn, error) { return nil, stall(ctx) }, nil
			}})
			c := r.connect(t)
			<-entered
			if tt.during == "hold" {
				r.await(t, EventWaiting, 1)
			}
			tt.hangUp(c)
			closed := r.await(t, EventClosed, 1)[0]
			if !errors.Is(closed.Err, ErrClientGone) {
				t.Errorf("closed event says %v, want ErrClientGone", closed.Err)
			}
			if ended.Load() != 1 {
				t.Error("the context was not ended")
			}
			if s := r.Status(); s.LastError != nil || s.Waiting != 0 {
				t.Errorf("status = %+v", s)
			}
		})
	}
}

func TestClientHangsUpJustBeforeItIsHeld(t *testing.T) {
	// The end of a client that has sent something looks like a half-close
	// until it turns out that the client would have to wait.
	g := newGate(nettest.Serve(t, nettest.Echo))
	r := run(t, Config{Source: g.source, Hold: time.Minute})
	c := r.connect(t)
	fmt.Fprint(c, "startup")
	c.Close()
	closed := r.await(t, EventClosed, 1)[0]
	if !errors.Is(closed.Err, ErrClientGone) {
		t.Errorf("closed event says %v, want ErrClientGone", closed.Err)
	}
}

func TestSilentClientIsServed(t *testing.T) {
	// In MySQL the server speaks first.
	up := nettest.Serve(t, func(c *net.TCPConn) { fmt.Fprint(c, "8.0.0"); nettest.Echo(c) })
	r := run(t, Config{Source: source(up)})
	c := r.connect(t)
	greeting := make([]byte, 5)
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != "8.0.0" {
		t.Fatalf("greeting %q, %v", greeting, err)
	}
	nettest.RoundTrip(t, c, "hello")
}

func TestRefuse(t *testing.T) {
	why := errors.New("no such database")
	tests := []struct {
		name   string
		source Source
	}{
		{"source_fails", func(context.Context) (Dial, error) { return nil, why }},
		{"dial_fails", func(context.Context) (Dial, error) {
			return func(context.Context) (net.Conn, error) { return nil, why }, nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, Config{
				Source: func(ctx context.Context) (Dial, error) {
					wake.Sleep(ctx, 30*time.Millisecond) // the first bytes are read ahead
					return tt.source(ctx)
				},
				Refuse: func(c net.Conn, err error) {
					hello := make([]byte, 10)
					_, readErr := io.ReadFull(c, hello)
					fmt.Fprintf(c, "%s: %v (%v)", hello, errors.Is(err, why), readErr)
				},
			})
			c := r.connect(t)
			fmt.Fprint(c, "hello")
			testwait.Moment()
			fmt.Fprint(c, "there and more than Refuse reads")
			got, err := io.ReadAll(c)
			if err != nil || string(got) != "hellothere: true (<nil>)" {
				t.Errorf("client reads %q, %v", got, err)
			}
			c.Close()
			if e := r.await(t, EventRefused, 1)[0]; !errors.Is(e.Err, why) {
				t.Errorf("refused event says %v", e.Err)
			}
			if s := r.Status(); !errors.Is(s.LastError, why) || s.LastErrorAt.IsZero() {
				t.Errorf("status = %+v", s)
			}
		})
	}
}

func TestStopRefusesHeldClients(t *testing.T) {
	g := newGate(nettest.Serve(t, nettest.Echo))
	var told atomic.Value
	r := run(t, Config{Source: g.source, Hold: time.Minute, Grace: time.Minute,
		Refuse: func(_ net.Conn, err error) { told.Store(err) }})
	c := r.connect(t)
	r.await(t, EventWaiting, 1)
	go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
	r.stop()
	if err, _ := told.Load().(error); !errors.Is(err, ErrStopped) {
		t.Errorf("the client got %v, want ErrStopped", err)
	}
	if s := r.Status(); s.LastError != nil {
		t.Errorf("stopping is reported as an error: %v", s.LastError)
	}
}

// TestHoldWait: a client counts as held from the moment on that its wait is a
// long one, and is given the reason that ended it.
func TestHoldWait(t *testing.T) {
	denied, left := errors.New("access denied"), errors.New("it left")
	for _, test := range []struct {
		name   string
		takes  time.Duration // until source answers
		answer error         // of source; nil after its ctx has ended means the ctx's error
		leaves time.Duration // when the client hangs up
		held   bool
		want   []error
	}{
		{name: "at_once"},
		{name: "soon", takes: HeldAfter / 2},
		{name: "after_a_login", takes: 5 * time.Second, held: true},
		{name: "denied", takes: HeldAfter / 2, answer: denied, want: []error{denied}},
		{name: "denied_after_a_while", takes: 5 * time.Second, answer: denied, held: true, want: []error{denied}},
		{name: "no_login", takes: time.Hour, held: true, want: []error{ErrHoldEnded}},
		{name: "no_login_with_a_reason", takes: time.Hour, answer: denied, held: true, want: []error{ErrHoldEnded, denied}},
		{name: "hangs_up", takes: time.Hour, leaves: 5 * time.Second, held: true, want: []error{left}},
		{name: "hangs_up_early", takes: time.Hour, leaves: HeldAfter / 2, want: []error{left}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.leaves > 0 {
					defer time.AfterFunc(test.leaves, func() { cancel(left) }).Stop()
				}
				var calls []string
				began := time.Now()
				waited, err := Hold{
					Limit: time.Minute,
					Begin: func(since time.Time) {
						if !since.Equal(began) {
							t.Errorf("held since %v, want since %v", since, began)
						}
						calls = append(calls, "begin")
					},
					End: func() { calls = append(calls, "end") },
				}.Wait(ctx, func(ctx context.Context) error {
					if !wake.Sleep(ctx, test.takes) && test.answer == nil {
						return ctx.Err()
					}
					return test.answer
				})
				if took := time.Since(began); waited != took || took > time.Minute {
					t.Errorf("waited %v of %v", waited, took)
				}
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("error %v, want %v", err, want)
					}
				}
				if (err == nil) != (len(test.want) == 0) {
					t.Errorf("error %v, want %v", err, test.want)
				}
				want := ""
				if test.held {
					want = "begin end"
				}
				if got := strings.Join(calls, " "); got != want {
					t.Errorf("called %q, want %q", got, want)
				}
			})
		})
	}
}
