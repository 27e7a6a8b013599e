//go:build unix

package tsh

import (
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// openTerminal returns a terminal: our end, and the one for tsh to read.
func openTerminal() (ours, child *os.File, err error) { return pty.Open() }

// echoIsOff reports whether the terminal shows nothing of what is typed.
func echoIsOff(tty *os.File) (bool, error) {
	conn, err := tty.SyscallConn()
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
