package handover

import (
	"net"
	"sync"
	"sync/atomic"

	"berth/internal/wake"
)

// Control is the control socket's listener. One that leaves accepts nothing, and
// does not say so until it is closed: calls that have come are still answered.
type Control struct {
	net.Listener
	left         atomic.Bool   // another process has it
	over, closed chan struct{} // left or closed; closed
	halt, end    func()        // close them
}

// NewControl returns the socket at which l listens.
func NewControl(l net.Listener) *Control {
	c := &Control{Listener: l, over: make(chan struct{}), closed: make(chan struct{})}
	c.halt = sync.OnceFunc(func() { close(c.over) })
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
	c.left.Store(true)
	c.halt()
	_ = c.Listener.Close()
}

// Accept waits for the next call, and for the descriptors or the memory that one takes
// where the system has none left: an agent that cannot be asked serves all the same.
func (c *Control) Accept() (net.Conn, error) {
	conn, err := wake.Accept(c.over, c.Listener, func(error) {})
	if err != nil && c.left.Load() {
		<-c.closed
	}
	return conn, err
}

// Close closes the socket.
func (c *Control) Close() error {
	c.halt()
	c.end()
	return c.Listener.Close()
}
