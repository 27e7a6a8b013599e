//go:build unix

package frugal

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// HungUp reports whether the other end of a connection is known to send no
// more, whatever is there to be read still. It waits for nothing, and another
// goroutine may read meanwhile.
func HungUp(tcp *net.TCPConn) bool {
	events, err := poll(tcp, endOfPeer)
	return err != nil || events&(unix.POLLHUP|unix.POLLERR|endOfPeer)&^unix.POLLIN != 0
}

// Unread reports whether there is something to read, if only the end. It waits for
// nothing, and another goroutine may be about to read it.
func Unread(tcp *net.TCPConn) bool {
	events, err := poll(tcp, unix.POLLIN)
	return err != nil || events != 0
}

// poll returns which of events, and of ends, are there now.
func poll(tcp *net.TCPConn, events int16) (got int16, err error) {
	var failed error
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		for failed = unix.EINTR; errors.Is(failed, unix.EINTR); {
			_, failed = unix.Poll(fds, 0)
		}
		got = fds[0].Revents
	})
	return got, errors.Join(err, failed)
}
