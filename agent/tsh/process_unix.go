//go:build unix

package tsh

import (
	"os/exec"
	"syscall"
)

// group is a child's process group.
type group struct{ pid int }

func newGroup(cmd *exec.Cmd) *group {
	g := &group{}
	cmd.SysProcAttr = processAttributes()
	if cmd.Stdin != nil {
		// A terminal to read from: a session of its own, which is a group too,
		// so that no other terminal can be reached.
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	} else {
		cmd.SysProcAttr.Setpgid = true
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return g
}

func (g *group) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	g.pid = cmd.Process.Pid
	return nil
}

// kill ends what is left of the group. The child has just been waited for: its
// number is still the group's, or nobody's.
func (g *group) kill() { _ = syscall.Kill(-g.pid, syscall.SIGKILL) }
