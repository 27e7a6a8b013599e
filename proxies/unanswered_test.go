package proxies

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
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
