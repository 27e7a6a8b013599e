package busaddr

import (
	"errors"
	"testing"
)

func TestSession(t *testing.T) {
	tests := []struct {
		name, env string
		none      bool
	}{
		{"socket", "unix:path=/tmp/bus", false},
		{"several_sockets", "unix:path=/tmp/bus;unix:abstract=x", false},
		{"would_launch_one", "autolaunch:", true},
		{"would_run_a_program", "unixexec:path=/bin/sh", true},
		{"leaves_the_machine", "tcp:host=example.com,port=1", true},
		{"second_leaves_the_machine", "unix:path=/tmp/bus;tcp:host=example.com,port=1", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", tt.env)
			got, err := Session()
			if errors.Is(err, ErrNone) != tt.none || !tt.none && got != tt.env {
				t.Errorf("Session() = %q, %v with %q", got, err, tt.env)
			}
		})
	}
}

func TestSystem(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/tmp/system")
	if got := System(); got != "unix:path=/tmp/system" {
		t.Errorf("System() = %q", got)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unixexec:path=/bin/sh")
	if got := System(); got != "unix:path=/var/run/dbus/system_bus_socket" {
		t.Errorf("System() = %q, want the usual place", got)
	}
}
