package proxies

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// source is a Source that dials the server at once.
func source(s *nettest.Server) Source {
	return func(context.Context) (Dial, error) { return s.Dial, nil }
}

// events collects what happened.
type events struct {
	mu   sync.Mutex
	list []Event
	wake chan struct{}
}

func newEvents() *events { return &events{wake: make(chan struct{}, 1)} }

func (e *events) add(ev Event) {
	e.mu.Lock()
	e.list = append(e.list, ev)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) of(kind EventKind) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []Event
	for _, ev := range e.list {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

// await returns the events of the kind once there are n of them.
func (e *events) await(t testing.TB, kind EventKind, n int) []Event {
	t.Helper()
	timeout := time.After(nettest.Patience)
	for {
		if found := e.of(kind); len(found) >= n {
			return found
		}
		select {
		case <-e.wake:
		case <-timeout:
			t.Fatalf("%d %q events, want %d; all: %v", len(e.of(kind)), kind, n, e.list)
		}
	}
}

// running is a tunnel being run.
type running struct {
	*Tunnel
	*events
	stop func() // ends Run and waits for it
}

// run binds a tunnel to a free port and runs it until the test ends.
func run(t testing.TB, cfg Config) *running {
	t.Helper()
	tun, ev := newTunnel(cfg)
	if err := tun.Bind(); err != nil {
		t.Fatal(err)
	}
	return runBound(t, tun, ev)
}

func newTunnel(cfg Config) (*Tunnel, *events) {
	ev := newEvents()
	cfg.Name = "test"
	cfg.OnEvent = ev.add
	return New(cfg), ev
}

func runBound(t testing.TB, tun *Tunnel, ev *events) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tun.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		case <-time.After(nettest.Patience):
			t.Error("Run has not returned")
		}
	})
	t.Cleanup(stop)
	return &running{tun, ev, stop}
}

func (r *running) addr() string { return r.Status().Addresses[0] }

// connect opens a client connection.
func (r *running) connect(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(nettest.Patience))
	return c.(*net.TCPConn)
}
