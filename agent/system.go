package agent

import (
	"context"
	"sync"
	"time"

	"berth/agent/renew"
	"berth/internal/osevents"
)

// idleIsAway is how long nobody has touched the machine until nobody is there:
// shorter than it takes a screen to lock itself, longer than a phone call.
const idleIsAway = 5 * time.Minute

// system is what the operating system tells, as far as the agent acts on it.
type system struct {
	monitor *osevents.Monitor

	mu     sync.Mutex // guards wokeAt
	wokeAt time.Time
}

// followSystem listens to the operating system until ctx ends.
func (a *Agent) followSystem(ctx context.Context) error { return a.system.monitor.Run(ctx) }

// heardFromSystem acts on what the operating system tells: connections look
// healthy after a sleep or on another network, and are not.
func (a *Agent) heardFromSystem(ev osevents.Event) {
	a.log.Info("the system tells", "event", ev.Kind.String(), "by", ev.By, "source", ev.Source)
	switch ev.Kind {
	case osevents.Woke:
		a.system.mu.Lock()
		a.system.wokeAt = time.Now().Round(0)
		a.system.mu.Unlock()
		a.homes.Refresh()
		a.kickTunnels(kickVerify)
	case osevents.NetworkChanged:
		a.kickTunnels(kickVerify)
	case osevents.ClockChanged:
		a.homes.Refresh()
		a.kickTunnels(kickChanged)
	case osevents.Suspending, osevents.Locked, osevents.Unlocked:
	}
	a.touch()
}

// wokeAt is when the machine last woke, as far as anybody noticed.
func (a *Agent) lastWake() time.Time {
	a.system.mu.Lock()
	defer a.system.mu.Unlock()
	if seen := a.homes.View().WokeAt; seen.After(a.system.wokeAt) {
		return seen
	}
	return a.system.wokeAt
}

// personIsAway says whether nobody is at the machine. What is not known counts
// as there.
func (a *Agent) personIsAway() bool {
	p := a.system.monitor.Presence()
	return p.LockKnown && p.Locked || p.IdleKnown && p.Idle >= idleIsAway
}

// nearEnd reports whether a session is so near its end that something may have
// to be decided.
func nearEnd(in renew.Input) bool {
	soon, _ := renew.Times(in.ValidFrom, in.ValidUntil, in.Before)
	return !in.ValidUntil.IsZero() && !in.Now.Before(soon)
}
