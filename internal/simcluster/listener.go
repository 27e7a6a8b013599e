package simcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"berth/internal/wake"
)

// listenPatience is how long to try for a port that was free a moment ago: a
// restart may meet its own connections still closing, or a stranger's
// outgoing connection that happened upon the port.
const listenPatience = 5 * time.Second

// listen opens the listener if it is not open.
func (c *Cluster) listen() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listener != nil || c.closed {
		return nil
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))
	ln, err := listenWithin(c.ctx, addr, c.port != 0)
	if err != nil {
		return fmt.Errorf("listen for the simulated proxy: %w", err)
	}
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return errors.Join(fmt.Errorf("listen for the simulated proxy: odd address %v", ln.Addr()), ln.Close())
	}
	c.port = tcp.Port
	c.listener = ln
	c.wg.Go(func() { c.accept(ln) })
	return nil
}

func listenWithin(ctx context.Context, addr string, patient bool) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()
	var lc net.ListenConfig
	for {
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err == nil || !patient {
			return ln, err
		}
		if !wake.Sleep(ctx, 50*time.Millisecond) {
			return nil, err
		}
	}
}

// stopListening closes the listener; open connections stay.
func (c *Cluster) stopListening() {
	c.mu.Lock()
	ln := c.listener
	c.listener = nil
	c.mu.Unlock()
	if ln != nil {
		_ = ln.Close() // nothing to be done about it, and nothing lost
	}
}

func (c *Cluster) accept(ln net.Listener) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			c.cfg.Log.Debug("accept", "err", err)
			if !wake.Sleep(c.ctx, 10*time.Millisecond) {
				return
			}
			continue
		}
		raw := newConn(nc, c.faults, c.untrack)
		if !c.track(raw) {
			_ = raw.Close()
			return
		}
		c.wg.Go(func() {
			c.route(raw, raw, false)
		})
	}
}

func (c *Cluster) track(raw *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.conns[raw] = struct{}{}
	c.counters.accepted.Add(1)
	return true
}

func (c *Cluster) untrack(raw *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, raw)
}

// closeConns cuts the connections that match and returns how many did.
func (c *Cluster) closeConns(match func(*conn) bool) int {
	c.mu.Lock()
	var found []*conn
	for raw := range c.conns {
		if match(raw) {
			found = append(found, raw)
		}
	}
	c.mu.Unlock()
	for _, raw := range found {
		_ = raw.Close() // cut on purpose
	}
	return len(found)
}
