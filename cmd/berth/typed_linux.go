package main

import "golang.org/x/sys/unix"

const (
	getAttributes = unix.TCGETS
	setAttributes = unix.TCSETS
	setAndForget  = unix.TCSETSF
)

// forgetArriving drops what was typed and has not reached the terminal's own buffer, which
// is all that setAndForget empties.
func forgetArriving(fd int) { _ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) } // it may have gone
