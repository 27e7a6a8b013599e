package selftest

import "syscall"

// endWithParent ends a child when the self-test was killed.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
