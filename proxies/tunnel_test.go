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
	"syscall"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/internal/wake"
	"berth/proxies/internal/nettest"
)

func TestForwardsBothWays(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up)})
	c := r.connect(t)
	nettest.RoundTrip(t, c, "hello")
	nettest.RoundTrip(t, c, strings.Repeat("x", 300_000))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("after half-close: %q, %v", rest, err)
	}
	closed := r.await(t, EventClosed, 1)[0]
	if closed.Err != nil || closed.BytesIn != 300_005 || closed.BytesOut != 300_005 {
		t.Errorf("closed event = %+v", closed)
	}
	testwait.Eventually(t, "no connection is left", func() bool { return r.Status().Connections == 0 })
	s := r.Status()
	if s.BytesIn != 300_005 || s.BytesOut != 300_005 || s.TotalConnections != 1 ||
		s.LastError != nil {
		t.Errorf("status = %+v", s)
	}
}

func TestListensOnBothLoopbacks(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up)})
	s, want := r.Status(), 2
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Logf("this machine has no ::1: %v", err)
		want = 1
	} else {
		l.Close()
	}
	if len(s.Addresses) != want {
		t.Fatalf("status = %+v, want %d addresses", s, want)
	}
	for _, addr := range s.Addresses {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		nettest.RoundTrip(t, c, "hello")
		c.Close()
	}
}

func TestHalfCloses(t *testing.T) {
	// The upstream answers only once the client has said all it has to say.
	up := nettest.Serve(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %d", len(all))
	})
	for _, slowDial := range []time.Duration{0, 100 * time.Millisecond} {
		t.Run(fmt.Sprintf("dial_takes_%v", slowDial), func(t *testing.T) {
			r := run(t, Config{Source: func(context.Context) (Dial, error) {
				return func(ctx context.Context) (net.Conn, error) {
					wake.Sleep(ctx, slowDial)
					return up.Dial(ctx)
				}, nil
			}})
			c := r.connect(t)
			fmt.Fprint(c, "request")
			_ = c.CloseWrite()
			got, err := io.ReadAll(c)
			if err != nil || string(got) != "got 7" {
				t.Fatalf("got %q, %v", got, err)
			}
		})
	}
}

func TestUpstreamEnds(t *testing.T) {
	tests := []struct {
		name       string
		handle     func(*net.TCPConn)
		wantClient error // nil means EOF
		wantErr    error
	}{
		{"clean_end", func(c *net.TCPConn) { fmt.Fprint(c, "bye") }, nil, nil},
		{"no_answer", func(*net.TCPConn) {}, nil, ErrClosedEarly},
		{"reset", func(c *net.TCPConn) {
			fmt.Fprint(c, "bye")
			testwait.Moment() // the reset must not overtake the data
			_ = c.SetLinger(0)
		}, syscall.ECONNRESET, syscall.ECONNRESET},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			up := nettest.Serve(t, tt.handle)
			r := run(t, Config{Source: source(up)})
			c := r.connect(t)
			_, err := io.Copy(io.Discard, c)
			if !errors.Is(err, tt.wantClient) {
				t.Errorf("client reads %v, want %v", err, tt.wantClient)
			}
			c.Close()
			closed := r.await(t, EventClosed, 1)[0]
			if !errors.Is(closed.Err, tt.wantErr) {
				t.Errorf("closed event says %v, want %v", closed.Err, tt.wantErr)
			}
			if s := r.Status(); !errors.Is(s.LastError, tt.wantErr) {
				t.Errorf("LastError = %v, want %v", s.LastError, tt.wantErr)
			}
		})
	}
}

func TestUpstreamHalfClose(t *testing.T) {
	// The upstream has no more to say, but still listens.
	var got atomic.Value
	up := nettest.Serve(t, func(c *net.TCPConn) {
		fmt.Fprint(c, "greeting")
		_ = c.CloseWrite()
		all, _ := io.ReadAll(c)
		got.Store(string(all))
	})
	r := run(t, Config{Source: source(up)})
	c := r.connect(t)
	if b, err := io.ReadAll(c); err != nil || string(b) != "greeting" {
		t.Fatalf("read %q, %v", b, err)
	}
	fmt.Fprint(c, "last words")
	c.Close()
	r.await(t, EventClosed, 1)
	testwait.Eventually(t, "the upstream has all", func() bool { return got.Load() == "last words" })
}

