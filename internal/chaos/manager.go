//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/sdnotify/sdnotifytest"
	"berth/internal/wake"
)

// manager runs the agent as systemd does a service with Type=notify-reload and a
// store for descriptors: it follows the main process through handovers, keeps
// the listening sockets, and starts the agent again when it has ended.
type manager struct {
	*sdnotifytest.Manager

	dir    string
	binary string // may become another one
	env    []string
	starts atomic.Int32
}

// restartAfter is how long after its end the agent is started again: what
// systemd does unless its unit says otherwise.
const restartAfter = 100 * time.Millisecond

func newManager(dir, binary string, env []string) (*manager, error) {
	m, err := sdnotifytest.New(filepath.Join(dir, "notify"))
	if err != nil {
		return nil, err
	}
	return &manager{Manager: m, dir: dir, binary: binary, env: append(env, "NOTIFY_SOCKET="+m.Path)}, nil
}

// run runs the agent until ctx ends, and stops it then.
func (m *manager) run(ctx context.Context) error {
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer m.Close() //nolint:errcheck // it was only read
	hearing.Go(m.Hear)
	for ctx.Err() == nil {
		if err := m.start(); err != nil {
			return err
		}
		for ctx.Err() == nil && isAlive(m.MainPID()) {
			wake.Sleep(ctx, 10*time.Millisecond)
		}
		wake.Sleep(ctx, restartAfter)
	}
	return m.stop()
}

// start starts the agent with the sockets that were kept.
func (m *manager) start() error {
	cmd := exec.CommandContext(context.Background(), m.binary, "agent", "run", "--quiet") // it outlives the caller
	cmd.Env = m.env
	said, err := os.OpenFile(filepath.Join(m.dir, "agent.stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer said.Close() //nolint:errcheck // the child writes it
	cmd.Stderr = said
	if err := m.Start(cmd); err != nil {
		return err
	}
	m.Started(cmd.Process.Pid)
	m.starts.Add(1)
	go func() { _ = cmd.Wait() }() // its end is seen by its pid, as that of its successors
	return nil
}

// stop ends the agent, its predecessors with it.
func (m *manager) stop() error {
	pid := m.MainPID()
	if !isAlive(pid) {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for isAlive(pid) {
		if !wake.Sleep(ctx, 20*time.Millisecond) {
			_ = unix.Kill(pid, unix.SIGKILL)
			return fmt.Errorf("the agent, pid %d, does not stop", pid)
		}
	}
	return nil
}

// isAlive reports whether a process runs: one that has not been waited for yet does
// not.
func isAlive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}
