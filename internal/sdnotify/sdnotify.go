// Package sdnotify speaks with a service manager as sd_notify(3) describes: the
// program says when it is ready, which process is the main one, and has the manager
// keep its listening sockets, which come back after a restart or a crash.
package sdnotify

import "os"

// Manager is the service manager that started this process. A nil *Manager stands
// for none: nothing is sent.
type Manager struct{ socket string }

// FromEnv returns the manager that the environment names; nil when it names none.
// The variable is removed, so that no child takes itself for the service.
func FromEnv() *Manager {
	socket := os.Getenv("NOTIFY_SOCKET")
	_ = os.Unsetenv("NOTIFY_SOCKET") // it fails for bad names only
	return At(socket)
}

// At returns the manager that listens at a socket; nil for an empty one.
func At(socket string) *Manager {
	if socket == "" {
		return nil
	}
	return &Manager{socket}
}

// Socket is the manager's address; empty for none.
func (m *Manager) Socket() string {
	if m == nil {
		return ""
	}
	return m.socket
}
