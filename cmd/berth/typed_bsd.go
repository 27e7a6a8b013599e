//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

const (
	getAttributes = unix.TIOCGETA
	setAttributes = unix.TIOCSETA
	setAndForget  = unix.TIOCSETAF
)

// forgetArriving has nothing to do: what is typed is in the terminal's own buffer at once.
func forgetArriving(int) {}
