//go:build linux

package main

import (
	"context"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// notInside is the exit code of a run whose namespaces cannot be used.
const notInside = 77

// namespaces returns how to get namespaces of one's own, the best first: as root,
// and as anyone.
func namespaces() []*syscall.SysProcAttr {
	const own = unix.CLONE_NEWNET | unix.CLONE_NEWNS
	root := &syscall.SysProcAttr{Cloneflags: own, Pdeathsig: unix.SIGTERM}
	anyone := &syscall.SysProcAttr{
		Cloneflags: own | unix.CLONE_NEWUSER, Pdeathsig: unix.SIGTERM,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if os.Geteuid() == 0 {
		return []*syscall.SysProcAttr{root}
	}
	return []*syscall.SysProcAttr{anyone}
}

// enter makes a new namespace usable: its loopback interface is up, and what is
// mounted stays in it.
func enter(ctx context.Context) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return ip(ctx, "link", "set", "lo", "up")
}

// mountOn gives a folder a small disk of its own.
func mountOn(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.NewSyscallError("mount", unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m,mode=0700"))
}
