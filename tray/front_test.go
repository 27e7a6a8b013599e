package tray

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/notify"
	"berth/notify/prompt"
)

// fakeAgent says what the test says and notes what it is asked for.
type fakeAgent struct {
	updates chan update
	login   func(show func(client.LoginEvent, func(string)) error) error
	assume  error

	mu    sync.Mutex
	calls []string
	fail  error
}

func (a *fakeAgent) call(format string, args ...any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
	return a.fail
}

// asked returns what the agent was asked for since the last time.
func (a *fakeAgent) asked() string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := strings.Join(a.calls, "; ")
	a.calls = nil
	return calls
}

func (a *fakeAgent) Follow(ctx context.Context) iter.Seq2[state.Snapshot, error] {
	return func(yield func(state.Snapshot, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case u := <-a.updates:
				if !yield(u.snapshot, u.err) {
					return
				}
			}
		}
	}
}

func (a *fakeAgent) Resources(context.Context, client.ResourceQuery) ([]client.Resource, error) {
	return []client.Resource{{Name: "orders db", Kind: state.KindDB, Protocol: "mysql", Cluster: "example.com"}}, nil
}

func (a *fakeAgent) AddTunnel(_ context.Context, s client.TunnelSpec) (client.TunnelSpec, error) {
	s.Port = 15001
	return s, a.call("add %s %s", s.Name, s.Resource)
}
func (a *fakeAgent) StartTunnel(_ context.Context, n string) error   { return a.call("start %s", n) }
func (a *fakeAgent) StopTunnel(_ context.Context, n string) error    { return a.call("stop %s", n) }
func (a *fakeAgent) RestartTunnel(_ context.Context, n string) error { return a.call("restart %s", n) }

func (a *fakeAgent) Login(_ context.Context, s client.LoginStart, show func(client.LoginEvent, func(string)) error) error {
	err := a.call("login %s renew=%v", s.Proxy, s.Renew)
	if a.login != nil {
		return a.login(show)
	}
	return err
}
func (a *fakeAgent) CancelLogin(_ context.Context, p string) error { return a.call("cancel %s", p) }
func (a *fakeAgent) Logout(_ context.Context, p string) (string, error) {
	return p, a.call("logout %s", p)
}

func (a *fakeAgent) SnoozeRenewal(_ context.Context, p string) (client.Snoozed, error) {
	return client.Snoozed{}, a.call("snooze %s", p)
}
func (a *fakeAgent) DismissNotice(_ context.Context, id string) error {
	return a.call("dismiss %s", id)
}

func (a *fakeAgent) DecideRequest(_ context.Context, id string, yes bool, _ string) (state.Request, error) {
	return state.Request{}, a.call("decide %s %v", id, yes)
}

func (a *fakeAgent) AssumeRequest(_ context.Context, as client.Assume) (client.Assumed, error) {
	err := a.call("assume %s tunnel=%q accept=%v", as.ID, as.Tunnel, as.AcceptEarlierEnd)
	if a.assume != nil && !as.AcceptEarlierEnd {
		err = a.assume
	}
	return client.Assumed{}, err
}

func (a *fakeAgent) DropRequests(_ context.Context, ids []string, tunnel string) ([]string, error) {
	return ids, a.call("drop %v tunnel=%q", ids, tunnel)
}

// fakeNotifier is a screen with notifications.
type fakeNotifier struct {
	acted  func(id, key string)
	closed func(id string)

	mu    sync.Mutex
	cards map[string]notify.Notification
	shown int
	fail  error
	bare  bool          // it shows no buttons
	gate  chan struct{} // what is shown waits for it to be closed; nil means that nothing waits
}

func (n *fakeNotifier) Show(_ context.Context, c notify.Notification) error {
	if n.gate != nil {
		<-n.gate
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.shown++
	n.cards[c.ID] = c
	return nil
}

func (n *fakeNotifier) Close(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cards, id)
}
func (n *fakeNotifier) Capabilities() notify.Capabilities {
	return notify.Capabilities{Server: "gnome-shell", Actions: !n.bare}
}
func (n *fakeNotifier) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// titles are what is on the screen.
func (n *fakeNotifier) titles() string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, c := range n.cards {
		out = append(out, c.Title)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// press presses a button, which takes the notification away.
func (n *fakeNotifier) press(t *testing.T, id, label string) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	card := n.cards[id]
	delete(n.cards, id)
	n.mu.Unlock()
	for _, a := range card.Actions {
		if a.Label == label {
			n.acted(id, a.Key)
			return
		}
	}
	t.Fatalf("notification %q has no button %q: %v", id, label, card.Actions)
}

