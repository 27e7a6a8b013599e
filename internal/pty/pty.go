// Package pty makes pseudo terminals.
//
// It promises that both ends belong together. The kernel writes the other end's name
// where it was asked to, which must not move meanwhile: Go moves stacks, and a library that
// keeps the address of a variable there as a plain number loses the name now and then. It
// then opens terminal 0, which belongs to another program.
package pty

import "os"

// Open returns both ends of a new terminal: ours, which types and reads what is shown,
// and child, for a program. The error matches [errors.ErrUnsupported] where there are none.
func Open() (ours, child *os.File, err error) { return open() }
