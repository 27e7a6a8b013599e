package tray

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
)

// mood is the state that the icon shows.
type mood string

// The moods. They differ in shape, not in colour alone.
const (
	moodFine   mood = "fine"
	moodMarked mood = "marked" // well, and out of the ordinary: assumed roles, a proxy that is not verified
	moodNews   mood = "news"   // good news: an approved request waits to be assumed
	moodSoon   mood = "soon"   // something ends soon
	moodAsk    mood = "ask"    // another person waits for an answer
	moodAction mood = "action" // something does not work, or waits for a login
	moodOff    mood = "off"    // no agent
)

// moodOf decides which icon is shown.
func moodOf(s state.Snapshot, env Env, now time.Time) mood {
	if env.Away {
		return moodOff
	}
	needs := needsOf(s, now)
	has := func(match func(need) bool) bool { return slices.ContainsFunc(needs, match) }
	switch {
	case env.NoTSH, len(s.Profiles) == 0, has(func(n need) bool { return !n.good && !n.asks }):
		return moodAction
	case has(func(n need) bool { return n.asks }):
		return moodAsk
	case endsSoon(s, now):
		return moodSoon
	case has(func(n need) bool { return n.good }):
		return moodNews
	case len(marks(s)) > 0:
		return moodMarked
	default:
		return moodFine
	}
}

// marks says in words what is out of the ordinary although all is well.
func marks(s state.Snapshot) []string {
	var found []string
	if slices.ContainsFunc(s.Problems, func(p state.Problem) bool { return p.Code == state.CodeInsecureProxy }) {
		found = append(found, "INSECURE proxy")
	}
	for _, r := range s.Requests {
		if r.Assumed || len(r.Tunnels) > 0 {
			return append(found, plain.Short(asked(r), maxName)+" assumed")
		}
	}
	return found
}

// Attention reports whether the icon of a mood should be noticed.
func (m mood) Attention() bool { return m == moodAction || m == moodAsk || m == moodNews }

// endsSoon reports whether a session or assumed roles end soon, also when the
// reminder was snoozed.
func endsSoon(s state.Snapshot, now time.Time) bool {
	return slices.ContainsFunc(s.Profiles, func(p state.Profile) bool { return sessionEndsSoon(p, now) }) || slices.ContainsFunc(s.Requests, func(r state.Request) bool {
		return r.Assumed && r.AccessUntil != nil && r.AccessUntil.Sub(now) < state.RequestEndsSoon
	})
}

func sessionEndsSoon(p state.Profile, now time.Time) bool {
	return p.ValidUntil != nil && now.Before(*p.ValidUntil) && p.ValidUntil.Sub(now) < state.ExpiringWithin
}

// nextToEnd is the session to speak of where there is room for one: the first that ends
// soon, else the first. There is one at least.
func nextToEnd(s state.Snapshot, now time.Time) state.Profile {
	i := slices.IndexFunc(s.Profiles, func(p state.Profile) bool { return sessionEndsSoon(p, now) })
	return s.Profiles[max(i, 0)]
}

func wantsAction(t state.Tunnel) bool {
	switch t.State {
	case state.TunnelReady, state.TunnelConnecting, state.TunnelStopped:
		return false
	default:
		return true
	}
}

// tooltipOf returns the text shown when the pointer rests on the icon.
func tooltipOf(s state.Snapshot, env Env, now time.Time) string {
	if env.Away {
		return "berth: the agent is not running"
	}
	parts := append([]string{"berth: " + tally(s, now)}, marks(s)...)
	switch {
	case env.NoTSH:
		parts = append(parts, "tsh is missing")
	case len(s.Profiles) == 0:
		parts = append(parts, "not logged in")
	default:
		parts = append(parts, profileLabel(nextToEnd(s, now), now))
	}
	return plain.Short(strings.Join(parts, " · "), maxTip)
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
