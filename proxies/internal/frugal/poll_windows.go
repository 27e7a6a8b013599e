package frugal

import "net"

// HungUp reports nothing here: whoever reads finds out.
func HungUp(*net.TCPConn) bool { return false }

// Unread reports nothing here: a read that is under way has it at once.
func Unread(*net.TCPConn) bool { return false }
