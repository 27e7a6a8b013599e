package agent

import (
	"context"
	"sync"
	"time"

	"berth/agent/tunnel"
	"berth/internal/osevents"
)

// idleIsAway is how long nobody has touched the machine until nobody is there:
// shorter than it takes a screen to lock itself, longer than a phone call.
const idleIsAway = 5 * time.Minute

// system is what the operating system tells, as far as the agent acts on it.
type system struct {
	monitor *osevents.Monitor

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

// followSystem listens to the operating system until ctx ends.
func (a *Agent) followSystem(ctx context.Context) error { return a.system.monitor.Run(ctx) }

// heardFromSystem acts on what the operating system tells: connections look
// healthy after a sleep or on another network, and are not.
func (a *Agent) heardFromSystem(ev osevents.Event) {
	a.log.Info("system event", "event", ev.Kind.String(), "by", ev.By, "source", ev.Source)
	switch ev.Kind {
	case osevents.Woke:
		a.system.woke(time.Now().Round(0))
		a.homes.Refresh()
		a.tunnels.Kick(tunnel.Verify)
	case osevents.NetworkChanged:
		a.tunnels.Kick(tunnel.Verify)
	case osevents.ClockChanged:
		a.homes.Refresh()
		a.tunnels.Kick(tunnel.Changed)
	case osevents.Suspending, osevents.Locked, osevents.Unlocked:
	}
	a.touch()
}

// personIsAway reports whether the person is known to be away from the machine.
func (s *system) personIsAway() bool {
	p := s.monitor.Presence()
	return p.LockKnown && p.Locked || p.IdleKnown && p.Idle >= idleIsAway
}