// fakePrompter answers dialogs.
type fakePrompter struct {
	secret string
	err    error
	wait   chan struct{} // nil means that it answers at once

	mu    sync.Mutex
	asked []prompt.Question
}

func (p *fakePrompter) answer(ctx context.Context, q prompt.Question) (string, error) {
	p.mu.Lock()
	p.asked = append(p.asked, q)
	p.mu.Unlock()
	if p.wait != nil {
		select {
		case <-p.wait:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return p.secret, p.err
}

func (p *fakePrompter) Password(ctx context.Context, q prompt.Question) (string, error) {
	return p.answer(ctx, q)
}
func (p *fakePrompter) Code(ctx context.Context, q prompt.Question) (string, error) {
	return p.answer(ctx, q)
}

func (p *fakePrompter) Confirm(ctx context.Context, q prompt.Question) error {
	_, err := p.answer(ctx, q)
	return err
}

// desk is a tray and all around it.
type desk struct {
	*testing.T
	agent    *fakeAgent
	notifier *fakeNotifier
	prompter *fakePrompter
	kit      *fakeKit
	menu     *menu

	mu      sync.Mutex
	copied  string
	opened  string
	starts  int
	files   []string // that were opened
	show    chan struct{}
	noPanel atomic.Bool // nothing shows the icon
	doctor  func() (Checkup, error)
}

// onDesk runs a test with a tray whose time is the test's own.
func onDesk(t *testing.T, test func(d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{
			T: t, agent: &fakeAgent{updates: make(chan update)}, prompter: &fakePrompter{}, kit: &fakeKit{},
			notifier: &fakeNotifier{cards: make(map[string]notify.Notification)}, show: make(chan struct{}, 1),
		}
		d.menu = newMenu(d.kit)
		defer d.menu.close()
		cfg := Config{
			Logger: slog.New(slog.DiscardHandler), Agent: d.agent, Prompter: d.prompter, Version: "1.2.3",
			ConfigFile: "/config.yaml", LogFile: "/agent.log", ReportFile: "/doctor.txt", Show: d.show,
			Doctor: func(context.Context) (Checkup, error) { return d.doctor() },
			Notifier: func(acted func(id, key string), closed func(id string)) Notifier {
				d.notifier.acted, d.notifier.closed = acted, closed
				return d.notifier
			},
			StartAgent: func(context.Context) error { d.mu.Lock(); defer d.mu.Unlock(); d.starts++; return nil },
			Browse: func(_ context.Context, url string, _ []string, _ string) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.opened = url
				return nil
			},
			Open: func(_ context.Context, path string) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.files = append(d.files, path)
				if path == "/agent.log" {
					return errors.New("no program")
				}
				return nil
			},
			Copy: func(_ context.Context, text string) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.copied = text
				return nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		f := newFront(cfg, d.menu)
		f.hosted = func() bool { return !d.noPanel.Load() }
		go func() { ended <- f.run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, errQuit) {
				t.Error(err)
			}
		}()
		test(d)
	})
}

// say has the agent say something, and waits until it is drawn.
func (d *desk) say(s state.Snapshot) {
	d.agent.updates <- update{snapshot: s}
	d.pause()
}

func (d *desk) away() {
	d.agent.updates <- update{err: client.ErrNotRunning}
	d.pause()
}

func (d *desk) pause() {
	time.Sleep(drawEvery + settle)
	synctest.Wait()
}

func (d *desk) click(parent, label string) {
	d.Helper()
	e := d.kit.find(d.T, parent, label)
	synctest.Wait()
	select {
	case e.ch <- struct{}{}:
	default:
	}
	synctest.Wait()
}

// waking is a snapshot whose times are those of the bubble.
func waking() state.Snapshot {
	s := busy()
	until := time.Now().Add(7 * time.Hour)
	s.Profiles[0].ValidUntil = &until
	return s
}

