//go:build unix

package tsh

import "syscall"

// group is a child's process group.
type group struct {
	child *Cmd
	pid   int
}

func newGroup(c *Cmd) *group {
	cmd := c.cmd
	cmd.SysProcAttr = processAttributes()
	if c.terminal != nil {
		// A session of its own, which is a group too, so that no other terminal
		// can be reached.
		cmd.Stdin = c.terminal.child
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	} else {
		cmd.SysProcAttr.Setpgid = true
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return &group{child: c}
}

func (g *group) start() error {
	if err := g.child.cmd.Start(); err != nil {
		return err
	}
	g.pid = g.child.cmd.Process.Pid
	return nil
}

// kill ends what is left of the group. The child has just been waited for, so
// its number still belongs to the group or to no process at all.
func (g *group) kill() { _ = syscall.Kill(-g.pid, syscall.SIGKILL) }
