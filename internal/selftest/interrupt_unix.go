//go:build unix

package selftest

import (
	"os"
	"syscall"
)

// interrupt asks a process to end. One that has ended hears nothing.
func interrupt(p *os.Process) { _ = p.Signal(syscall.SIGTERM) }
