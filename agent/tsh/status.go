package tsh

import "time"

// State is how a Tunnel is.
type State string

// The states of a Tunnel.
const (
	StateGated    State = "gated"    // the gate is closed, nothing runs
	StateStarting State = "starting" // a child starts
	StateReady    State = "ready"    // connections are carried
	StateFailing  State = "failing"  // the last child failed; the next start is some time away
)

// Status is a Tunnel at one moment.
type Status struct {
	State     State
	Since     time.Time
	LastError error  // why the last child failed; nil once one is ready
	Prompt    string // what the user must do for tsh to go on; empty when nothing
	PIN       bool   // that is to type the PIN of a security key, see AnswerPIN
	Port      int    // of the child that takes connections; zero when none
	PID       int    // the same child's; zero when none
	Failures  int    // since the last time it was healthy for a while
	Draining  int    // replaced children that still have connections
	Waiting   int    // connections that may wait until the user has done what Prompt asks
}

// Status returns how the tunnel is now.
func (t *Tunnel) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	s.Draining = len(t.draining)
	if t.current != nil {
		s.Port, s.PID = t.current.port, t.current.proc.pid
	}
	if s.Prompt != "" && t.asking != nil {
		s.Waiting = len(t.asking.waitingLocked())
	}
	return s
}

// Starting reports whether no child takes connections yet, and none has failed or asks for
// something: one that is far from its proxy takes longer to start than a dial may.
func (t *Tunnel) Starting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current == nil && t.status.State != StateFailing && t.status.Prompt == ""
}

// enterLocked sets the state. t.mu is held.
func (t *Tunnel) enterLocked(s State) {
	if t.status.State != s {
		t.status.State, t.status.Since = s, time.Now()
	}
}

// notify tells those who wait and the owner that something has changed.
func (t *Tunnel) notify() {
	t.changed.Wake()
	if t.cfg.OnChange != nil {
		t.cfg.OnChange()
	}
}
