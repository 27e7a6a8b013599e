package frugal

import "golang.org/x/sys/unix"

// endOfPeer is what Linux reports when the other end has ended its half.
const endOfPeer = unix.POLLRDHUP
