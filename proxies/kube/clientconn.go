package kube

import (
	"net"
	"sync"
	"time"

	"berth/proxies"
)

// wordsMax is how much is kept of what a stranger says: enough to name its protocol.
const wordsMax = 512

// clientConn is a connection that counts until it is closed, and that hears whether
// its client begins with TLS.
type clientConn struct {
	net.Conn
	l     *Listener
	leave sync.Once

	mu   sync.Mutex // guards everything below
	tls  bool       // the client began with it
	said []byte     // what it said instead
}

// Read reads, and keeps what comes instead of TLS.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tls && len(c.said) < wordsMax {
		c.said = append(c.said, p[:min(n, wordsMax-len(c.said))]...)
		if c.tls = len(c.said) >= 2 && c.said[0] == 0x16 && c.said[1] == 3; c.tls { // a handshake of any version
			c.said = nil
		}
	}
	return n, err
}

// Close closes the connection.
func (c *clientConn) Close() error {
	c.leave.Do(func() {
		c.mu.Lock()
		said := c.said
		c.mu.Unlock()
		if len(said) > 0 {
			c.l.stranger(c.RemoteAddr(), said)
		}
		c.l.open.Add(-1)
	})
	return c.Conn.Close()
}

// stranger reports a client that spoke no TLS to every tunnel of the port: it
// named none of them.
func (l *Listener) stranger(addr net.Addr, said []byte) {
	l.mu.Lock()
	tunnels := make([]*Tunnel, 0, len(l.tunnels))
	for _, t := range l.tunnels {
		tunnels = append(tunnels, t)
	}
	l.mu.Unlock()
	for _, t := range tunnels {
		if t.cfg.Stranger != nil {
			t.cfg.OnEvent(proxies.Event{At: time.Now(), Kind: proxies.EventClosed, Client: addr, Err: t.cfg.Stranger(said)})
		}
	}
}
