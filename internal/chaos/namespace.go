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

// mountReadOnly puts a read-only view of a folder in its place: the disk itself stays
// as it is, since Linux refuses that while a file, as the agent's log, is open on it.
func mountReadOnly(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return os.NewSyscallError("mount", unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
}

// unmount takes the view away, whoever still has it open.
func unmount(dir string) error {
	return os.NewSyscallError("umount", unix.Unmount(dir, unix.MNT_DETACH))
}
