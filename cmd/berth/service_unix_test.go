//go:build unix

package main

import (
	"os/exec"
	"syscall"
	"testing"

	"berth/agent/state"
	"berth/internal/osservice"
)

// supervisor is a manager that watches processes.
type supervisor struct{ osservice.Manager }

func (supervisor) Kind() osservice.Kind { return osservice.KindLaunchd }

// TestOurs: launchd's own process stays when an agent hands over, and those that take its
// place are the service's, too.
func TestOurs(t *testing.T) {
	start := func(group int) int {
		cmd := exec.Command("sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: group}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it runs until here
			_ = cmd.Wait()
		})
		return cmd.Process.Pid
	}
	const own = 0
	first := start(own)
	s := &agentService{Manager: supervisor{}}
	for what, tt := range map[string]struct {
		pid  int
		want bool
	}{"the first process": {first, true}, "its successor": {start(first), true}, "an agent run by hand": {start(own), false}} {
		if got := s.ours(osservice.Status{Running: true, PID: first}, state.Agent{PID: tt.pid}); got != tt.want {
			t.Errorf("%s is the service's: %v, want %v", what, got, tt.want)
		}
	}
	if s.ours(osservice.Status{}, state.Agent{PID: start(own)}) {
		t.Error("an agent is the service's while that does not run")
	}
}
