//go:build unix && !linux

package tsh

import "golang.org/x/sys/unix"

const getAttributes = unix.TIOCGETA
