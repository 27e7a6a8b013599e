//go:build unix

package sdnotifytest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Manager hears what a service says as systemd does one with Type=notify-reload and
// a store for descriptors: it follows the main process, and keeps listening sockets.
type Manager struct {
	Path string // of its socket, for NOTIFY_SOCKET

	conn *net.UnixConn

	mu   sync.Mutex // guards everything below
	kept map[string]*os.File
	main int
}

// New returns a manager that listens at path. Hear has it hear.
func New(path string) (*Manager, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return &Manager{Path: path, conn: conn, kept: make(map[string]*os.File)}, nil
}

// Close ends Hear.
func (m *Manager) Close() error { return m.conn.Close() }

// Hear takes notifications until Close.
func (m *Manager) Hear() {
	text, rights := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if err != nil {
			return
		}
		m.take(string(text[:n]), rights[:oobn])
	}
}

func (m *Manager) take(text string, rights []byte) {
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

// Kept is how many sockets are kept.
func (m *Manager) Kept() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.kept)
}

// MainPID is the main process, as the service said last; zero if it has said nothing.
func (m *Manager) MainPID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.main
}

// Started notes that a process was started as the main one.
func (m *Manager) Started(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.main = pid
}

// Start starts a command that gets what is kept. Its environment is the caller's
// choice, with Path in it. What is forgotten meanwhile is closed afterwards.
func (m *Manager) Start(cmd *exec.Cmd) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name, f := range m.kept {
		names, cmd.ExtraFiles = append(names, name), append(cmd.ExtraFiles, f)
	}
	if len(names) > 0 { // as a manager does: the variables name the process that gets the sockets
		script := fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s exec "$0" "$@"`, len(names), strings.Join(names, ":"))
		cmd.Args = slices.Concat([]string{"sh", "-c", script, cmd.Path}, cmd.Args[1:])
		cmd.Path = "/bin/sh"
	}
	return cmd.Start()
}
