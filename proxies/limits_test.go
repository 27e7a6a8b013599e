package proxies

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// refusing words what a tunnel refuses.
func refusing(client net.Conn, err error) { _, _ = fmt.Fprintf(client, "refused: %v", err) }

// isRefused reads a client's refusal to its end.
func isRefused(t *testing.T, c net.Conn, limit Limit, most int) {
	t.Helper()
	said, err := io.ReadAll(c)
	if want := fmt.Sprintf("refused: the limit %s of %d is reached", limit, most); err != nil || string(said) != want {
		t.Errorf("the client reads %q, %v, want %q", said, err, want)
	}
}

// TestLimitsOfConnections: as many clients as the limits allow are served, the next
// one is refused in words, and another is served once one has left.
func TestLimitsOfConnections(t *testing.T) {
	t.Parallel()
	up := nettest.Serve(t, nettest.Echo)
	limits := NewLimits(func() Bounds { return Bounds{Connections: 3, TunnelConnections: 2, Held: 1} })
	cfg := Config{Source: newOpenGate(up).source, Hold: nettest.Patience, Limits: limits, Refuse: refusing}
	a, b := run(t, cfg), run(t, cfg)
	first := a.connect(t)
	for _, c := range []net.Conn{first, a.connect(t), b.connect(t)} {
		nettest.RoundTrip(t, c, "hello")
	}
	isRefused(t, a.connect(t), LimitTunnelConnections, 2)
	testwait.Eventually(t, "the refused one is gone", func() bool { return a.Status().Connections == 2 })
	isRefused(t, b.connect(t), LimitConnections, 3)
	if last, ok := errors.AsType[*LimitError](b.Status().LastError); !ok || last.Limit != LimitConnections {
		t.Errorf("the last error is %v", b.Status().LastError)
	}
	first.Close()
	testwait.Eventually(t, "there is room", func() bool { return a.Status().Connections+b.Status().Connections == 2 })
	nettest.RoundTrip(t, a.connect(t), "hello")
}

// TestLimitOfHeld: the client that would be one too many to wait is refused at
// once, and those that wait are served.
func TestLimitOfHeld(t *testing.T) {
	t.Parallel()
	g := newGate(nettest.Serve(t, nettest.Echo))
	limits := NewLimits(func() Bounds { return Bounds{Connections: 9, TunnelConnections: 9, Held: 2} })
	r := run(t, Config{Source: g.source, Hold: nettest.Patience, Limits: limits, Refuse: refusing})
	held := []net.Conn{r.connect(t), r.connect(t)}
	testwait.Eventually(t, "two are held", func() bool { return r.Status().Waiting == 2 })
	isRefused(t, r.connect(t), LimitHeld, 2)
	close(g.open)
	for _, c := range held {
		nettest.RoundTrip(t, c, "hello")
	}
	testwait.Eventually(t, "the refused one is counted no longer", func() bool {
		limits.mu.Lock()
		defer limits.mu.Unlock()
		return limits.held == 0 && limits.open == len(held)
	})
}

// TestFloodIsClosedWithoutAWord: what comes while many are being refused costs no
// more than its accept.
func TestFloodIsClosedWithoutAWord(t *testing.T) {
	release := make(chan struct{})
	limits := NewLimits(func() Bounds { return Bounds{Connections: 1, TunnelConnections: 1, Held: 1} })
	r := run(t, Config{
		Source: newOpenGate(nettest.Serve(t, nettest.Echo)).source, Hold: nettest.Patience, Limits: limits,
		Refuse: func(net.Conn, error) { <-release },
	})
	defer close(release)
	nettest.RoundTrip(t, r.connect(t), "hello")
	for range courtesy {
		r.connect(t)
	}
	testwait.Eventually(t, "all are being refused", func() bool { return r.Status().Connections == 1+courtesy })
	if _, err := r.connect(t).Read(make([]byte, 1)); err == nil {
		t.Error("the flood is answered")
	}
	testwait.Eventually(t, "the flood is kept no longer", func() bool { return r.Status().Connections == 1+courtesy })
}

func newOpenGate(up *nettest.Server) *gate {
	g := newGate(up)
	close(g.open)
	return g
}
