package proxies

import (
	"bufio"
	"context"
	"errors"
	"net"
	"testing"
	"time"

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
		if in.Buffered() > 0 {
			behind, _ = in.ReadString('\n') // it is there
		}
	}
	if left := time.Until(end); behind != "bye\n" || left <= 0 || left > recycleNow {
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