func TestMenuActsOnTheAgent(t *testing.T) {
	cases := map[string]struct{ parent, label, want string }{
		"stop":    {"● prod__pg", "Stop", "stop prod_pg"},
		"start":   {"○ asleep", "Start", "start asleep"},
		"restart": {"● prod__pg", "Restart", "restart prod_pg"},
		"renew":   {"alice", "Renew now", "login teleport.example.com:443 renew=true"},
		"login":   {"◐ staging", "Log in", "login teleport.example.com:443 renew=false"},
		"logout":  {"alice", "Log out", "logout teleport.example.com:443"},
		"approve": {"? carol", "Approve…", "decide r-1 true"},
		"deny":    {"? carol", "Deny…", "decide r-1 false"},
		"assume":  {"✓ dba", "Assume", `assume r-2 tunnel="" accept=false`},
		"only":    {"✓ dba", "Assume for prod__pg only", `assume r-2 tunnel="prod_pg" accept=false`},
		"drop":    {"✓ audit", "Drop", `drop [r-4] tunnel=""`},
		"add":     {"Add tunnel", "orders db (mysql)", "add orders-db orders db"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onDesk(t, func(d *desk) {
				d.say(waking())
				d.click(c.parent, c.label)
				if got := d.agent.asked(); got != c.want {
					t.Errorf("the agent was asked to %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestMenuActsHere(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.say(waking())
		d.click("● prod__pg", "Copy address")
		if d.copied != "127.0.0.1:15432" {
			t.Errorf("copied %q", d.copied)
		}
		d.click("", "About berth")
		if got := d.notifier.titles(); got != "berth 1.2.3" {
			t.Errorf("shown: %q", got)
		}
		d.click("▲ old", "Why?")
		if got := d.notifier.titles(); got != "old: access denied" {
			t.Errorf("shown: %q", got)
		}
		d.click("", "Logs")
		if got := d.notifier.titles(); got != "The log was not opened" {
			t.Errorf("shown: %q", got)
		}
	})
}

// TestNothingIsDoneWithoutAYes: what cannot be taken back is asked for first.
func TestNothingIsDoneWithoutAYes(t *testing.T) {
	for _, line := range [][2]string{{"alice", "Log out"}, {"? carol", "Approve…"}, {"? carol", "Deny…"}} {
		t.Run(line[1], func(t *testing.T) {
			onDesk(t, func(d *desk) {
				d.prompter.err = prompt.ErrCanceled
				d.say(waking())
				d.click(line[0], line[1])
				if got := d.agent.asked(); got != "" || len(d.prompter.asked) != 1 {
					t.Errorf("asked for %q after %d dialogs", got, len(d.prompter.asked))
				}
				if got := d.notifier.titles(); got != "" {
					t.Errorf("shown: %q", got)
				}
			})
		})
	}
}

func TestWithoutDialogsTheCommandIsNamed(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.err = &prompt.UnavailableError{Reason: "no zenity", Hint: "install zenity"}
		d.say(waking())
		d.click("? carol", "Deny…")
		card := d.notifier.cards[ownPrefix+"answer"]
		if !strings.Contains(card.Body, "berth request deny r-1") {
			t.Errorf("shown: %+v", card)
		}
		if got := d.agent.asked(); got != "" {
			t.Errorf("asked for %q", got)
		}
	})
}

func TestAssumingThatCostsIsAskedFor(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.agent.assume = &client.Error{Code: ipc.CodeConfirm, Message: "with access request r-2 the session ends at 18:00 instead of 20:00"}
		d.say(waking())
		d.click("✓ dba", "Assume")
		want := `assume r-2 tunnel="" accept=false; assume r-2 tunnel="" accept=true`
		if got := d.agent.asked(); got != want {
			t.Errorf("asked for %q", got)
		}
		if q := d.prompter.asked[0]; q.Text != "With dba the session ends at 18:00 instead of 20:00. Assume dba all the same?" {
			t.Errorf("the dialog said %q", q.Text)
		}
	})
}

func TestFailuresAreTold(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.agent.fail = &client.Error{Code: ipc.CodeFailed, Message: "port 5 is taken", Hint: "choose another"}
		d.say(waking())
		d.click("● prod__pg", "Stop")
		synctest.Wait()
		card := d.notifier.cards[ownPrefix+"answer"]
		if card.Title != "prod_pg was not stopped" || card.Body != "Port 5 is taken. Choose another." {
			t.Errorf("shown: %+v", card)
		}
	})
}

