//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/wake"
)

// manager runs the agent as systemd does a service with Type=notify-reload and a
// store for descriptors: it follows the main process through handovers, keeps
// the listening sockets, and starts the agent again when it has ended.
type manager struct {
	dir    string
	binary string // may become another one
	env    []string
	conn   *net.UnixConn

	mu     sync.Mutex
	kept   map[string]*os.File
	main   int
	starts int
}

// restartAfter is how long after its end the agent is started again: what
// systemd does unless it is told otherwise.
const restartAfter = 100 * time.Millisecond

func newManager(dir, binary string, env []string) (*manager, error) {
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &manager{
		dir: dir, binary: binary, env: append(env, "NOTIFY_SOCKET="+path), conn: conn,
		kept: make(map[string]*os.File),
	}, nil
}

// run runs the agent until ctx ends, and stops it then.
func (m *manager) run(ctx context.Context) error {
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer m.conn.Close() //nolint:errcheck // it was only read
	hearing.Go(m.hear)
	for ctx.Err() == nil {
		if err := m.start(); err != nil {
			return err
		}
		for ctx.Err() == nil && isAlive(m.pid()) {
			wake.Sleep(ctx, 10*time.Millisecond)
		}
		wake.Sleep(ctx, restartAfter)
	}
	return m.stop()
}

// start starts the agent with the sockets that were kept.
func (m *manager) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	var files []*os.File
	for name, f := range m.kept {
		names, files = append(names, name), append(files, f)
	}
	// As a manager does: the variables name the process that gets the sockets.
	script := `LISTEN_PID=$$ exec "$0" "$@"`
	if len(files) == 0 {
		script = `exec "$0" "$@"`
	}
	cmd := exec.CommandContext(context.Background(), "sh", "-c", script, m.binary, "agent", "run", "--quiet")
	cmd.ExtraFiles = files
	cmd.Env = append(m.env, fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	said, err := os.OpenFile(filepath.Join(m.dir, "agent.stderr"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer said.Close() //nolint:errcheck // the child writes it
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return err
	}
	m.main = cmd.Process.Pid
	m.starts++
	go func() { _ = cmd.Wait() }() // its end is seen by its pid, as that of its successors
	return nil
}

// hear takes notifications until the socket is closed.
func (m *manager) hear() {
	text, rights := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		m.take(string(text[:n]), rights[:oobn])
	}
}

func (m *manager) take(text string, rights []byte) {
	says := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		says[name] = value
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if pid, err := strconv.Atoi(says["MAINPID"]); err == nil {
		m.main = pid
	}
	messages, _ := unix.ParseSocketControlMessage(rights) // none is an error too
	for _, c := range messages {
		fds, _ := unix.ParseUnixRights(&c)
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), says["FDNAME"])
			if says["FDSTORE"] != "1" || m.kept[says["FDNAME"]] != nil {
				_ = f.Close() // as systemd does with one that it has
				continue
			}
			m.kept[says["FDNAME"]] = f
		}
	}
	if f := m.kept[says["FDNAME"]]; f != nil && says["FDSTOREREMOVE"] == "1" {
		_ = f.Close()
		delete(m.kept, says["FDNAME"])
	}
}

// pid is that of the main process.
func (m *manager) pid() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.main
}

// stop ends the agent, its predecessors with it.
func (m *manager) stop() error {
	pid := m.pid()
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

// isAlive reports whether a process runs: one that nobody has waited for yet does
// not.
func isAlive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest != "" && rest[0] != 'Z' && rest[0] != 'X'
}
