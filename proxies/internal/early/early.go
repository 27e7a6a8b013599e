// Package early puts back what was read of a connection ahead of time.
package early

import "net"

// Conn is a connection of which Said was read already: Read returns that first.
// It hides all but the net.Conn, since a TCPConn's shortcuts for io.Copy would
// skip those bytes. One goroutine may read while another one writes.
type Conn struct {
	net.Conn
	Said []byte
}

// Read returns what was said early, and then reads the connection.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.Said) > 0 {
		n := copy(p, c.Said)
		c.Said = c.Said[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
