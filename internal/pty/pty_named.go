//go:build linux || darwin

package pty

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

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
	var path string
	var failed error
	err = conn.Control(func(fd uintptr) { path, failed = release(fd) })
	if err = errors.Join(err, failed); err != nil {
		return nil, nil, fmt.Errorf("set up a terminal: %w", err)
	}
	child, err = os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	return ours, child, err
}
