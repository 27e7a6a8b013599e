//go:build unix

package main

import (
	"os"
	"syscall"
)

// raiseFileLimit allows this process, and those it starts, as many open files
// as the system lets it.
func raiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	wanted := l
	wanted.Max = max(l.Max, 1<<16)
	wanted.Cur = wanted.Max
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &wanted) == nil {
		return nil
	}
	l.Cur = l.Max // more is for root, where it is for anybody
	return os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l))
}

// fileLimit is how many files a process may open.
func fileLimit() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return int(min(l.Cur, 1<<20)), nil
}
