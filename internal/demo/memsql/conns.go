package memsql

import (
	"context"
	"net"
	"sync"
)

// conns is a listener whose connections are made within this process, so that
// no other user of the machine can connect.
type conns struct {
	ch     chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	open map[net.Conn]struct{} // the server's ends
}

func newConns() *conns {
	return &conns{ch: make(chan net.Conn), closed: make(chan struct{}), open: make(map[net.Conn]struct{})}
}

// dial returns the client's end of a new connection.
func (c *conns) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	tracked := &trackedConn{Conn: server, all: c}
	c.mu.Lock()
	c.open[tracked] = struct{}{}
	c.mu.Unlock()
	select {
	case c.ch <- tracked:
		return client, nil
	case <-c.closed:
		_ = tracked.Close()
		return nil, net.ErrClosed
	case <-ctx.Done():
		_ = tracked.Close()
		return nil, context.Cause(ctx)
	}
}

// Accept waits for the next connection.
func (c *conns) Accept() (net.Conn, error) {
	select {
	case conn := <-c.ch:
		return conn, nil
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; what is open goes on.
func (c *conns) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// Addr is no address that anyone can connect to.
func (c *conns) Addr() net.Addr { return &net.UnixAddr{Name: "memsql", Net: "unix"} }

func (c *conns) closeAll() {
	c.mu.Lock()
	open := make([]net.Conn, 0, len(c.open))
	for conn := range c.open {
		open = append(open, conn)
	}
	c.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close() // a pipe closes without an error
	}
}

// trackedConn leaves the list of open connections when it is closed.
type trackedConn struct {
	net.Conn
	all *conns
}

// Close closes the connection.
func (t *trackedConn) Close() error {
	t.all.mu.Lock()
	delete(t.all.open, t)
	t.all.mu.Unlock()
	return t.Conn.Close()
}
