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

// TestBusyConnectionIsRecycled: a client that asks again as soon as it has its
// answer finds the farewell right behind one, and has lost no answer.
func TestBusyConnectionIsRecycled(t *testing.T) {
	t.Parallel()
	up := nettest.Serve(t, nettest.Echo)
	end := time.Now().Add(recycleNow + 300*time.Millisecond)
	r := run(t, Config{
		Source: func(context.Context) (Dial, error) {
			return func(ctx context.Context) (net.Conn, error) {
				conn, err := up.Dial(ctx)
				if err != nil {
					return nil, err
				}
				return Ending(conn, end), nil
			}, nil
		},
		Recycle: func(time.Time) Rest { return &turns{} },
		Renewed: func(time.Time) bool { return true },
	})
	c := r.connect(t)
	in := bufio.NewReader(c)
	for last := ""; last != "bye\n"; {
		if _, err := c.Write([]byte("ask\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := in.ReadString('\n')
		if err != nil || answer != "ask\n" {
			t.Fatalf("a question is answered by %q, %v", answer, err)
		}
		last = ""
		if in.Buffered() > 0 {
			last, _ = in.ReadString('\n') // it is there
		}
	}
	if left := time.Until(end); left <= 0 || left > recycleNow {
		t.Errorf("recycled %s before the end", left)
	}
	if closed := r.await(t, EventClosed, 1)[0]; !errors.Is(closed.Err, ErrRecycled) {
		t.Errorf("it ended with %v", closed.Err)
	}
}
