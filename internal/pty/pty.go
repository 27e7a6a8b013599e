// Package pty makes pseudo terminals.
//
// It promises that both ends belong together. Where the kernel is asked for the other
// end's name, what it writes to must not move meanwhile: Go moves stacks, and a library
// that hands over the address of a variable there as a plain number has the name end up
// where nobody reads it, now and then. The name that is left is then that of terminal 0,
// which is somebody else's.
package pty

import "os"

// Open returns both ends of a new terminal: ours, which types and reads what is shown,
// and child, for a program. The error matches [errors.ErrUnsupported] where there are none.
func Open() (ours, child *os.File, err error) { return open() }
