package simcluster

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is an accepted connection. It is where faults take hold: beneath TLS,
// so that a stalled or slow connection looks to the client as a bad network
// does.
type conn struct {
	net.Conn
	faults *Faults
	// target is the database the connection turned out to be for; nil until
	// that is known, and for everything else.
	target atomic.Pointer[string]
	// user is whose connection to a database it is, and routed says that the
	// proxy has passed it on to the database's service.
	user   atomic.Pointer[string]
	routed atomic.Bool
	// auth says that it leads to an auth service: that of site.
	auth atomic.Bool
	site atomic.Pointer[Site]

	closeOnce sync.Once
	done      chan struct{}
	forget    func(*conn)
}

func newConn(nc net.Conn, f *Faults, forget func(*conn)) *conn {
	return &conn{Conn: nc, faults: f, done: make(chan struct{}), forget: forget}
}

// Close closes the connection and lets go whatever a fault holds up on it.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.done)
		c.forget(c)
	})
	return c.Conn.Close()
}

// CloseWrite passes a half-close on.
func (c *conn) CloseWrite() error {
	if tc, ok := c.Conn.(*net.TCPConn); ok {
		return tc.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Read reads what the client sent, as soon as the faults allow.
func (c *conn) Read(p []byte) (int, error) {
	if _, err := c.gate(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	link, err := c.gate()
	if err != nil {
		return 0, err
	}
	return n, c.wait(link.Delay)
}

// Write sends to the client, as soon and as fast as the faults allow.
func (c *conn) Write(p []byte) (int, error) {
	link, err := c.gate()
	if err != nil {
		return 0, err
	}
	if link.BytesPerSecond > 0 {
		d := time.Duration(len(p)) * time.Second / time.Duration(link.BytesPerSecond)
		if err := c.wait(d); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// gate waits while the connection is stalled and returns its link.
func (c *conn) gate() (Link, error) {
	for c.faults.any.Load() {
		stalled, link, changed := c.faults.of(c.target.Load())
		if !stalled {
			return link, nil
		}
		select {
		case <-changed:
		case <-c.done:
			return Link{}, net.ErrClosed
		}
	}
	return Link{}, nil
}

func (c *conn) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.done:
		return net.ErrClosed
	}
}

// handoff is a listener whose connections are handed to it: it feeds servers
// that insist on accepting.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handoff) serve(nc net.Conn) {
	select {
	case h.conns <- nc:
	case <-h.done:
		_ = nc.Close()
	}
}

// Accept returns the next connection handed over.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close makes Accept return.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr returns a name, for there is no address of its own.
func (h *handoff) Addr() net.Addr { return handoffAddr{} }

type handoffAddr struct{}

func (handoffAddr) Network() string { return "handoff" }
func (handoffAddr) String() string  { return "handoff" }
