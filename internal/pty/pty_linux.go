package pty

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// release lets the other end of fd's terminal be opened, and returns its path.
func release(fd uintptr) (path string, err error) {
	number, err := unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
	if err != nil {
		return "", err
	}
	return "/dev/pts/" + strconv.FormatUint(uint64(number), 10), unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
}
