//go:build unix

package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is who runs a server: without cred it is whoever runs the demo.
type owner struct {
	name string
	cred *syscall.Credential
}

// ownerOf returns the first of the users that exists if the demo is root's.
func ownerOf(users []string) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range users {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return owner{}, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return owner{}, fmt.Errorf("user %s: %w", name, err)
		}
		return owner{name, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return owner{}, errors.New("there is no user for it who is not root")
}

// give lets the owner have dir and pass through parent.
func (o owner) give(parent, dir string) error {
	if o.cred == nil {
		return nil
	}
	if err := os.Chmod(parent, 0o711); err != nil { //nolint:gosec // G302: what is in it is private by itself
		return err
	}
	for above := parent; above != filepath.Dir(above); above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("the user %s, who would run it, may not enter %s", o.name, above)
		}
	}
	return os.Chown(dir, int(o.cred.Uid), int(o.cred.Gid))
}

// killGroup ends a command and all that it has started.
func killGroup(cmd *exec.Cmd) error {
	if cmd.Process == nil {
		return nil
	}
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// detach has a command run as the owner, and not end by the terminal's Ctrl-C:
// the demo ends it.
func (o owner) detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: o.cred, Setpgid: true}
	endWithParent(cmd.SysProcAttr)
}
