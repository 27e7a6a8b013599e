//go:build unix

package main

import "syscall"

// groupOf returns the process group of a process, which its first process has the number
// of; zero if there is no such process.
func groupOf(pid int) int {
	group, err := syscall.Getpgid(pid)
	if err != nil {
		return 0
	}
	return group
}
