package agent

import (
	"sync"
	"time"

	"berth/internal/osevents"
)

// idleIsAway is how long the machine must be untouched to count as deserted:
// shorter than it takes a screen to lock itself, longer than a phone call.
const idleIsAway = 5 * time.Minute

// system is what the operating system reports, as far as the agent acts on it.
type system struct {
	monitor *osevents.Monitor
	sparing func() bool // of monitor

	mu     sync.Mutex // guards wokeAt
	wokeAt time.Time  // when the machine last woke, as far as anything noticed
}

// woke notes that the machine woke, and reports whether that was not known.
func (s *system) woke(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !at.After(s.wokeAt) {
		return false
	}
	s.wokeAt = at
	return true
}

func (s *system) lastWake() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wokeAt
}

// personIsAway reports whether the person is known to be away from the machine.
func (s *system) personIsAway() bool {
	p := s.monitor.Presence()
	return p.LockKnown && p.Locked || p.IdleKnown && p.Idle >= idleIsAway
}
