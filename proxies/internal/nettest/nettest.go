// Package nettest has what the tests of tunnels share: a TCP server that
// answers each connection with a func, and a round trip through it.
package nettest

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"berth/internal/testwait"
)

// Patience is how long a test waits for what must happen.
const Patience = testwait.Patience

// Server is a TCP server on a loopback port.
type Server struct {
	net.Listener
	wg sync.WaitGroup
}

// Serve starts a server that runs handle in a goroutine for each connection,
// which it closes afterwards. It ends, and waits for all of them, with the test.
func Serve(t testing.TB, handle func(*net.TCPConn)) *Server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Listener: l}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.wg.Wait()
	})
	return s
}

// Dial opens a connection to the server.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return Dial(ctx, s.Addr().String()) }

// Dial opens a TCP connection.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// Echo is a handler that sends back what it gets and passes on the half-close.
func Echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// RoundTrip sends a message and wants it back.
func RoundTrip(t testing.TB, c net.Conn, msg string) {
	t.Helper()
	if err := TryRoundTrip(c, msg); err != nil {
		t.Fatal(err)
	}
}

// TryRoundTrip sends a message and returns an error unless it comes back.
func TryRoundTrip(c net.Conn, msg string) error {
	if _, err := io.WriteString(c, msg); err != nil {
		return err
	}
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != msg {
		return fmt.Errorf("got %q, want %q", got, msg)
	}
	return nil
}
