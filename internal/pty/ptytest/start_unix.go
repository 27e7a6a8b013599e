//go:build unix

// Package ptytest runs programs on terminals of their own, for tests.
package ptytest

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/internal/pty"
)

// Start starts a command on a new terminal, its controlling one, and returns our end. A
// size of nil leaves the terminal without one.
func Start(cmd *exec.Cmd, size *Size) (*os.File, error) {
	ours, child, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer child.Close() //nolint:errcheck // the command has its own
	if size != nil {
		err = Resize(ours, *size)
	}
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = child, child, child
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return ours, nil
}

// Resize gives a terminal another size.
func Resize(end *os.File, size Size) error {
	conn, err := end.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
	})
	return errors.Join(err, failed)
}
