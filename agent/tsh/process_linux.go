package tsh

import "syscall"

// processAttributes make the kernel kill the child when the agent is gone,
// even by a kill -9.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
