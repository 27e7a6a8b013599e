package tsh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Dial opens a connection to the target through the child, to a Kubernetes
// cluster by TLS that offers these versions of HTTP. It waits while a child
// starts or the gate is closed, and returns the child's own error while it keeps
// failing.
func (t *Tunnel) Dial(ctx context.Context, versions ...string) (net.Conn, error) {
	for {
		c, err := t.acquire(ctx)
		if err != nil {
			return nil, err
		}
		conn, err := t.dialChild(ctx, c, versions)
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil || !t.gaveUp(c):
			return nil, fmt.Errorf("dial tsh: %w", err)
		}
	}
}

// dialChild connects through c, which acquire has returned.
func (t *Tunnel) dialChild(ctx context.Context, c *child, versions []string) (net.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp4", c.address())
	if err != nil {
		t.release(c, nil)
		return nil, err
	}
	conn := &childConn{TCPConn: raw.(*net.TCPConn)}
	conn.release = sync.OnceFunc(func() { t.release(c, conn) })
	if !t.hold(c, conn) {
		return nil, errors.Join(errPINNotEntered, conn.Close())
	}
	if !c.alive() { // whoever has the port now, it is not tsh
		return nil, errors.Join(c.exitError(), conn.Close())
	}
	through, err := c.reach(ctx, conn, versions)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return through, nil
}

// childConn is a connection through a child. It stays a TCPConn for those who
// pass on a half-close.
type childConn struct {
	*net.TCPConn

	release  func()
	answered atomic.Bool // something has come
	replaced atomic.Bool // its child was replaced while it waited for a security key
}

// Read reads as of a TCPConn. Its error is ErrReplaced where that has closed it.
func (c *childConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	return n, c.why(err)
}

// Write writes as to a TCPConn, with the same error as Read.
func (c *childConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	return n, c.why(err)
}

func (c *childConn) why(err error) error {
	if err != nil && c.replaced.Load() {
		return ErrReplaced
	}
	return err
}

// WriteTo is not a TCPConn's, which would pass Read by.
func (c *childConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

// Close closes the connection and lets a replaced child end.
func (c *childConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

// acquire returns the child that takes connections, counted as one more.
func (t *Tunnel) acquire(ctx context.Context) (*child, error) {
	for {
		changed := t.changed.Changed()
		t.mu.Lock()
		c := t.current
		state, last := t.status.State, t.status.LastError
		if c != nil {
			c.conns++
		}
		t.mu.Unlock()
		switch {
		case c != nil:
			return c, nil
		case state == StateFailing:
			return nil, last
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if last != nil {
				return nil, fmt.Errorf("wait for tsh: %w; its last error: %w", ctx.Err(), last)
			}
			return nil, fmt.Errorf("wait for tsh: %w", ctx.Err())
		}
	}
}

// giveUp stops sending clients to a child that asks for a tap, or with pin for a PIN,
// which will not come: for a PIN tsh itself would wait forever, and so would every client.
// Working connections stay open. Those to a database that wait are closed, with
// ErrReplaced where that is why; of those to Kubernetes none is known to wait.
func (t *Tunnel) giveUp(c *child, pin, replaced bool) {
	t.mu.Lock()
	if t.asking == c {
		t.askLocked(c, prompt{})
	}
	if t.current == c {
		t.current = nil
		t.leftLocked()
	}
	c.givenUp = true
	var waiting []*childConn
	if c.target.transparent() {
		waiting = c.waitingLocked()
	}
	switch {
	case pin && !c.typed && !c.target.transparent(): // what asks for a PIN carries nothing without one
		c.cancel()
	case !c.retired:
		t.retireLocked(c, len(waiting))
	}
	t.mu.Unlock()
	for _, conn := range waiting {
		conn.replaced.Store(replaced)
		_ = conn.Close() // whoever reads it finds out
	}
	t.notify()
}

// gaveUp reports whether c was given up.
func (t *Tunnel) gaveUp(c *child) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return c.givenUp
}

// hold notes a connection for which acquire has returned c, and reports whether c is not
// given up meanwhile.
func (t *Tunnel) hold(c *child, conn *childConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.givenUp {
		return false
	}
	c.open[conn] = struct{}{}
	return true
}

// waitingLocked returns the connections of c that may wait for what it asks the user: to
// a database those that have had no answer yet, else all. t.mu is held.
func (c *child) waitingLocked() []*childConn {
	var list []*childConn
	for conn := range c.open {
		if !c.target.transparent() || !conn.answered.Load() {
			list = append(list, conn)
		}
	}
	return list
}

// release counts a connection less; a replaced child without any ends.
func (t *Tunnel) release(c *child, conn *childConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.conns--
	delete(c.open, conn)
	if c.retired && c.conns == 0 {
		c.cancel()
	}
}

// retireLocked lets c end with its last connection, of which as many as closing are about
// to be closed. t.mu is held.
func (t *Tunnel) retireLocked(c *child, closing int) {
	c.retired = true
	if c.conns == 0 || !c.alive() {
		c.cancel()
		return
	}
	if c.conns <= closing {
		return // the last release ends it
	}
	t.draining = append(t.draining, c)
	// The first of them may be ending already, and take its time.
	for _, old := range t.draining[:max(0, len(t.draining)-maxDraining)] {
		t.log.Warn("replaced tsh ended with connections open", "connections", old.conns)
		old.cancel()
	}
}