// TestAgentComesAndGoes: killed under the menu, started again from it.
func TestAgentComesAndGoes(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.away()
		if d.kit.mood != MoodOff || !slices.Contains(d.kit.screen(), "Start agent") {
			t.Errorf("icon %s, menu %q", d.kit.mood, d.kit.screen())
		}
		d.click("", "Start agent")
		d.pause()
		if d.starts != 1 || !slices.Contains(d.kit.screen(), "Starting the agent… (grey)") {
			t.Errorf("%d starts, menu %q", d.starts, d.kit.screen())
		}
		d.say(waking())
		if d.kit.mood != MoodAction || slices.Contains(d.kit.screen(), "Start agent") {
			t.Errorf("icon %s, menu %q", d.kit.mood, d.kit.screen())
		}
		d.away()
		d.click("", "Start agent")
		time.Sleep(startWait + drawEvery)
		synctest.Wait()
		if got := d.notifier.titles(); got != "The agent has not started" {
			t.Errorf("shown: %q", got)
		}
		if !slices.Contains(d.kit.screen(), "Start agent") {
			t.Errorf("menu %q", d.kit.screen())
		}
	})
}

func ending(id, title string) state.Notice {
	return state.Notice{
		ID: id, Kind: state.NoticeSessionEnding, Title: title, Urgency: state.UrgencyNormal,
		Actions: []state.NoticeAction{
			{Verb: state.VerbRenew, Label: "Renew now", Proxy: "teleport.example.com:443"},
			{Verb: state.VerbSnooze, Label: "Snooze", Proxy: "teleport.example.com:443"},
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
		// Put away: the agent is told, and it does not come back meanwhile.
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

func TestButtons(t *testing.T) {
	cases := map[string]struct {
		label, want string
		refuse      bool
	}{
		"renew":    {label: "Renew now", want: "login teleport.example.com:443 renew=true"},
		"snooze":   {label: "Snooze", want: "snooze teleport.example.com:443"},
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
	t.Run("the_text_is_the_first_button", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			s := waking()
			s.Notices = []state.Notice{ending("a", "A")}
			d.say(s)
			d.notifier.acted("a", notify.DefaultKey)
			if got := d.agent.asked(); got != "login teleport.example.com:443 renew=true" {
				t.Errorf("asked for %q", got)
			}
			d.notifier.acted("gone", notify.DefaultKey)
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
		d.click("● prod__pg", "Stop")
		if got := d.agent.asked(); got != "stop prod_pg" {
			t.Errorf("asked for %q", got)
		}
	})
}

func TestLoginAsksAndOpens(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.secret = "hunter2"
		var got string
		d.agent.login = func(show func(client.LoginEvent, func(string)) error) error {
			_ = show(client.LoginEvent{Kind: ipc.LoginURL, URL: "http://127.0.0.1:1/x"}, nil)
			answered := make(chan struct{})
			_ = show(client.LoginEvent{ID: 7, Kind: ipc.LoginPassword, Text: "Password:"}, func(s string) { got = s; close(answered) })
			<-answered
			return show(client.LoginEvent{Kind: ipc.LoginDone}, nil)
		}
		d.say(waking())
		d.click("alice", "Renew now")
		synctest.Wait()
		if d.opened != "http://127.0.0.1:1/x" || got != "hunter2" {
			t.Errorf("opened %q, answered %q", d.opened, got)
		}
		for _, c := range d.notifier.cards {
			if strings.Contains(c.Title+c.Body, "hunter2") || strings.Contains(c.Body, "127.0.0.1:1/x") {
				t.Errorf("a notification says %+v", c)
			}
		}
	})
}

func TestLoginAnsweredElsewhereClosesTheDialog(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.wait = make(chan struct{}) // nobody types here
		d.agent.login = func(show func(client.LoginEvent, func(string)) error) error {
			_ = show(client.LoginEvent{ID: 7, Kind: ipc.LoginOTP}, func(string) { t.Error("answered") })
			time.Sleep(time.Minute)
			_ = show(client.LoginEvent{ID: 7, Kind: ipc.LoginSettled}, nil)
			return nil
		}
		d.say(waking())
		d.click("alice", "Renew now")
		time.Sleep(2 * time.Minute)
		if got := d.notifier.titles(); got != "" {
			t.Errorf("shown: %q", got)
		}
	})
}

