package tray

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
)

// Mood is the state that the icon shows.
type Mood string

// The moods. They differ in shape, not in colour alone.
const (
	MoodFine   Mood = "fine"
	MoodSoon   Mood = "soon"   // something ends soon
	MoodAction Mood = "action" // something wants doing
	MoodOff    Mood = "off"    // no agent
)

// Moods are all of them.
var Moods = []Mood{MoodFine, MoodSoon, MoodAction, MoodOff}

// MoodOf decides which icon is shown.
func MoodOf(s state.Snapshot, env Env, now time.Time) Mood {
	switch {
	case env.Away:
		return MoodOff
	case env.NoTSH, len(s.Profiles) == 0, slices.ContainsFunc(needsOf(s, now), func(n need) bool { return !n.good && !n.asks }):
		return MoodAction
	case slices.ContainsFunc(s.Requests, func(r state.Request) bool { return requestRank(r) == 1 || requestRank(r) == 2 }):
		return MoodAction
	case slices.ContainsFunc(s.Profiles, func(p state.Profile) bool {
		return p.ValidUntil != nil && now.Before(*p.ValidUntil) && p.ValidUntil.Sub(now) < state.ExpiringWithin
	}):
		return MoodSoon
	case slices.ContainsFunc(s.Requests, func(r state.Request) bool {
		return r.Assumed && r.AccessUntil != nil && r.AccessUntil.Sub(now) < state.RequestEndsSoon
	}):
		return MoodSoon
	default:
		return MoodFine
	}
}

func wantsAction(t state.Tunnel) bool {
	switch t.State {
	case state.TunnelReady, state.TunnelConnecting, state.TunnelStopped:
		return false
	default:
		return true
	}
}

// Tooltip returns the text shown when the pointer rests on the icon.
func Tooltip(s state.Snapshot, env Env, now time.Time) string {
	if env.Away {
		return "berth: the agent is not running"
	}
	parts := []string{"berth: " + tally(s, now)}
	if len(s.Profiles) > 0 {
		parts = append(parts, profileLabel(s.Profiles[0], now))
	}
	// Windows shows 127 characters.
	return plain.Short(strings.Join(parts, " · "), maxLabel)
}

// tally says how many tunnels are ready and how many things need the person.
func tally(s state.Snapshot, now time.Time) string {
	ready := 0
	for _, t := range s.Tunnels {
		if t.State == state.TunnelReady {
			ready++
		}
	}
	text := fmt.Sprintf("%d of %s ready", ready, plural(int64(len(s.Tunnels)), "tunnel", "tunnels"))
	if n := len(needsOf(s, now)); n > 0 {
		text += " · " + plural(int64(n), "needs you", "need you")
	}
	return text
}
