//go:build unix

package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor that a manager passes.
const firstFD = 3

// Send says something, lines of NAME=VALUE. An error means that the manager did not
// hear it, which it notices itself where that matters.
func (m *Manager) Send(lines ...string) error { return m.send(strings.Join(lines, "\n"), nil) }

// Store has the manager keep a descriptor under a name, once for each name.
func (m *Manager) Store(name string, conn syscall.Conn) error {
	if m == nil {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = m.send("FDSTORE=1\nFDNAME="+name, unix.UnixRights(int(fd)))
	})
	if err != nil {
		return err
	}
	return sent
}

// Forget has the manager close what it keeps under a name.
func (m *Manager) Forget(name string) error { return m.Send("FDSTOREREMOVE=1", "FDNAME="+name) }

func (m *Manager) send(text string, rights []byte) error {
	if m == nil {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0) // package net passes no rights over such a socket
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	unix.CloseOnExec(fd)
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: m.socket}, 0); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// Kept returns the listening sockets that the manager has kept, and takes them out
// of the environment.
func Kept() []*net.TCPListener {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // it fails for bad names only
	}
	n, err := strconv.Atoi(count)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	var kept []*net.TCPListener
	for i := range n {
		syscall.CloseOnExec(firstFD + i)
		f := os.NewFile(uintptr(firstFD+i), "kept")
		l, err := net.FileListener(f)
		_ = f.Close() // the listener has its own
		if err != nil {
			continue
		}
		if tcp, ok := l.(*net.TCPListener); ok {
			kept = append(kept, tcp)
		} else {
			_ = l.Close() // no other kind is stored
		}
	}
	return kept
}
