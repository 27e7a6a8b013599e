package demo

import "syscall"

// endWithParent ends a server of a demo that was killed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
