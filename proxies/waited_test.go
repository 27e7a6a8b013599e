package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/nettest"
)

// due is an Ear to which an answer is due, or never is.
type due bool

func (due) Client([]byte)                            {}
func (due) Server(said []byte) ([]byte, bool, error) { return said, true, nil }
func (due) Ended() (bool, error)                     { return false, nil }
func (d due) AnswerDue() bool                        { return bool(d) }
func (due) Probe() bool                              { return false }
func (due) Stranger() error                          { return nil }

// hungUp returns a Source of connections that have waited for their client and on
// which the server hangs up after so many bytes, having said a word. New ones are
// dialled with again.
func hungUp(t *testing.T, after int64, word string, again Dial) Source {
	t.Helper()
	first := nettest.Serve(t, func(c *net.TCPConn) {
		_, _ = io.CopyN(io.Discard, c, after)
		_, _ = io.WriteString(c, word)
	})
	return func(context.Context) (Dial, error) {
		return func(ctx context.Context) (net.Conn, error) {
			if ctx.Value(newOnly{}) != nil {
				return again(ctx)
			}
			conn, err := first.Dial(ctx)
			if err != nil {
				return nil, err
			}
			begun := make(chan piece)
			close(begun)
			return &handed{Conn: conn, begun: begun}, nil
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

// TestHungUpWhileAway: a client whose connection has ended without a word while the
// proxy is away is held as one that had none, and is free to leave.
func TestHungUpWhileAway(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves_%v", leaves), func(t *testing.T) {
			echo := nettest.Serve(t, nettest.Echo)
			var away atomic.Bool
			back := make(chan struct{})
			source := hungUp(t, 5, "", func(ctx context.Context) (net.Conn, error) {
				if away.CompareAndSwap(false, true) {
					return nil, io.ErrUnexpectedEOF
				}
				return echo.Dial(ctx)
			})
			r := run(t, Config{
				Source: func(ctx context.Context) (Dial, error) {
					if !away.Load() {
						return source(ctx)
					}
					select {
					case <-back:
						return source(ctx)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				},
				Hold:   time.Minute,
				Again:  func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) },
				Listen: func() Ear { return due(true) },
				Refuse: func(_ net.Conn, err error) { t.Errorf("the client is refused: %v", err) },
			})
			c := r.connect(t)
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			testwait.Eventually(t, "the client to be held", func() bool { return r.Status().Waiting == 1 })
			if leaves {
				_ = c.Close()
				if e := r.await(t, EventClosed, 1)[0]; !errors.Is(e.Err, ErrClientGone) {
					t.Errorf("closed: %+v", e)
				}
				return
			}
			close(back)
			if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			nettest.RoundTrip(t, c, "again")
			_ = c.Close()
			if e := r.await(t, EventClosed, 1)[0]; e.Err != nil || e.BytesIn != 10 || e.BytesOut != 10 {
				t.Errorf("closed: %+v", e)
			}
		})
	}
}

// writing is a connection that says when a write has begun.
type writing struct {
	net.Conn
	began chan struct{}
}

func (w writing) Write(p []byte) (int, error) {
	close(w.began)
	return w.Conn.Write(p)
}

// TestCloseBreaksAStuckWrite: a proxy that reads nothing holds up the client's words,
// and not whoever closes the connection.
func TestCloseBreaksAStuckWrite(t *testing.T) {
	t.Parallel()
	deaf := nettest.Serve(t, func(c *net.TCPConn) {
		_ = c.SetReadBuffer(16 << 10) // what is sent fills whatever there is
		<-t.Context().Done()
	})
	conn, err := deaf.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it is closed already, unless the test fails
	if err := conn.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	up := writing{conn, make(chan struct{})}
	u := &waited{cur: up}
	wrote := make(chan error, 1)
	go func() {
		_, err := u.Write(make([]byte, 4<<20)) // more than the buffers hold
		wrote <- err
	}()
	<-up.began
	closed := make(chan error, 1)
	go func() { closed <- u.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testwait.Patience):
		t.Fatal("Close waits for a write that no one takes")
	}
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the write: %v, want %v", err, net.ErrClosed)
	}
}

// lateUpstream is an upstream that arrives when its connection is closed already.
type lateUpstream struct {
	net.Conn
	c *conn
	t *testing.T
}

func (l lateUpstream) Close() error {
	if !l.c.mu.TryLock() {
		l.t.Error("an upstream is closed under the connection's lock")
		return nil
	}
	l.c.mu.Unlock()
	return nil
}

// TestUpstreamThatComesTooLate is closed, and its farewell holds up no one else.
func TestUpstreamThatComesTooLate(t *testing.T) {
	c := &conn{closed: true, cause: ErrClosed}
	if err := c.adopt(t.Context(), lateUpstream{c: c, t: t}); !errors.Is(err, ErrClosed) {
		t.Errorf("adopt = %v, want %v", err, ErrClosed)
	}
}