func TestClientResets(t *testing.T) {
	ended := make(chan struct{})
	up := nettest.Serve(t, func(c *net.TCPConn) {
		nettest.Echo(c)
		close(ended)
	})
	r := run(t, Config{Source: source(up)})
	c := r.connect(t)
	nettest.RoundTrip(t, c, "hello")
	_ = c.SetLinger(0)
	c.Close()
	<-ended
	closed := r.await(t, EventClosed, 1)[0]
	var broken *ConnError
	if !errors.As(closed.Err, &broken) || broken.Side != SideClient {
		t.Errorf("closed event says %v, want a client error", closed.Err)
	}
	if s := r.Status(); s.LastError != nil {
		t.Errorf("a client's reset is reported as the tunnel's error: %v", s.LastError)
	}
}

func TestHalfOpenIsBounded(t *testing.T) {
	// An upstream that ignores the client's end must not be kept for ever.
	testDone := make(chan struct{})
	up := nettest.Serve(t, func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		<-testDone
	})
	t.Cleanup(func() { close(testDone) })
	tun, ev := newTunnel(Config{Source: source(up)})
	tun.halfOpenIdle = 50 * time.Millisecond
	if err := tun.Bind(); err != nil {
		t.Fatal(err)
	}
	r := runBound(t, tun, ev)
	c := r.connect(t)
	c.Close()
	r.await(t, EventClosed, 1)
}

func TestEagerClientKeepsOrder(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	release := make(chan struct{})
	r := run(t, Config{Hold: nettest.Patience, Source: func(ctx context.Context) (Dial, error) {
		select {
		case <-release:
			return up.Dial, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	var want strings.Builder
	for i := range 20_000 { // more than is read ahead
		fmt.Fprintf(&want, "line %d\n", i)
	}
	c := r.connect(t)
	var sending sync.WaitGroup
	sending.Go(func() {
		for s := want.String(); len(s) > 0; {
			n := min(777, len(s))
			if _, err := io.WriteString(c, s[:n]); err != nil {
				t.Error(err)
				return
			}
			s = s[n:]
		}
		_ = c.CloseWrite()
	})
	r.await(t, EventWaiting, 1)
	close(release)
	got, err := io.ReadAll(c)
	sending.Wait()
	if err != nil || string(got) != want.String() {
		t.Fatalf("got %d bytes, %v; want %d in order", len(got), err, want.Len())
	}
}

func TestCloseConnections(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up)})
	a, b := r.connect(t), r.connect(t)
	nettest.RoundTrip(t, a, "a")
	nettest.RoundTrip(t, b, "b")
	r.CloseConnections()
	for _, c := range []net.Conn{a, b} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still open")
		}
	}
	for _, e := range r.await(t, EventClosed, 2) {
		if !errors.Is(e.Err, ErrClosed) {
			t.Errorf("closed event says %v, want ErrClosed", e.Err)
		}
	}
	nettest.RoundTrip(t, r.connect(t), "c") // the tunnel goes on
}

