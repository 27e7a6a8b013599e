//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

const (
	getAttributes = unix.TIOCGETA
	setAttributes = unix.TIOCSETA
	setAndForget  = unix.TIOCSETAF
)
