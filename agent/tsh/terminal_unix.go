//go:build unix

package tsh

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"berth/internal/pty"
)

// terminal is the pseudo terminal from which tsh reads a password.
type terminal struct{ ours, child *os.File }

func openTerminal() (*terminal, error) {
	ours, child, err := pty.Open()
	if err != nil {
		return nil, err
	}
	return &terminal{ours: ours, child: child}, nil
}

// screen returns what reads tsh's stderr: it is no part of the terminal.
func (*terminal) screen(w writer) writer { return w }

// echoIsOff reports whether the terminal shows nothing of what is typed.
func (t *terminal) echoIsOff() (bool, error) {
	conn, err := t.ours.SyscallConn()
	if err != nil {
		return false, err
	}
	var attrs *unix.Termios
	var getErr error
	err = conn.Control(func(fd uintptr) { attrs, getErr = unix.IoctlGetTermios(int(fd), getAttributes) })
	if err != nil {
		return false, err
	}
	if getErr != nil {
		return false, getErr
	}
	return attrs.Lflag&unix.ECHO == 0, nil
}

// typeLine types a line and the return key.
func (t *terminal) typeLine(line string) error {
	_, err := t.ours.WriteString(line + "\n")
	return err
}

// Close takes the terminal away.
func (t *terminal) Close() error { return errors.Join(t.ours.Close(), t.child.Close()) }
