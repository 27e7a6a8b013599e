package tsh

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is a job: it holds the child and all it starts, and the kernel ends
// them when the job's last handle is closed, as when the agent dies.
type group struct{ job windows.Handle }

func newGroup(cmd *exec.Cmd) *group {
	g := &group{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Suspended until it is in the job: it could start others before.
		CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW,
	}
	cmd.Cancel = func() error { return windows.TerminateJobObject(g.job, 1) }
	return g
}

func (g *group) start(cmd *exec.Cmd) (err error) {
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
	if err = cmd.Start(); err != nil {
		return err
	}
	if err = g.adopt(uint32(cmd.Process.Pid)); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
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

// kill ends what is left in the job.
func (g *group) kill() { _ = windows.CloseHandle(g.job) }
