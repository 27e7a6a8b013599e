package proxies

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// TestMarkedAreClosed: what has a credential that should no longer be used is closed, a
// dial with it too, and clients that wait for the next one go on waiting.
func TestMarkedAreClosed(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	g := newGate(up)
	var src atomic.Pointer[Source]
	use := func(s Source) { src.Store(&s) }
	r := run(t, Config{Source: func(ctx context.Context) (Dial, error) { return (*src.Load())(ctx) }, Hold: nettest.Patience})

	use(source(up))
	open := r.connect(t)
	nettest.RoundTrip(t, open, "open")
	dials := make(chan struct{})
	use(func(context.Context) (Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			close(dials)
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil
	})
	dialling := r.connect(t)
	<-dials
	use(g.source)
	held := r.connect(t)
	testwait.Eventually(t, "the last one is held", func() bool { return r.Status().Waiting == 1 })

	r.MarkConnections()
	if s := r.Status(); s.Connections != 3 || s.Marked != 2 {
		t.Errorf("marked are %d of %d, want 2 of 3", s.Marked, s.Connections)
	}
	r.CloseMarked()
	for _, c := range []net.Conn{open, dialling} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a marked connection is still open")
		}
	}
	for _, e := range r.await(t, EventClosed, 2) {
		if !errors.Is(e.Err, ErrClosed) {
			t.Errorf("closed event says %v, want ErrClosed", e.Err)
		}
	}
	close(g.open)
	nettest.RoundTrip(t, held, "held")
	testwait.Eventually(t, "none is marked", func() bool { return r.Status().Marked == 0 })
}

// TestMarkedWhileSourceReturns: a credential that Source returns while connections are
// marked may be one of those that should no longer be used.
func TestMarkedWhileSourceReturns(t *testing.T) {
	up := nettest.Serve(t, nettest.Echo)
	asked, marked := make(chan struct{}), make(chan struct{})
	var calls, old atomic.Int32
	r := run(t, Config{Source: func(context.Context) (Dial, error) {
		if calls.Add(1) > 1 {
			return up.Dial, nil
		}
		close(asked)
		<-marked
		return func(ctx context.Context) (net.Conn, error) {
			old.Add(1)
			return up.Dial(ctx)
		}, nil
	}})
	c := r.connect(t)
	<-asked
	r.MarkConnections()
	close(marked)
	nettest.RoundTrip(t, c, "served")
	if old.Load() != 0 || r.Status().Marked != 0 {
		t.Errorf("dialled %d times with what may be the old credential; %d are marked", old.Load(), r.Status().Marked)
	}
}
