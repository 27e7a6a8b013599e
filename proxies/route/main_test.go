package route

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies"
	"berth/proxies/internal/nettest"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		runChild(mode)
		return
	}
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// running is a tunnel being run.
type running struct {
	*proxies.Tunnel
	ends chan proxies.Event
	stop func() // ends Run and waits for it
}

// run runs a tunnel on a free port, whose clients are dialled with dial, until
// the test ends.
func run(t testing.TB, dial proxies.Dial) *running {
	t.Helper()
	r := &running{ends: make(chan proxies.Event, 1)}
	r.Tunnel = proxies.New(proxies.Config{
		Name:   "test",
		Source: func(context.Context) (proxies.Dial, error) { return dial, nil },
		OnEvent: func(e proxies.Event) {
			if e.Kind == proxies.EventClosed {
				select {
				case r.ends <- e:
				default: // a benchmark, which asks for none
				}
			}
		},
	})
	if err := r.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) addr() string { return r.Status().Addresses[0] }

// connect opens a client connection.
func (r *running) connect(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := nettest.Dial(t.Context(), r.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(nettest.Patience))
	return c.(*net.TCPConn)
}

// closed waits for the end of the first connection.
func (r *running) closed(t testing.TB) proxies.Event {
	t.Helper()
	select {
	case e := <-r.ends:
		return e
	case <-time.After(nettest.Patience):
		t.Fatal("no connection has ended")
		panic("unreachable")
	}
}
