package handover

import (
	"net"
	"sync"
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

// Accept waits for the next call.
func (c *Control) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	select {
	case <-c.left:
		if err != nil {
			<-c.closed
		}
	default:
	}
	return conn, err
}

// Close closes the socket.
func (c *Control) Close() error {
	c.end()
	return c.Listener.Close()
}
