//go:build unix

package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// duplicate is what another process gets of a socket.
func duplicate(t *testing.T, c *net.TCPConn) *net.TCPConn {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dup, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return dup.(*net.TCPConn)
}

// inherited is a set with duplicates of all sockets in use of another.
func inherited(t *testing.T, from *Sockets) *Sockets {
	t.Helper()
	s := NewSockets(nil, nil)
	for _, l := range from.InUse() {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		dup, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		s.Inherit(dup.(*net.TCPListener))
	}
	return s
}

func TestHeldClientsMove(t *testing.T) {
	t.Parallel()
	g := newGate(nettest.Serve(t, nettest.Echo))
	sockets := NewSockets(nil, nil)
	r := run(t, Config{Source: g.source, Hold: nettest.Patience, Sockets: sockets})
	next := run(t, Config{Source: g.source, Hold: nettest.Patience})
	clients := make([]net.Conn, 20)
	for i := range clients {
		clients[i] = r.connect(t)
		if i%2 == 0 { // the others wait for the server to speak first
			fmt.Fprint(clients[i], "said early, ")
		}
	}
	testwait.Eventually(t, "all are held", func() bool { return r.Status().Waiting == len(clients) })
	r.Leave(nettest.Patience, func(c *net.TCPConn, said []byte) error {
		next.Adopt(duplicate(t, c), said)
		return nil
	})
	if s := r.Status(); s.Connections != 0 && s.Waiting != 0 {
		t.Errorf("after Leave the tunnel has %+v", s)
	}
	testwait.Eventually(t, "the other one holds them", func() bool { return next.Status().Waiting == len(clients) })
	if n, here := r.Status().TotalConnections, next.Status().TotalConnections; n != int64(len(clients)) || here != 0 {
		t.Errorf("%d clients are counted, and %d again where they went", n, here)
	}
	for i, c := range clients {
		if i%2 == 0 {
			fmt.Fprint(c, "said late")
		}
	}
	close(g.open)
	for i, c := range clients {
		if i%2 != 0 {
			nettest.RoundTrip(t, c, "hello")
			continue
		}
		buf := make([]byte, len("said early, said late"))
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "said early, said late" {
			t.Errorf("client %d heard %q, %v", i, buf, err)
		}
	}
	for _, e := range r.of(EventClosed) {
		if !errors.Is(e.Err, errMoved) {
			t.Errorf("closed with %v, want ErrMoved", e.Err)
		}
	}
}

// stuck is a client's Front that cannot be handed over.
type stuck struct{ *bare }

func (stuck) Unread() ([]byte, bool) { return nil, false }

func TestClientsThatCannotMoveStay(t *testing.T) {
	g := newGate(nettest.Serve(t, nettest.Echo))
	r := run(t, Config{Source: g.source, Hold: nettest.Patience, Front: func(c *net.TCPConn, said []byte) Front {
		return stuck{&bare{c, said}}
	}})
	c := r.connect(t)
	fmt.Fprint(c, "a")
	testwait.Eventually(t, "it is held", func() bool { return r.Status().Waiting == 1 })
	left := make(chan struct{})
	go func() {
		defer close(left)
		<-r.Leave(nettest.Patience, func(*net.TCPConn, []byte) error { t.Error("moved"); return nil })
	}()
	testwait.Eventually(t, "the port is released", func() bool { return len(r.Status().Addresses) == 0 })
	fmt.Fprint(c, "b")
	close(g.open)
	buf := make([]byte, 2)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ab" {
		t.Errorf("heard %q, %v", buf, err)
	}
	<-left
}

func TestClientThatNoProcessTakesIsRefused(t *testing.T) {
	t.Parallel()
	g := newGate(nettest.Serve(t, nettest.Echo))
	r := run(t, Config{Source: g.source, Hold: nettest.Patience, Refuse: func(c net.Conn, err error) {
		fmt.Fprint(c, errors.Is(err, ErrStopped))
	}})
	c := r.connect(t)
	testwait.Eventually(t, "it is held", func() bool { return r.Status().Waiting == 1 })
	r.Leave(nettest.Patience, func(*net.TCPConn, []byte) error { return io.ErrClosedPipe })
	if said, err := io.ReadAll(c); string(said) != "true" || err != nil {
		t.Errorf("the client heard %q, %v, want its refusal", said, err)
	}
}

// TestOpenConnectionsOutliveLeave: also those at rest, until the grace is over.
func TestOpenConnectionsOutliveLeave(t *testing.T) {
	t.Parallel()
	r := run(t, Config{Source: source(nettest.Serve(t, nettest.Echo))})
	c := r.connect(t)
	nettest.RoundTrip(t, c, "before")
	const grace = 30 * restAfter
	r.Leave(grace, nil)
	stopped := time.Now()
	go r.stop()
	time.Sleep(restAfter + restAfter/2) // a drain without Leave would have closed it
	nettest.RoundTrip(t, c, "after")
	r.stop()
	if took := time.Since(stopped); took < grace {
		t.Errorf("the connection ended after %v, before the grace", took)
	}
}

// TestNoConnectIsRefused: clients come all the time while one tunnel takes the
// other's place, ten times.
func TestNoConnectIsRefused(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	sockets := NewSockets(nil, nil)
	cfg := Config{Source: source(up), Sockets: sockets}
	r := run(t, cfg)
	addr := r.addr()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(nettest.Patience))
				if err := nettest.TryRoundTrip(c, "hello"); err != nil {
					t.Errorf("round trip: %v", err)
				}
				_ = c.Close()
			}
		})
	}
	for range 10 {
		cfg.Port = r.port.listeners[0].Addr().(*net.TCPAddr).Port
		cfg.Sockets = inherited(t, sockets)
		next := run(t, cfg)
		calm := r.Leave(nettest.Patience, func(c *net.TCPConn, said []byte) error {
			next.Adopt(duplicate(t, c), said)
			return nil
		})
		<-calm
		r.stop()
		r, sockets = next, cfg.Sockets
	}
	cancel()
	clients.Wait()
}

func TestSpareSocketsAreClosed(t *testing.T) {
	from := NewSockets(nil, nil)
	l, err := from.listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var released []string
	s := NewSockets(nil, func(l *net.TCPListener) { released = append(released, l.Addr().String()) })
	s.Inherit(inherited(t, from).spare[l.Addr().String()])
	_ = l.Close()
	s.CloseSpare()
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the address is still listened on")
	}
	if len(released) != 1 || released[0] != l.Addr().String() {
		t.Errorf("released %v", released)
	}
}
