//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/dbustest"
	"berth/internal/paths"
	"berth/internal/wake"
)

const (
	stopSignal     = unix.SIGSTOP
	continueSignal = unix.SIGCONT
	killSignal     = unix.SIGKILL
	endSignal      = unix.SIGTERM
	handOverSignal = unix.SIGUSR2

	approved = types.RequestState_APPROVED
)

func signalTo(pid int, sig unix.Signal) error {
	if pid <= 0 {
		return os.ErrProcessDone
	}
	err := unix.Kill(pid, sig)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// loginByBerth has an agent log in, over the session that there is, and says whether
// it asked for the password.
func (w *world) loginByBerth(ctx context.Context, c *client.Client, how client.LoginStart) (asked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	how.Renew = true
	err = c.Login(ctx, how, func(e client.LoginEvent, answer func(string)) error {
		if e.Kind == state.LoginPassword {
			asked = true
			answer(w.password)
		}
		return nil
	})
	return asked, err
}

// keychainLocked has berth remember the password, and log in twice more: with a
// keychain that gives it, and with one that is locked.
func keychainLocked(ctx context.Context, w *world) error {
	end, err := dbustest.RunKeyring(ctx, w.bus.address)
	if err != nil {
		return err
	}
	defer end()
	if _, err := w.loginByBerth(ctx, w.ipc, client.LoginStart{Remember: true}); err != nil {
		return err
	}
	asked, err := w.loginByBerth(ctx, w.ipc, client.LoginStart{})
	if err == nil && asked {
		err = errors.New("berth asked for a password that it remembers")
	}
	if err == nil {
		err = dbustest.LockKeyring(w.bus.address)
	}
	if err != nil {
		return err
	}
	asked, err = w.loginByBerth(ctx, w.ipc, client.LoginStart{})
	if err == nil && !asked {
		err = errors.New("a locked keychain gave a password")
	}
	return err
}

// twoAgents runs a second agent on the same Teleport home, without tunnels, and
// has both log in at once, and tsh too.
func twoAgents(ctx context.Context, w *world) (err error) {
	dir := filepath.Join(w.dir, "second")
	p, err := paths.Resolve(func(key string) string { return map[string]string{paths.HomeVar: dir}[key] })
	if err != nil {
		return err
	}
	if err := p.MakeDirs(); err != nil {
		return err
	}
	text := fmt.Sprintf("version: 1\nhomes: [%q]\ntsh: {path: %q}\nprofiles:\n  - {proxy: %q, ca_file: %q}\n",
		w.home, w.tsh(), w.proxy, w.caFile)
	if err := os.WriteFile(p.Config, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := w.command(ctx, w.berth, "agent", "run", "--quiet")
	cmd.Env = append(cmd.Env, paths.HomeVar+"="+dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait() // it was asked to end
	}()
	second := client.Dial(p.Socket)
	defer func() { err = errors.Join(err, second.Close()) }()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for s, err := range second.Follow(waiting) {
		if err == nil && len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid {
			break
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, c := range []*client.Client{w.ipc, second} {
		g.Go(func() error { _, err := w.loginByBerth(gctx, c, client.LoginStart{}); return err })
	}
	g.Go(func() error { return w.login() })
	return g.Wait()
}

// awaitSuccessor does something that makes another process the agent, and waits
// until that answers.
func (w *world) awaitSuccessor(ctx context.Context, act func() error) error {
	before := w.agent.MainPID()
	if err := act(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s, err := w.ipc.Snapshot(ctx)
		if err == nil && s.Agent.PID != before {
			return nil
		}
		if !wake.Sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("no other agent than %d answers: %w", before, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// swap exchanges the program for the other version.
func (w *world) swap() error {
	spare := w.berth + ".spare"
	if err := os.Rename(w.berth, spare); err != nil {
		return err
	}
	if err := copyFile(w.next, w.berth); err != nil {
		return err
	}
	return os.Rename(spare, w.next)
}

// failingUpgrade replaces the program by one that fails, and puts it back.
func failingUpgrade(ctx context.Context, w *world) error {
	spare := w.berth + ".spare"
	if err := os.Rename(w.berth, spare); err != nil {
		return err
	}
	err := os.WriteFile(w.berth, []byte("#!/bin/sh\nexit 1\n"), 0o755) //nolint:gosec // G306: a program
	if err == nil {
		before := w.agent.MainPID()
		err = signalTo(before, handOverSignal)
		wake.Sleep(ctx, 2*time.Second)
		s, asked := w.ipc.Snapshot(ctx)
		if err = errors.Join(err, asked); err == nil && s.Agent.PID != before {
			err = fmt.Errorf("after a failed upgrade the agent is %d, not %d", s.Agent.PID, before)
		}
	}
	return errors.Join(err, os.Rename(spare, w.berth))
}

// fillDisk writes a file until the disk is full.
func fillDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for size := len(block); size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(block[:size])
		}
		if !errors.Is(err, unix.ENOSPC) {
			return errors.Join(err, f.Close())
		}
		err = nil
	}
	return f.Close()
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// limitFiles lets a process open so many more files; 0 means as many as ever.
func limitFiles(pid, more int) error {
	var now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now); err != nil {
		return os.NewSyscallError("prlimit", err)
	}
	now.Cur = now.Max
	if more > 0 {
		fds, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
		if err != nil {
			return err
		}
		now.Cur = uint64(len(fds) + more)
	}
	return os.NewSyscallError("prlimit", unix.Prlimit(pid, unix.RLIMIT_NOFILE, &now, nil))
}

// limitMemory lets a process have no more memory than it has, or lifts that. The
// process may be another one by then.
func limitMemory(pid int, on bool) error {
	var now unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_AS, nil, &now)
	if err == nil {
		now.Cur = now.Max
		if on {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
			if err != nil {
				return err
			}
			pages, err := strconv.ParseUint(strings.Fields(string(stat))[0], 10, 64)
			if err != nil {
				return err
			}
			now.Cur = pages * uint64(os.Getpagesize())
		}
		err = unix.Prlimit(pid, unix.RLIMIT_AS, &now, nil)
	}
	if errors.Is(err, unix.ESRCH) && !on {
		return nil // it has ended for it
	}
	return os.NewSyscallError("prlimit", err)
}
