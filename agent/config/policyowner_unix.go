//go:build unix

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// policyFolder is the folder of the machine's policy.
func policyFolder() string {
	if runtime.GOOS == "darwin" {
		return "/Library/Application Support/berth"
	}
	return "/etc/berth"
}

// ownedBySystem says why a file or folder is not root's alone to change.
func ownedBySystem(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the system does not say who owns it")
	}
	return rootOwns(info.Mode(), st.Uid)
}

func rootOwns(mode fs.FileMode, uid uint32) error {
	switch {
	case uid != 0:
		return fmt.Errorf("it is owned by the user %d, not by root", uid)
	case mode.IsDir() && mode&fs.ModeSticky != 0 && mode.Perm()&0o002 == 0:
		return nil // where no one of its group, as of a system's builders, replaces another's file
	case mode.Perm()&0o022 != 0:
		return fmt.Errorf("users other than root can write it: its mode is %04o", bits(mode))
	}
	return nil
}

// bits is a mode as ls and chmod have it.
func bits(mode fs.FileMode) uint32 {
	n := uint32(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		n |= 0o1000
	}
	return n
}
