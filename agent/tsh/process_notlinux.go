//go:build unix && !linux

package tsh

import "syscall"

// processAttributes has nothing to ask for: only Linux ends a child with its
// parent.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
