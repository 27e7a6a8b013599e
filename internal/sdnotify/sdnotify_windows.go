package sdnotify

import (
	"net"
	"syscall"
)

// Send does nothing: Windows has no such managers.
func (*Manager) Send(...string) error { return nil }

// Store does nothing.
func (*Manager) Store(string, syscall.Conn) error { return nil }

// Forget does nothing.
func (*Manager) Forget(string) error { return nil }

// Kept returns none.
func Kept() []*net.TCPListener { return nil }
