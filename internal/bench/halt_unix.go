//go:build unix

package main

import (
	"os"
	"syscall"
)

// halt has a process stand still, until resume.
func halt(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
