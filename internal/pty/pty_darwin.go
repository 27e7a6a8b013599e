package pty

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nameSize is the size of the name that TIOCPTYGNAME writes (sys/ttycom.h).
const nameSize = 128

func open() (ours, child *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ours.Close())
		}
	}()
	conn, err := ours.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	name := make([]byte, nameSize)
	var failed error
	err = conn.Control(func(fd uintptr) {
		for _, step := range []struct {
			request uint
			data    *byte
		}{{unix.TIOCPTYGRANT, nil}, {unix.TIOCPTYUNLK, nil}, {unix.TIOCPTYGNAME, &name[0]}} {
			// The address becomes a number in the call itself, so that what it is of stays.
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(step.request), uintptr(unsafe.Pointer(step.data))); errno != 0 {
				failed = errno
				return
			}
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, nil, fmt.Errorf("set up a terminal: %w", err)
	}
	path, _, _ := bytes.Cut(name, []byte{0})
	child, err = os.OpenFile(string(path), os.O_RDWR|unix.O_NOCTTY, 0)
	return ours, child, err
}
