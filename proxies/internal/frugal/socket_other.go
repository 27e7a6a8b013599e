//go:build !unix

package frugal

import "net"

// newSocket returns nil: a small buffer to wait with serves as well.
func newSocket(*net.TCPConn) Reader { return nil }
