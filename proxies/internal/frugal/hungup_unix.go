//go:build unix

package frugal

import (
	"net"

	"golang.org/x/sys/unix"
)

// HungUp reports whether the other end of a connection is known to send no
// more, whatever is there to be read still. It waits for nothing, and another
// goroutine may read meanwhile.
func HungUp(tcp *net.TCPConn) bool {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	hungUp := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: endOfPeer}}
		if n, err := unix.Poll(fds, 0); n == 1 && err == nil {
			hungUp = fds[0].Revents&(unix.POLLHUP|unix.POLLERR|endOfPeer)&^unix.POLLIN != 0
		}
	})
	return hungUp || err != nil
}
