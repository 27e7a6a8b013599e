//go:build linux || darwin

package pty

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func open() (ours, child *os.File, err error) {
	ours, err = master()
	if err != nil {
		return nil, nil, err
	}
	if child, err = other(ours); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("set up a terminal: %w", err), ours.Close())
	}
	return ours, child, nil
}

// other opens the other end of a new terminal.
func other(ours *os.File) (*os.File, error) {
	conn, err := ours.SyscallConn()
	if err != nil {
		return nil, err
	}
	var path string
	var failed error
	err = conn.Control(func(fd uintptr) { path, failed = release(fd) })
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
}