// TestSnapshotsByTheThousand: the menu is drawn once a second whatever comes.
func TestSnapshotsByTheThousand(t *testing.T) {
	onDesk(t, func(d *desk) {
		s := waking()
		d.say(s)
		before := d.kit.count()
		for i := range 3000 {
			s.Tunnels = slices.Clone(s.Tunnels)
			s.Tunnels[0].Connections = int64(i + 10)
			d.agent.updates <- update{snapshot: s}
			time.Sleep(time.Millisecond)
		}
		d.pause()
		if n := d.kit.count() - before; n > 8 {
			t.Errorf("3000 snapshots in 3 s made %d calls of the toolkit", n)
		}
		if !slices.ContainsFunc(d.kit.screen(), func(l string) bool { return strings.Contains(l, "3009 open") }) {
			t.Errorf("the last one is not drawn: %q", d.kit.screen())
		}
	})
}

// TestTimePasses: a menu left open for an hour tells the time, and nothing else
// is touched.
func TestTimePasses(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.say(waking())
		time.Sleep(40 * time.Second) // until the face was drawn again as it is at the start
		before := d.kit.count()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := d.kit.count() - before; n > 121 {
			t.Errorf("an hour made %d calls, want two a minute at most", n)
		}
		if !strings.Contains(d.kit.screen()[0], "6 h 0 min left") {
			t.Errorf("the menu says %q", d.kit.screen()[0])
		}
	})
}

func TestQuit(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.say(waking())
		d.click("", "Quit tray (tunnels stay up)")
		if got := d.agent.asked(); got != "" {
			t.Errorf("asked for %q", got)
		}
	})
}

func TestNameFrom(t *testing.T) {
	for in, want := range map[string]string{
		"pg-prod": "pg-prod", "R&D main": "R-D-main", "../../etc": "etc", "": "tunnel", "日本": "tunnel",
		strings.Repeat("a", 99): strings.Repeat("a", maxName),
	} {
		if got := nameFrom(in); got != want {
			t.Errorf("nameFrom(%q) = %q, want %q", in, got, want)
		}
	}
	taken := []state.Tunnel{{Name: "pg"}, {Name: "pg-2"}}
	if got := freeName("pg", taken); got != "pg-3" {
		t.Errorf("freeName = %q", got)
	}
}

// TestAssumeLoggedOut: the click on Assume is the click on Log in as well, once;
// the agent holds what was to be assumed until then.
func TestAssumeLoggedOut(t *testing.T) {
	expired := func() state.Snapshot {
		s := waking()
		until := time.Now().Add(-time.Minute)
		s.Profiles[0].State, s.Profiles[0].ValidUntil = state.ProfileExpired, &until
		s.Notices = []state.Notice{{ID: "n", Title: "Approved: dba", Actions: []state.NoticeAction{
			{Verb: state.VerbAssume, Label: "Assume", Request: "r-2", Proxy: s.Profiles[0].Proxy},
		}}}
		return s
	}
	const want = `assume r-2 tunnel="" accept=false; login teleport.example.com:443 renew=false`
	for name, click := range map[string]func(*desk){
		"menu":         func(d *desk) { d.click("✓ dba", "Assume") },
		"notification": func(d *desk) { d.notifier.press(d.T, "n", "Assume") },
	} {
		t.Run(name, func(t *testing.T) {
			onDesk(t, func(d *desk) {
				d.say(expired())
				click(d)
				calls := strings.Split(d.agent.asked(), "; ")
				slices.Sort(calls)
				if got := strings.Join(calls, "; "); got != want {
					t.Errorf("asked for %q, want %q", got, want)
				}
			})
		})
	}
	t.Run("nobody_logged_in", func(t *testing.T) {
		onDesk(t, func(d *desk) {
			d.agent.assume = &client.Error{Code: ipc.CodeLoginNeeded, Message: "no login came within 60 s: access request r-2 was not assumed", Hint: "berth login p"}
			d.say(expired())
			d.click("✓ dba", "Assume")
			card := d.notifier.cards[ownPrefix+"answer"]
			if card.Title != "dba was not assumed" || card.Body != "No login came within 60 s: access request r-2 was not assumed. Berth login p." {
				t.Errorf("shown: %+v", card)
			}
		})
	})
}
