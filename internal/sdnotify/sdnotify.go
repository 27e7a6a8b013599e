// Package sdnotify speaks with a service manager as sd_notify(3) describes: the
// program says when it is ready, which process is the main one, and has the manager
// keep its listening sockets, which come back after a restart or a crash.
package sdnotify

import (
	"context"
	"os"
	"strconv"
	"time"
)

// Manager is the service manager that started this process. A nil *Manager stands
// for none: nothing is sent.
type Manager struct {
	socket   string
	watchdog time.Duration // what a sign of life is due within; zero: none is
}

// FromEnv returns the manager that the environment names; nil when it names none.
// The variables are removed, so that no child takes itself for the service.
func FromEnv() *Manager {
	m := At(os.Getenv("NOTIFY_SOCKET"))
	limit, pid := os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // it fails for bad names only
	}
	if n, err := strconv.ParseInt(limit, 10, 64); m != nil && err == nil && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(n) * time.Microsecond
	}
	return m
}

// Env returns the variables for a process that takes this one's place.
func (m *Manager) Env() []string {
	if m == nil {
		return nil
	}
	env := []string{"NOTIFY_SOCKET=" + m.socket}
	if m.watchdog > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(m.watchdog.Microseconds(), 10))
	}
	return env
}

// Watch gives the manager a sign of life, as often as it wants one, while alive
// returns nil, until ctx ends. The manager ends a process that gives none.
func (m *Manager) Watch(ctx context.Context, alive func() error) {
	if m == nil || m.watchdog <= 0 {
		return
	}
	tick := time.NewTicker(m.watchdog / 4)
	defer tick.Stop()
	for ctx.Err() == nil { // which select may not see while a tick is due
		if alive() == nil {
			_ = m.Send("WATCHDOG=1") // a manager that no longer listens needs none
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// At returns the manager that listens at a socket; nil for an empty one.
func At(socket string) *Manager {
	if socket == "" {
		return nil
	}
	return &Manager{socket: socket}
}

// Socket is the manager's address; empty for none.
func (m *Manager) Socket() string {
	if m == nil {
		return ""
	}
	return m.socket
}
