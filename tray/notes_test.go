package tray

import (
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/notify"
	"berth/notify/prompt"
)

func ending(id, title string) state.Notice {
	return state.Notice{
		ID: id, Kind: state.NoticeSessionEnding, Title: title, Urgency: state.UrgencyNormal,
		Actions: []state.NoticeAction{
			{Verb: state.VerbRenew, Label: "Renew now", Proxy: "teleport.example.com:443", User: "alice"},
			{Verb: state.VerbSnooze, Label: "Snooze", Proxy: "teleport.example.com:443", User: "alice"},
			{Verb: state.VerbDeny, Label: "Deny", Request: "r-1", Confirm: true},
		},
	}
}

func TestNoticesAreFollowed(t *testing.T) {
	onDesk(t, func(d *desk) {
		s := waking()
		s.Notices = []state.Notice{ending("a", "A"), ending("b", "B")}
		d.say(s)
		if got := d.notifier.titles(); got != "A; B" {
			t.Errorf("shown: %q", got)
		}
		d.say(s)
		if d.notifier.shown != 2 {
			t.Errorf("%d were shown, want 2", d.notifier.shown)
		}
		s.Notices = []state.Notice{ending("a", "A2")}
		d.say(s)
		if got := d.notifier.titles(); got != "A2" {
			t.Errorf("shown: %q", got)
		}
		// Put away: the agent learns it, and it does not come back meanwhile.
		d.notifier.Close("a")
		d.notifier.closed("a")
		if got := d.agent.asked(); got != "dismiss a" {
			t.Errorf("asked for %q", got)
		}
		s.Notices = []state.Notice{ending("a", "A3")}
		d.say(s)
		if got := d.notifier.titles(); got != "" {
			t.Errorf("shown: %q", got)
		}
		// Gone and there again is another trouble.
		s.Notices = nil
		d.say(s)
		s.Notices = []state.Notice{ending("a", "A4")}
		d.say(s)
		if got := d.notifier.titles(); got != "A4" {
			t.Errorf("shown: %q", got)
		}
	})
}

// TestOneTooManyIsTriedAgain: with the next snapshot, when others may be gone.
func TestOneTooManyIsTriedAgain(t *testing.T) {
	onDesk(t, func(d *desk) {
		s := waking()
		s.Notices = []state.Notice{ending("a", "A")}
		d.notifier.fail = notify.ErrTooMany
		d.say(s)
		if got := d.notifier.titles(); got != "" {
			t.Errorf("shown: %q", got)
		}
		d.notifier.fail = nil
		d.say(s)
		if got := d.notifier.titles(); got != "A" {
			t.Errorf("shown: %q", got)
		}
	})
}

func TestButtons(t *testing.T) {
	cases := map[string]struct {
		label, want string
		refuse      bool
	}{
		"renew":    {label: "Renew now", want: "login alice@teleport.example.com:443 renew=true"},
		"snooze":   {label: "Snooze", want: "snooze alice@teleport.example.com:443"},
		"deny":     {label: "Deny", want: "decide r-1 false"},
		"deny_not": {label: "Deny", refuse: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onDesk(t, func(d *desk) {
				if c.refuse {
					d.prompter.err = prompt.ErrCanceled
				}
				s := waking()
				s.Notices = []state.Notice{ending("a", "A")}
				d.say(s)
				d.notifier.press(t, "a", c.label)
				if got := d.agent.asked(); got != c.want {
					t.Errorf("asked for %q, want %q", got, c.want)
				}
			})
		})
	}
	t.Run("of_the_words_that_were_clicked", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			s := waking()
			s.Notices = []state.Notice{ending("a", "A")}
			d.say(s)
			if list := d.notifier.cards["a"].Actions; list[len(list)-1] != (notify.Action{Key: notify.DefaultKey, Label: "Renew now"}) {
				t.Errorf("a click on the text stands for %+v", list)
			}
			// The newest words of an ID may not be those on the screen: what a click on
			// the text stands for is for the notifier to say.
			d.notifier.acted("a", notify.DefaultKey)
			d.notifier.acted("a", "%zz?%zz")
			d.notifier.acted("a", "format_disk")
			if got := d.agent.asked(); got != "" {
				t.Errorf("asked for %q", got)
			}
		})
	})
}

