//go:build !linux

package selftest

import "syscall"

// endWithParent can ask for nothing here.
func endWithParent() *syscall.SysProcAttr { return nil }
