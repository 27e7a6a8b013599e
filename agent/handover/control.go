package handover

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Control is the control socket's listener. One that leaves accepts nothing, and
// does not say so until it is closed: calls that have come are still answered.
type Control struct {
	net.Listener
	left, closed chan struct{}
	leaving, end func()
}

// NewControl returns the socket at which l listens.
func NewControl(l net.Listener) *Control {
	c := &Control{Listener: l, left: make(chan struct{}), closed: make(chan struct{})}
	c.leaving = sync.OnceFunc(func() { close(c.left) })
	c.end = sync.OnceFunc(func() { close(c.closed) })
	if u, ok := l.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(true) // an inherited one has to be asked
	}
	return c
}

// Leave closes the socket here; another process has it.
func (c *Control) Leave() {
	if u, ok := c.Listener.(interface{ SetUnlinkOnClose(bool) }); ok {
		u.SetUnlinkOnClose(false)
	}
	c.leaving()
	_ = c.Listener.Close()
}

// Accept waits for the next call, and for the descriptors or the memory that one takes
// where the system has none left: an agent that cannot be asked serves all the same.
func (c *Control) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := c.Listener.Accept()
		if err == nil {
			return conn, nil
		}
		select {
		case <-c.left:
			<-c.closed
			return nil, err
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		select {
		case <-c.left:
		case <-c.closed:
			return nil, err
		case <-time.After(pause):
		}
	}
}

// Close closes the socket.
func (c *Control) Close() error {
	c.end()
	return c.Listener.Close()
}
