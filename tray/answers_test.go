package tray

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/notify"
	"berth/notify/prompt"
)

// answer is the tray's own notification.
func (d *desk) answer() notify.Notification {
	synctest.Wait()
	d.notifier.mu.Lock()
	defer d.notifier.mu.Unlock()
	return d.notifier.cards[ownPrefix+"answer"]
}

func (d *desk) opens() string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.files, " ")
}

// TestDoctorInADialog: the report can be read whole, and copied.
func TestDoctorInADialog(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.doctor = func() (Checkup, error) { return Checkup{Title: "1 thing does not work", Report: "All of it."}, nil }
		d.say(waking())
		d.click("", "Doctor")
		d.pause()
		if got := d.prompter.titles(); got != "1 thing does not work" || d.copied != "All of it." || d.notifier.titles() != "" {
			t.Errorf("dialogs %q, copied %q, shown %q", got, d.copied, d.notifier.titles())
		}
	})
}

// TestDoctor: where there are no dialogs its findings are shown, and the report
// is one press away.
func TestDoctor(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.err = &prompt.UnavailableError{Reason: "no zenity"}
		looking := make(chan struct{})
		d.doctor = func() (Checkup, error) {
			<-looking
			return Checkup{Title: "1 thing does not work", Text: "no tsh"}, nil
		}
		d.away() // the doctor is wanted above all when nothing else works
		d.click("", "Doctor")
		d.pause()
		if got := d.answer().Title; got != "The doctor is looking" {
			t.Errorf("shown: %q", got)
		}
		if !slices.Contains(d.kit.screen(), "    Doctor is looking… (grey)") {
			t.Errorf("menu %q", d.kit.screen())
		}
		close(looking)
		d.pause()
		if got := d.answer(); got.Title != "1 thing does not work" || got.Body != "no tsh" {
			t.Errorf("shown: %+v", got)
		}
		if !slices.Contains(d.kit.screen(), "    Doctor") || d.opens() != "" {
			t.Errorf("menu %q, opened %q", d.kit.screen(), d.opens())
		}
		d.notifier.press(t, ownPrefix+"answer", "Open report")
		if got := d.opens(); got != "/doctor.txt" {
			t.Errorf("opened %q", got)
		}
	})
}

// TestDoctorWithoutButtons: the report opens by itself.
func TestDoctorWithoutButtons(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.notifier.bare = true
		d.prompter.err = &prompt.UnavailableError{Reason: "no zenity"}
		d.doctor = func() (Checkup, error) { return Checkup{Title: "All is well"}, nil }
		d.say(waking())
		d.click("", "Doctor")
		if got := d.opens(); got != "/doctor.txt" {
			t.Errorf("opened %q", got)
		}
	})
}

// TestLastWordsStay: whatever comes while a notification is on its way, what is
// on the screen in the end was said last.
func TestLastWordsStay(t *testing.T) {
	onDesk(t, func(d *desk) {
		gate := make(chan struct{})
		d.notifier.gate = gate
		d.say(waking())
		d.show <- struct{}{}
		synctest.Wait() // on its way
		d.away()
		d.show <- struct{}{}
		s := waking()
		s.Notices = []state.Notice{ending("a", "A")}
		d.say(s)
		s.Notices = nil
		d.say(s) // withdrawn on its way
		s.Notices = []state.Notice{ending("a", "A again")}
		d.say(s) // and there again
		close(gate)
		if got := d.notifier.titles(); got != "A again; berth: the agent is not running" {
			t.Errorf("shown: %q", got)
		}
		s.Notices = nil
		d.say(s)
		if got := d.notifier.titles(); got != "berth: the agent is not running" {
			t.Errorf("shown: %q", got)
		}
	})
}

type errorWithStep struct{ error }

func (errorWithStep) NextStep() string { return "run it in a terminal" }

func TestDoctorThatFails(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.doctor = func() (Checkup, error) {
			return Checkup{}, fmt.Errorf("look: %w", errorWithStep{errors.New("no such file")})
		}
		d.say(waking())
		d.click("", "Doctor")
		want := "Look: no such file. Run it in a terminal."
		if got := d.answer(); got.Title != "The doctor failed" || got.Body != want {
			t.Errorf("shown: %+v", got)
		}
		time.Sleep(2 * drawEvery)
		if !slices.Contains(d.kit.screen(), "    Doctor") {
			t.Errorf("menu %q", d.kit.screen())
		}
	})
}

// TestSecondStartShowsTheStatus: with a button for the one thing that helps.
func TestSecondStartShowsTheStatus(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.away()
		d.show <- struct{}{}
		if got := d.answer(); got.Title != "berth: the agent is not running" {
			t.Errorf("shown: %+v", got)
		}
		d.notifier.press(t, ownPrefix+"answer", "Start agent")
		d.pause()
		if d.starts != 1 {
			t.Errorf("%d agents were started, want 1", d.starts)
		}
		d.show <- struct{}{}
		if got := d.answer(); got.Title != "berth: the agent is starting" || len(got.Actions) != 0 {
			t.Errorf("shown: %+v", got)
		}
		d.say(waking())
		d.noPanel.Store(true)
		d.show <- struct{}{}
		if got := d.answer().Body; !strings.HasPrefix(got, "No panel here shows the icon") || !strings.Contains(got, "staging-pg") {
			t.Errorf("shown: %q", got)
		}
		d.noPanel.Store(false)
		for range 2 { // the same words once more are news
			before := d.notifier.shown
			d.show <- struct{}{}
			if got := d.answer(); got.Title != "berth: 2 of 7 tunnels ready · 5 need you" || d.notifier.shown != before+1 {
				t.Errorf("shown: %+v", got)
			}
		}
	})
}

func TestStatus(t *testing.T) {
	crowded, _ := crowd()
	cases := map[string]struct {
		s           state.Snapshot
		env         Env
		title, text string
	}{
		"away":     {env: Env{Away: true}, title: "berth: the agent is not running", text: "Tunnels are down until it is started."},
		"starting": {env: Env{Away: true, Starting: true}, title: "berth: the agent is starting", text: "Tunnels are there in a moment."},
		"empty":    {title: "berth: 0 of 0 tunnels ready", text: "Not logged in: choose Log in… in the tray's menu"},
		"busy": {
			s: busy(), title: "berth: 2 of 7 tunnels ready · 5 need you",
			text: `alice @ example.com · 7 h 12 min left
old · 127.0.0.1:15432 · access denied
taken · 127.0.0.1:15432 · port in use
staging-pg · 127.0.0.1:15432 · waiting for login · 1 client waits
and 4 more: see berth status`,
		},
		"crowd": {
			s: crowded, title: "berth: 200 of 200 tunnels ready · 500 need you",
			text: `alice @ example.com · 7 h 12 min left · and 6 more
t000 · 127.0.0.1:15432 · ready
t001 · 127.0.0.1:15432 · ready
t002 · 127.0.0.1:15432 · ready
and 197 more: see berth status`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			title, text := statusText(c.s, c.env, noon)
			if diff := cmp.Diff(c.title+"\n"+c.text, title+"\n"+text); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
