package tray

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/notify"
)

// maxStatus is how many tunnels the status in a notification names.
const maxStatus = 3

// Buttons of the tray's own notifications, beside those of the agent's notices.
const (
	verbReport     state.Verb = "open_report"
	verbCopyLink   state.Verb = "copy_link"
	verbStartAgent state.Verb = "start_agent"
)

// ownButton is a button of a notification of the tray's own.
func ownButton(verb state.Verb, label string) notify.Action {
	return notify.Action{Key: keyOf(state.NoticeAction{Verb: verb}), Label: label}
}

// showStatus answers whoever starts the tray a second time, or cannot find it.
func (f *front) showStatus() {
	title, text := statusText(f.snapshot, f.env, time.Now().Round(0))
	if !f.hosted() {
		text = "No panel here shows the icon: berth doctor says what helps.\n" + text
	}
	f.tell(title, text, f.startButton()...)
}

// startButton starts an agent where none runs or is about to.
func (f *front) startButton() []notify.Action {
	if !f.env.Away || f.env.Starting {
		return nil
	}
	return []notify.Action{ownButton(verbStartAgent, "Start agent")}
}

// tellAway answers what only an agent can do.
func (f *front) tellAway() {
	text := "The agent is not running. Try again when it is."
	if f.env.Starting {
		text = "The agent is starting. Try again in a moment."
	}
	f.tell("Nothing was done", text, f.startButton()...)
}

// statusText describes the current state in a title and a few lines: the logins,
// then the tunnels, those that need attention first. It depends on its
// arguments alone.
func statusText(s state.Snapshot, env Env, now time.Time) (title, text string) {
	switch {
	case env.Starting:
		return "berth: the agent is starting", "Tunnels are there in a moment."
	case env.Away:
		return "berth: the agent is not running", "Tunnels are down until it is started."
	}
	lines := make([]string, 0, maxStatus+2)
	if len(s.Profiles) == 0 {
		lines = append(lines, "Not logged in: choose Log in… in the tray's menu")
	} else {
		line := profileLabel(nextToEnd(s, now), now)
		if n := len(s.Profiles) - 1; n > 0 {
			line += fmt.Sprintf(" · and %d more", n)
		}
		lines = append(lines, line)
	}
	tunnels := slices.Clone(s.Tunnels)
	slices.SortStableFunc(tunnels, func(a, b state.Tunnel) int { return rankTunnel(a) - rankTunnel(b) })
	for i, t := range tunnels {
		if i == maxStatus {
			lines = append(lines, fmt.Sprintf("and %d more: see berth status", len(tunnels)-maxStatus))
			break
		}
		lines = append(lines, tunnelLabel(t))
	}
	return "berth: " + tally(s, now), strings.Join(lines, "\n")
}

// rankTunnel orders tunnels by how much they want doing.
func rankTunnel(t state.Tunnel) int {
	switch {
	case t.State == state.TunnelWaitingForLogin:
		return 1
	case wantsAction(t):
		return 0
	case t.State == state.TunnelStopped:
		return 3
	default:
		return 2
	}
}
