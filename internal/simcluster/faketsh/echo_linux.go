package faketsh

import "golang.org/x/sys/unix"

// echoOff makes a terminal show nothing of what is typed; restore undoes it.
// Input stays as it is otherwise: what is typed early is not lost.
func echoOff(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // a terminal that has gone needs none
}
