package proxies

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		runChild(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// upstream is a TCP server for Dial to reach, with a handler per connection.
type upstream struct {
	net.Listener
	wg sync.WaitGroup
}

func newUpstream(t testing.TB, handle func(*net.TCPConn)) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{Listener: l}
	u.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u.wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		u.wg.Wait()
	})
	return u
}

// source dials the upstream at once.
func (u *upstream) source(context.Context) (Dial, error) { return u.dial, nil }

func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", u.Addr().String())
}

// echo sends back what it gets, passing on the half-close.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
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
	timeout := time.After(patience)
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
		case <-time.After(patience):
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
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// roundTrip sends a message and wants it back.
func roundTrip(t testing.TB, c net.Conn, msg string) {
	t.Helper()
	if err := tryRoundTrip(c, msg); err != nil {
		t.Fatal(err)
	}
}

func tryRoundTrip(c net.Conn, msg string) error {
	if _, err := io.WriteString(c, msg); err != nil {
		return err
	}
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != msg {
		return errors.New("got " + string(got) + ", want " + msg)
	}
	return nil
}

// eventually waits for a claim to come true.
func eventually(t testing.TB, what string, claim func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !claim(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
