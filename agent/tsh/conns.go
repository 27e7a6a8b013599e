package tsh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Dial opens a connection to the target through the child, to a Kubernetes
// cluster by TLS that offers these versions of HTTP. It waits while a child
// starts or the gate is closed, and returns the child's own error while it keeps
// failing.
func (t *Tunnel) Dial(ctx context.Context, versions ...string) (net.Conn, error) {
	c, err := t.acquire(ctx)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp4", c.address())
	if err != nil {
		t.release(c)
		return nil, fmt.Errorf("dial tsh: %w", err)
	}
	conn := &childConn{TCPConn: raw.(*net.TCPConn), release: sync.OnceFunc(func() { t.release(c) })}
	if !c.alive() { // whoever has the port now, it is not tsh
		return nil, errors.Join(fmt.Errorf("dial tsh: %w", c.exitError()), conn.Close())
	}
	through, err := c.reach(ctx, conn, versions)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial tsh: %w", err), conn.Close())
	}
	return through, nil
}

// childConn is a connection through a child. It stays a TCPConn for those who
// copy with splice or pass on a half-close.
type childConn struct {
	*net.TCPConn

	release func()
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

// release counts a connection less; a replaced child without any ends.
func (t *Tunnel) release(c *child) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.conns--
	if c.retired && c.conns == 0 {
		c.cancel()
	}
}

// retireLocked lets c end with its last connection. t.mu is held.
func (t *Tunnel) retireLocked(c *child) {
	c.retired = true
	if c.conns == 0 {
		c.cancel()
		return
	}
	t.draining = append(t.draining, c)
	if len(t.draining) > maxDraining {
		oldest := t.draining[0]
		t.log.Warn("replaced tsh ended with connections open", "connections", oldest.conns)
		oldest.cancel()
	}
}