// TestDrain: a tunnel that ends lets answers end, and keeps no client that is owed
// none.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		grace   time.Duration
		asks    bool // the client waits for an answer when the tunnel ends
		answers bool // and gets it
		want    error
	}{
		"answered_in_time":   {nettest.Patience, true, true, ErrStopped},
		"client_ends":        {nettest.Patience, true, true, nil},
		"not_answered":       {50 * time.Millisecond, true, false, ErrStopped},
		"nobody_is_owed_one": {nettest.Patience, false, false, ErrStopped},
		"no_grace":           {0, true, false, ErrStopped},
	} {
		t.Run(name, func(t *testing.T) {
			answer := make(chan struct{})
			up := nettest.Serve(t, func(c *net.TCPConn) {
				buf := make([]byte, 16)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if string(buf[:n]) == "slow" {
						<-answer
					}
					_, _ = c.Write(buf[:n])
				}
			})
			t.Cleanup(sync.OnceFunc(func() { close(answer) }))
			tun, ev := newTunnel(Config{Source: source(up), Grace: tc.grace})
			if tc.want == nil {
				tun.restAfter = nettest.Patience // the client ends first, however slow the machine is
			}
			if err := tun.Bind(); err != nil {
				t.Fatal(err)
			}
			r := runBound(t, tun, ev)
			addr := r.addr()
			c := r.connect(t)
			nettest.RoundTrip(t, c, "before")
			if tc.asks {
				fmt.Fprint(c, "slow")
				testwait.Eventually(t, "the question is passed on", func() bool { return r.Status().BytesOut == int64(len("beforeslow")) })
			}
			stopped := make(chan struct{})
			began := time.Now()
			go func() {
				defer close(stopped)
				r.stop()
			}()
			<-r.Released()
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Error("something listens")
			}
			if tc.answers {
				time.Sleep(2 * restAfter) // it is not at rest
				answer <- struct{}{}
				got := make([]byte, 4)
				if _, err := io.ReadFull(c, got); err != nil || string(got) != "slow" {
					t.Errorf("the answer is %q, %v", got, err)
				}
			}
			if tc.want == nil {
				c.Close()
			}
			<-stopped
			if took := time.Since(began); took > nettest.Patience-time.Second {
				t.Errorf("it took %v", took)
			}
			if closed := r.of(EventClosed); len(closed) != 1 || !errors.Is(closed[0].Err, tc.want) {
				t.Errorf("closed events = %v, want one with %v", closed, tc.want)
			}
		})
	}
}

func TestRunTwice(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up)})
	nettest.RoundTrip(t, r.connect(t), "hello") // so it runs
	if err := r.Run(t.Context()); err == nil {
		t.Error("the second Run returned nil")
	}
}

func TestRunEndedContextUnbinds(t *testing.T) {
	tun, _ := newTunnel(Config{Source: func(context.Context) (Dial, error) { return nil, io.EOF }})
	if err := tun.Bind(); err != nil {
		t.Fatal(err)
	}
	addr := tun.Status().Addresses[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tun.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the port is still bound")
	}
	if err := tun.Bind(); !errors.Is(err, ErrStopped) {
		t.Errorf("Bind() after Run = %v, want ErrStopped", err)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	const clients = 500
	up := nettest.Serve(t, nettest.Echo)
	r := run(t, Config{Source: source(up)})
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range clients {
		wg.Go(func() {
			c, err := net.Dial("tcp", r.addr())
			if err == nil {
				err = nettest.TryRoundTrip(c, fmt.Sprintf("client %d", i))
				c.Close()
			}
			if err != nil {
				failed.Add(1)
				t.Logf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d clients failed", n, clients)
	}
	r.await(t, EventClosed, clients)
	if s := r.Status(); s.TotalConnections != clients {
		t.Errorf("TotalConnections = %d, want %d", s.TotalConnections, clients)
	}
}

func TestOneStalledTunnelAmongMany(t *testing.T) {
	const tunnels, rounds = 30, 20
	up := nettest.Serve(t, nettest.Echo)
	stalled := run(t, Config{Source: func(context.Context) (Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done() // a proxy that takes the connection and says nothing
			return nil, ctx.Err()
		}, nil
	}})
	var healthy []*running
	for range tunnels - 1 {
		healthy = append(healthy, run(t, Config{Source: source(up)}))
	}
	for range 50 {
		stalled.connect(t)
	}
	var wg sync.WaitGroup
	for _, r := range healthy {
		wg.Go(func() {
			for i := range rounds {
				c, err := net.Dial("tcp", r.addr())
				if err == nil {
					err = nettest.TryRoundTrip(c, fmt.Sprint("round ", i))
					c.Close()
				}
				if err != nil {
					t.Errorf("round %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for _, r := range healthy {
		if s := r.Status(); s.LastError != nil {
			t.Errorf("LastError = %v", s.LastError)
		}
	}
	testwait.Eventually(t, "the stalled tunnel to have its 50 connections", func() bool { return stalled.Status().Connections == 50 })
}
