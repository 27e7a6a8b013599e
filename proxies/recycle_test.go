package proxies

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// turns is a Rest of lines: each is answered by one.
type turns struct{ due int }

func (t *turns) Client(said []byte) { t.due += len(said) }
func (t *turns) Server(said []byte) { t.due -= len(said) }
func (t *turns) AtRest() bool       { return t.due == 0 }
func (*turns) Farewell() []byte     { return []byte("bye\n") }

// endingAt is a source of connections whose cert ends then.
func endingAt(up *nettest.Server, end time.Time) Source {
	return func(context.Context) (Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			conn, err := up.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return Ending(conn, end), nil
		}, nil
	}
}

// TestNextLook: no look comes later than the moment at which a rest is long enough,
// also across the borders at which a shorter one will do, and none is needless.
func TestNextLook(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ left, silent, want time.Duration }{
		{time.Minute, 0, 1200 * time.Millisecond},
		{time.Minute, time.Second, 200 * time.Millisecond},
		{time.Minute, time.Hour, 1200 * time.Millisecond}, // a transaction is open
		{10*time.Second + 50*time.Millisecond, 0, 50 * time.Millisecond},
		{10 * time.Second, 0, 600 * time.Millisecond},
		{10 * time.Second, 500 * time.Millisecond, 100 * time.Millisecond},
		{2*time.Second + 30*time.Millisecond, time.Hour, 30 * time.Millisecond},
		{2 * time.Second, 0, 10 * time.Millisecond},
		{2 * time.Second, 4 * time.Millisecond, 6 * time.Millisecond},
		{4 * time.Millisecond, time.Hour, 4 * time.Millisecond},
	} {
		if got := nextLook(test.left, test.silent); got != test.want {
			t.Errorf("%s before the end, %s silent: the next look is in %s, want %s", test.left, test.silent, got, test.want)
		}
	}
}

// minutes is a Rest that notes who spoke, in the order in which it heard of it.
type minutes struct {
	mu  sync.Mutex
	who []string
}

func (m *minutes) Client([]byte)  { m.note("client") }
func (m *minutes) Server([]byte)  { m.note("server") }
func (*minutes) AtRest() bool     { return false }
func (*minutes) Farewell() []byte { return nil }

func (m *minutes) note(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.who = append(m.who, who)
}

func (m *minutes) noted() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.who)
}

// lateFront is a client whose Write returns only after order has heard the client again,
// or it is over.
type lateFront struct {
	Front
	order *minutes
	over  <-chan struct{}
}

func (f *lateFront) Write(answer []byte) (int, error) {
	before := len(f.order.noted())
	n, err := f.Front.Write(answer)
	testwait.Until(func() bool {
		select {
		case <-f.over:
			return true
		default:
			return slices.Contains(f.order.noted()[before:], "client")
		}
	})
	return n, err
}

// TestRestHearsInOrder: a client that asks again before the write of its answer has
// returned is heard after that answer. In the other order a follower of MySQL takes the
// first command for a password, and the connection is never at rest again.
func TestRestHearsInOrder(t *testing.T) {
	t.Parallel()
	up := nettest.Serve(t, nettest.Echo)
	order, over := &minutes{}, make(chan struct{})
	r := run(t, Config{
		Source:  endingAt(up, time.Now().Add(time.Hour)),
		Recycle: func(time.Time) Rest { return order },
		Front:   func(c *net.TCPConn, said []byte) Front { return &lateFront{&bare{c, said}, order, over} },
	})
	c := r.connect(t)
	for range 3 {
		nettest.RoundTrip(t, c, "ask")
	}
	close(over) // for the last answer
	if who := strings.Join(order.noted(), " "); who != "client server client server client server" {
		t.Errorf("it heard of %s", who)
	}
}

// TestBusyConnectionIsRecycled: a client that asks again as soon as it has its
// answer finds the farewell right behind one. It is tried again where the machine was
// so slow that the connection was at rest.
func TestBusyConnectionIsRecycled(t *testing.T) {
	t.Parallel()
	for range 25 {
		if busyUntilTheEnd(t) {
			return
		}
	}
	t.Error("the farewell came behind no answer, 25 times")
}

// busyUntilTheEnd reports whether the farewell came behind an answer, and not in place of
// one.
func busyUntilTheEnd(t *testing.T) bool {
	t.Helper()
	up := nettest.Serve(t, nettest.Echo)
	end := time.Now().Add(recycleLast + 200*time.Millisecond)
	r := run(t, Config{
		Source:  endingAt(up, end),
		Recycle: func(time.Time) Rest { return &turns{} },
		Renewed: func(time.Time) bool { return true },
	})
	c := r.connect(t)
	in := bufio.NewReader(c)
	behind := ""
	for behind == "" {
		if _, err := c.Write([]byte("ask\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := in.ReadString('\n')
		if answer == "bye\n" {
			return false
		}
		if err != nil || answer != "ask\n" {
			t.Fatalf("a question is answered by %q, %v", answer, err)
		}
		if time.Until(end) <= 0 { // the machine was too slow for a farewell
			return false
		}
		if in.Buffered() > 0 {
			behind, _ = in.ReadString('\n') // it is there
		}
	}
	left := time.Until(end)
	if left <= 0 { // it may have come in time, and was read late
		return false
	}
	if behind != "bye\n" || left > recycleNow {
		t.Errorf("%q comes %s before the end", behind, left)
	}
	if closed := r.await(t, EventClosed, 1)[0]; !errors.Is(closed.Err, ErrRecycled) {
		t.Errorf("it ended with %v", closed.Err)
	}
	return true
}

// TestLeftConnectionIsRecycled: a connection that stays with a process whose place
// another one has taken gets its farewell at rest, and is not cut at the end of its cert.
func TestLeftConnectionIsRecycled(t *testing.T) {
	t.Parallel()
	up := nettest.Serve(t, nettest.Echo)
	end := time.Now().Add(recycleLead / 2)
	r := run(t, Config{
		Source:  endingAt(up, end),
		Recycle: func(time.Time) Rest { return &turns{} },
		Renewed: func(time.Time) bool { return false }, // it gives up its credential as it leaves
	})
	c := r.connect(t)
	if _, err := c.Write([]byte("ask\n")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if answer, err := in.ReadString('\n'); err != nil || answer != "ask\n" {
		t.Fatalf("a question is answered by %q, %v", answer, err)
	}
	<-r.Leave(nettest.Patience, nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.stop()
	}()
	said, err := in.ReadString('\n')
	if left := time.Until(end); err != nil || said != "bye\n" || left <= 0 {
		t.Errorf("it reads %q, %v, %s before the end of its cert", said, err, left)
	}
	<-stopped
}

// TestRecycleAfterASleep: hours before its cert's end the machine goes to sleep, and timers
// stand still with it.
func TestRecycleAfterASleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		c := &conn{t: &Tunnel{cfg: Config{Renewed: func(time.Time) bool { looks++; return false }}}, ends: time.Now().Add(5 * time.Hour)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.recycle(ctx)
		synctest.Wait()
		sleepUntil(c, recycleLead)
		time.Sleep(clockPoll + time.Second)
		synctest.Wait()
		if looks == 0 {
			t.Error("the end of the cert is near, and the connection does not look for a new one")
		}
	})
}

// sleepUntil lets so much time be left when the machine awakes. The connection, in whose
// bubble it is, waits meanwhile, which the race detector does not know.
//
//go:norace
func sleepUntil(c *conn, left time.Duration) { c.ends = time.Now().Add(left) }
