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
