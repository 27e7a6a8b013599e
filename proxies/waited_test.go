package proxies

import (
	"context"
	"io"
	"net"
	"testing"

	"berth/proxies/internal/nettest"
)

// due is an Ear to which an answer is due, or never is.
type due bool

func (due) Client([]byte)                            {}
func (due) Server(said []byte) ([]byte, bool, error) { return said, true, nil }
func (due) Ended() (bool, error)                     { return false, nil }
func (d due) AnswerDue() bool                        { return bool(d) }
func (due) Stranger() error                          { return nil }

// hungUp returns a Source of connections that wait for their client and on which
// the server hangs up after so many bytes, having said a word; again is dialled
// then.
func hungUp(t *testing.T, after int64, word string, again Dial) Source {
	t.Helper()
	first := nettest.Serve(t, func(c *net.TCPConn) {
		_, _ = io.CopyN(io.Discard, c, after)
		_, _ = io.WriteString(c, word)
	})
	return func(context.Context) (Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			conn, err := first.Dial(ctx)
			if err != nil {
				return nil, err
			}
			begun := make(chan piece)
			close(begun)
			return &handed{Conn: conn, begun: begun, again: again}, nil
		}, nil
	}
}

// TestHungUpOnWaited: a proxy that hangs up on a connection before its client's
// words arrive costs the client nothing.
func TestHungUpOnWaited(t *testing.T) {
	echo := nettest.Serve(t, nettest.Echo)
	for name, after := range map[string]int64{"before_a_word": 0, "after_some": 2, "after_all": 5} {
		t.Run(name, func(t *testing.T) {
			r := run(t, Config{
				Source: hungUp(t, after, "", echo.Dial),
				Listen: func() Ear { return due(true) },
				Refuse: func(_ net.Conn, err error) { t.Errorf("the client is refused: %v", err) },
			})
			c := r.connect(t)
			nettest.RoundTrip(t, c, "hello")
			nettest.RoundTrip(t, c, "again")
			_ = c.Close()
			if e := r.await(t, EventClosed, 1)[0]; e.Err != nil || e.BytesIn != 10 || e.BytesOut != 10 {
				t.Errorf("closed: %+v", e)
			}
		})
	}
}

// TestHungUpForGood: what has answered, and what no answer is due from, is not
// tried again.
func TestHungUpForGood(t *testing.T) {
	for name, test := range map[string]struct {
		word string
		due  due
	}{"answered": {"no", true}, "as_it_should": {"", false}} {
		t.Run(name, func(t *testing.T) {
			r := run(t, Config{
				Source: hungUp(t, 5, test.word, func(context.Context) (net.Conn, error) {
					t.Error("it is dialled for again")
					return nil, io.EOF
				}),
				Listen: func() Ear { return test.due },
			})
			c := r.connect(t)
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != test.word {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}
