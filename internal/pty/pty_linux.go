package pty

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// master opens our end of a new terminal.
func master() (*os.File, error) {
	return os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
}

// release lets the other end of fd's terminal be opened, and returns its path.
func release(fd uintptr) (path string, err error) {
	number, err := unix.IoctlGetUint32(int(fd), unix.TIOCGPTN)
	if err != nil {
		return "", err
	}
	return "/dev/pts/" + strconv.FormatUint(uint64(number), 10), unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
}
