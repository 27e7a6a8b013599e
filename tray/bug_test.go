package tray

import (
	"strings"
	"testing"

	"berth/internal/survive"
)

// TestBugInAnAction: an action that meets a bug says so, and the tray does the next one.
func TestBugInAnAction(t *testing.T) { // not parallel: every action of the process meets the bug
	onDesk(t, func(d *desk) {
		d.say(waking())
		trap := func(string) { panic("a bug") }
		survive.Trap.Store(&trap)
		defer survive.Trap.Store(nil)
		d.click("prod__pg", "Stop")
		card := d.notifier.cards[ownPrefix+"answer"]
		if card.Title != "That did not work" || !strings.Contains(card.Body, "a bug") || d.agent.asked() != "" {
			t.Errorf("it shows %+v, and the agent was asked to %q", card, d.agent.asked())
		}
		survive.Trap.Store(nil)
		d.pause()
		d.click("prod__pg", "Stop")
		if got := d.agent.asked(); got != "stop prod_pg" {
			t.Errorf("afterwards the agent was asked to %q", got)
		}
	})
}
