//go:build unix

package frugal_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"berth/internal/testwait"
	"berth/proxies/internal/frugal"
	"berth/proxies/internal/nettest"
)

// TestHungUp: an end is known while another goroutine waits to read and something is
// there to be read before it, and a silent or a talking peer has not hung up.
func TestHungUp(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*net.TCPConn)
		read bool // whether a goroutine reads
		want bool
	}{
		"silent":           {func(*net.TCPConn) {}, true, false},
		"has_spoken":       {func(c *net.TCPConn) { _, _ = io.WriteString(c, "hello") }, false, false},
		"closed":           {func(c *net.TCPConn) { _ = c.Close() }, false, true},
		"closed_and_read":  {func(c *net.TCPConn) { _ = c.Close() }, true, true},
		"half_closed":      {func(c *net.TCPConn) { _ = c.CloseWrite() }, false, true},
		"reset":            {func(c *net.TCPConn) { _, _ = c.SetLinger(0), c.Close() }, false, true},
		"reset_and_read":   {func(c *net.TCPConn) { _, _ = c.SetLinger(0), c.Close() }, true, true},
		"spoke_then_ended": {func(c *net.TCPConn) { _, _ = io.WriteString(c, "hello"); _ = c.Close() }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			connected, over := make(chan struct{}), make(chan struct{})
			defer close(over)
			s := nettest.Serve(t, func(c *net.TCPConn) {
				<-connected
				test.end(c)
				<-over
			})
			conn, err := s.Dial(t.Context())
			close(connected)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			tcp := conn.(*net.TCPConn)
			if test.read {
				go func() { _, _ = io.Copy(io.Discard, tcp) }()
			}
			if test.want {
				testwait.Eventually(t, "the end to be known", func() bool { return frugal.HungUp(tcp) })
				return
			}
			testwait.Never(t, "an end is reported", func() bool { return frugal.HungUp(tcp) })
		})
	}
}

// TestHungUpOnClosed: a connection that was closed here has an end too.
func TestHungUpOnClosed(t *testing.T) {
	s := nettest.Serve(t, nettest.Echo)
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if !frugal.HungUp(conn.(*net.TCPConn)) {
		t.Error("a closed connection has not hung up")
	}
}

// TestUnread: what has come, or has ended, is known until it is read, and a Reader waits
// only once it has handed out all that came.
func TestUnread(t *testing.T) {
	far := make(chan *net.TCPConn, 1)
	over := make(chan struct{})
	defer close(over)
	s := nettest.Serve(t, func(c *net.TCPConn) { far <- c; <-over })
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	tcp, peer := conn.(*net.TCPConn), <-far
	unread := func() bool { return frugal.Unread(tcp) }
	testwait.Never(t, "a silent peer has spoken", unread)
	if _, err := io.WriteString(peer, "hello"); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "what has come to be known", unread)
	r := frugal.NewReader(tcp)
	if r.Waiting() {
		t.Error("a Reader that does not read waits")
	}
	var b *frugal.Buffer
	if n, err := r.Read(&b, 0); n != len("hello") || err != nil {
		t.Fatal(n, err)
	}
	if unread() || r.Waiting() {
		t.Errorf("after a read: unread %v, waiting %v", unread(), r.Waiting())
	}
	ended := make(chan error)
	go func() {
		_, err := r.Read(&b, 0)
		ended <- err
	}()
	testwait.Eventually(t, "the Reader to wait", r.Waiting)
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("it ends with %v", err)
	}
	if !unread() || r.Waiting() {
		t.Errorf("after the end: unread %v, waiting %v", unread(), r.Waiting())
	}
	frugal.Give(b)
}