func TestKeysSayAll(t *testing.T) {
	for _, a := range append(ending("a", "A").Actions,
		state.NoticeAction{Verb: state.VerbAssume, Request: "r&=?%;\n", Tunnel: "t 1", Proxy: "p:1"}) {
		a.Label = ""
		if got, ok := actionOf(keyOf(a)); !ok || got != a {
			t.Errorf("actionOf(keyOf(%+v)) = %+v, %v", a, got, ok)
		}
	}
}

// TestNoticesOutliveAShortRestart of the agent, and no longer one.
func TestNoticesOutliveAShortRestart(t *testing.T) {
	onDesk(t, func(d *desk) {
		s := waking()
		s.Notices = []state.Notice{ending("a", "A")}
		d.say(s)
		d.away()
		d.say(s)
		time.Sleep(2 * awayGrace)
		if got := d.notifier.titles(); got != "A" || d.notifier.shown != 1 {
			t.Errorf("shown: %q, %d times", got, d.notifier.shown)
		}
		d.away()
		time.Sleep(2 * awayGrace)
		if got := d.notifier.titles(); got != "" {
			t.Errorf("shown: %q", got)
		}
	})
}

func TestNotificationsThatFailDoNoHarm(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.notifier.fail = notify.ErrUnavailable
		s := waking()
		s.Notices = []state.Notice{ending("a", "A")}
		d.say(s)
		d.click("prod__pg", "Stop")
		if got := d.agent.asked(); got != "stop prod_pg" {
			t.Errorf("asked for %q", got)
		}
	})
}

// TestPressedWhileAway: what only an agent can do is not done, is said to be why, and can
// be pressed again when the agent is back.
func TestPressedWhileAway(t *testing.T) {
	const why = "The agent is not running. Try again when it is."
	s := func() state.Snapshot {
		s := waking()
		s.Notices = []state.Notice{ending("a", "A")}
		return s
	}
	t.Run("button", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			d.say(s())
			d.away()
			d.notifier.press(t, "a", "Snooze")
			if got := d.answer(); got.Title != "Nothing was done" || got.Body != why || d.agent.asked() != "" {
				t.Errorf("shown: %+v", got)
			}
			d.say(s())
			d.notifier.press(t, "a", "Snooze")
			if got := d.agent.asked(); got != "snooze alice@teleport.example.com:443" {
				t.Errorf("asked for %q", got)
			}
		})
	})
	t.Run("asked_before_it_went", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			d.prompter.wait = make(chan struct{})
			d.say(s())
			d.notifier.press(t, "a", "Deny")
			d.away()
			close(d.prompter.wait)
			if got := d.answer(); got.Title != "Nothing was done" || got.Body != why || d.agent.asked() != "" {
				t.Errorf("shown: %+v", got)
			}
			d.say(s())
			d.notifier.press(t, "a", "Deny")
			if got := d.agent.asked(); got != "decide r-1 false" {
				t.Errorf("asked for %q", got)
			}
		})
	})
	t.Run("menu", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			d.say(s())
			d.agent.updates <- update{snapshot: s()} // drawn at once, and what comes now in a second
			d.agent.updates <- update{err: client.ErrNotRunning}
			d.click("alice", "Renew now")
			if got := d.answer(); got.Title != "Nothing was done" || got.Body != why || d.agent.asked() != "" {
				t.Errorf("shown: %+v", got)
			}
		})
	})
	t.Run("before_the_first_answer", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			d.notifier.acted("a", keyOf(ending("a", "A").Actions[1]))
			d.say(s())
			if got := d.agent.asked(); got != "snooze alice@teleport.example.com:443" {
				t.Errorf("asked for %q, shown: %+v", got, d.answer())
			}
		})
	})
	t.Run("what_needs_none", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			d.say(s())
			d.away()
			d.notifier.Close("a")
			d.notifier.closed("a")
			d.say(s())
			if got := d.notifier.titles(); got != "" {
				t.Errorf("shown: %q", got)
			}
		})
	})
}
