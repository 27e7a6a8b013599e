//go:build unix && !linux

package frugal

import "golang.org/x/sys/unix"

// endOfPeer is what has these systems report POLLHUP when the other end has
// ended its half.
const endOfPeer = unix.POLLIN
