//go:build unix

package proxies

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"berth/internal/testwait"
	"berth/proxies/internal/frugal"
)

// TestAskedInTime: a question that is at the socket when the farewell is due is
// answered, however late it is read here; the farewell comes after it.
func TestAskedInTime(t *testing.T) {
	t.Parallel()
	here, far := net.Pipe() // it takes nothing in until it is read
	r := run(t, Config{
		Source: func(context.Context) (Dial, error) {
			return func(context.Context) (net.Conn, error) { return Ending(here, time.Now().Add(time.Hour)), nil }, nil
		},
		Recycle: func(time.Time) Rest { return &turns{} },
		Renewed: func(time.Time) bool { return false }, // here the test sees to it
	})
	client := r.connect(t)
	r.await(t, EventConnected, 1)
	r.Tunnel.mu.Lock()
	c := slices.Collect(maps.Keys(r.conns))[0]
	r.Tunnel.mu.Unlock()
	in, asked := bufio.NewReader(client), []byte("ask\n")
	expect := func(want string) {
		t.Helper()
		if got, err := in.ReadString('\n'); err != nil || got != want {
			t.Fatalf("the client reads %q, %v, want %q", got, err, want)
		}
	}
	ask := func() {
		t.Helper()
		if _, err := client.Write(asked); err != nil {
			t.Fatal(err)
		}
	}
	answer := func() {
		t.Helper()
		if _, err := far.Write(asked); err != nil {
			t.Fatal(err)
		}
	}
	resting := func() bool {
		c.restMu.Lock()
		defer c.restMu.Unlock()
		return c.rest.AtRest()
	}
	ask()
	testwait.Eventually(t, "the question to be read", func() bool { return !resting() })
	answer() // and the one who reads the client is busy still
	expect("ask\n")
	testwait.Eventually(t, "rest", resting)
	ask()
	testwait.Eventually(t, "the question to be there", func() bool { return frugal.Unread(c.tcp) })
	if parted, _ := c.part(0); parted {
		t.Fatal("the farewell crosses a question")
	}
	for range 2 {
		if _, err := io.ReadFull(far, make([]byte, len(asked))); err != nil {
			t.Fatal(err)
		}
	}
	answer()
	expect("ask\n")
	testwait.Eventually(t, "the farewell", func() bool { parted, _ := c.part(0); return parted })
	expect("bye\n")
}
