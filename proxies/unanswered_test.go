package proxies

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/proxies/internal/nettest"
)

// TestUnansweredIsTold: a client whose upstream hangs up on its first words is
// refused like one that never had an upstream, from its first byte on.
func TestUnansweredIsTold(t *testing.T) {
	readAll := func(n int) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = io.ReadFull(c, make([]byte, n)) }
	}
	for name, tc := range map[string]struct {
		upstream func(*net.TCPConn)
		first    string
		then     string // said to the one who refuses
		want     string
	}{
		"hangs_up":        {readAll(6), "first.", "second.", "told: first.second."},
		"hangs_up_unread": {func(*net.TCPConn) {}, "first.", "second.", "told: first.second."},
		"resets": {func(c *net.TCPConn) {
			readAll(6)(c)
			_ = c.SetLinger(0)
		}, "first.", "second.", "told: first.second."},
		"client_was_silent": {func(*net.TCPConn) {}, "", "first.second.", "told: first.second."},
		"had_an_answer":     {func(c *net.TCPConn) { readAll(6)(c); fmt.Fprint(c, "yes") }, "first.", "", "yes"},
		"said_too_much":     {readAll(earlyMax + 1), strings.Repeat("x", earlyMax+1), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			up := nettest.Serve(t, tc.upstream)
			r := run(t, Config{Source: source(up), Refuse: func(c net.Conn, err error) {
				if !errors.Is(err, ErrClosedEarly) {
					t.Errorf("refused with %v", err)
				}
				said := make([]byte, len("first.second."))
				n, err := io.ReadFull(c, said)
				if err != nil {
					t.Errorf("reads %q, %v", said[:n], err)
				}
				fmt.Fprintf(c, "told: %s", said)
			}})
			c := r.connect(t)
			fmt.Fprint(c, tc.first)
			time.AfterFunc(50*time.Millisecond, func() { fmt.Fprint(c, tc.then) })
			heard, err := io.ReadAll(c)
			if string(heard) != tc.want || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("heard %q, %v; want %q", heard, err, tc.want)
			}
			c.Close()
			closed := r.await(t, EventClosed, 1)[0]
			if early := errors.Is(closed.Err, ErrClosedEarly); early == (name == "had_an_answer") {
				t.Errorf("closed event says %v", closed.Err)
			}
		})
	}
}

// wordlessEar takes every answer for a refusal that says only what a hang-up says.
type wordlessEar struct {
	due
	hears func() // called when it hears the answer
}

func (e wordlessEar) Server([]byte) ([]byte, bool, error) {
	e.hears()
	return nil, true, errWordless{}
}

type errWordless struct{}

func (errWordless) Error() string  { return "access denied" }
func (errWordless) Wordless() bool { return true }

// TestWordlessToAClientThatHasEnded: a client that has ended its half, before the answer
// or just then, is refused like any other.
func TestWordlessToAClientThatHasEnded(t *testing.T) {
	for name, n := range map[string]int64{"before": 100, "just_then": 6} {
		t.Run(name, func(t *testing.T) {
			up := nettest.Serve(t, func(c *net.TCPConn) {
				_, _ = io.CopyN(io.Discard, c, n)
				fmt.Fprint(c, "access denied")
			})
			for i := range 20 {
				var c *net.TCPConn
				ends := sync.OnceFunc(func() { _ = c.CloseWrite() }) // fails on a closed connection only
				r := run(t, Config{
					Source: source(up), Listen: func() Ear { return wordlessEar{hears: ends} },
					Refuse: func(c net.Conn, _ error) {
						said := make([]byte, len("first."))
						_, _ = io.ReadFull(c, said)
						fmt.Fprintf(c, "refused: %s", said)
					},
				})
				c = r.connect(t)
				fmt.Fprint(c, "first.")
				if name == "before" {
					ends()
				}
				if heard, err := io.ReadAll(c); string(heard) != "refused: first." || err != nil {
					t.Errorf("client %d heard %q, %v", i, heard, err)
				}
				var w Wordless
				if closed := r.await(t, EventClosed, 1)[0]; !errors.Is(closed.Err, ErrClosedEarly) || !errors.As(closed.Err, &w) {
					t.Errorf("client %d: closed event says %v", i, closed.Err)
				}
				r.stop()
			}
		})
	}
}
