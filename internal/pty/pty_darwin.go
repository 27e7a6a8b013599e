package pty

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

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
