package ipc

import "net"

// Guarded is a listener that hands on only the connections that Check accepts, and
// closes the others.
type Guarded struct {
	net.Listener

	Check   func(net.Conn) error // nil accepts every connection
	Refused func(error)          // gets Check's error before the connection is closed
}

// Accept waits for the next connection that Check accepts.
func (g *Guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || g.Check == nil {
			return conn, err
		}
		if err = g.Check(conn); err == nil {
			return conn, nil
		}
		g.Refused(err)
		_ = conn.Close() // it gets nothing in any case
	}
}
