package tsh

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is a job: it holds the child and all it starts, and the kernel ends
// them when the job's last handle is closed, as when the agent dies.
type group struct {
	child *Cmd
	job   windows.Handle
	stop  func() bool // of a terminal's child: ends the wait for the context
}

func newGroup(c *Cmd) *group {
	g, cmd := &group{child: c}, c.cmd
	// Suspended until it is in the job: it could start others before.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NEW_PROCESS_GROUP}
	if c.terminal == nil {
		cmd.SysProcAttr.CreationFlags |= windows.CREATE_NO_WINDOW
	}
	cmd.Cancel = func() error { return windows.TerminateJobObject(g.job, 1) }
	return g
}

func (g *group) start() (err error) {
	cmd := g.child.cmd
	if g.job, err = windows.CreateJobObject(nil, nil); err != nil {
		return fmt.Errorf("make a job: %w", err)
	}
	defer func() {
		if err != nil {
			g.kill()
		}
	}()
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err = windows.SetInformationJobObject(g.job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		return fmt.Errorf("set up the job: %w", err)
	}
	if t := g.child.terminal; t != nil {
		err = t.start(cmd)
	} else {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	if err = g.adopt(uint32(cmd.Process.Pid)); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if g.child.terminal != nil { // the standard library has not started it, and does not end it
		g.stop = g.child.onCancel(func() { _ = cmd.Cancel() })
	}
	return nil
}

// adopt puts the suspended process into the job and lets it run.
func (g *group) adopt(pid uint32) error {
	h, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, pid)
	if err != nil {
		return fmt.Errorf("open the child: %w", err)
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing depends on it any more
	if err := windows.AssignProcessToJobObject(g.job, h); err != nil {
		return fmt.Errorf("put the child into its job: %w", err)
	}
	return resume(pid)
}

// resume lets the threads of a process run that was started suspended; there
// is one.
func resume(pid uint32) error {
	snap, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	defer windows.CloseHandle(snap) //nolint:errcheck // nothing depends on it any more
	entry := windows.ThreadEntry32{}
	entry.Size = uint32(unsafe.Sizeof(entry))
	resumed := false
	for err = windows.Thread32First(snap, &entry); err == nil; err = windows.Thread32Next(snap, &entry) {
		if entry.OwnerProcessID != pid {
			continue
		}
		thread, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, entry.ThreadID)
		if err != nil {
			return fmt.Errorf("open the child's thread: %w", err)
		}
		_, err = windows.ResumeThread(thread)
		_ = windows.CloseHandle(thread)
		if err != nil {
			return fmt.Errorf("resume the child: %w", err)
		}
		resumed = true
	}
	if !resumed {
		return errors.New("resume the child: it has no thread")
	}
	return nil
}

// kill ends what is left in the job, and its console.
func (g *group) kill() {
	if g.stop != nil {
		g.stop()
	}
	_ = windows.CloseHandle(g.job)
	if g.child.terminal != nil {
		g.child.terminal.hangUp()
	}
}
