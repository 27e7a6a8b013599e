package pty

import (
	"bytes"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// master opens our end of a new terminal. It blocks: kqueue does not wait for such ends
// (golang/go#22099).
func master() (*os.File, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), nil
}

// nameSize is the size of the name that TIOCPTYGNAME writes (sys/ttycom.h).
const nameSize = 128

// release lets the other end of fd's terminal be opened, and returns its path.
func release(fd uintptr) (path string, err error) {
	name := make([]byte, nameSize)
	for _, step := range []struct {
		request uint
		data    *byte
	}{{unix.TIOCPTYGRANT, nil}, {unix.TIOCPTYUNLK, nil}, {unix.TIOCPTYGNAME, &name[0]}} {
		// The address becomes a number in the call itself, so that what it is of stays.
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(step.request), uintptr(unsafe.Pointer(step.data))); errno != 0 {
			return "", errno
		}
	}
	text, _, _ := bytes.Cut(name, []byte{0})
	return string(text), nil
}
