package tray

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/notify/prompt"
)

func TestMenuActsOnTheAgent(t *testing.T) {
	cases := map[string]struct{ parent, label, want string }{
		"stop":    {"prod__pg", "Stop", "stop prod_pg"},
		"start":   {"asleep", "Start", "start asleep"},
		"restart": {"prod__pg", "Restart", "restart prod_pg"},
		"renew":   {"alice", "Renew now", "login alice@teleport.example.com:443 renew=true"},
		"login":   {"staging", "Log in", "login alice@teleport.example.com:443 renew=false"},
		"logout":  {"alice", "Log out", "logout alice@teleport.example.com:443"},
		"approve": {"carol", "Approve…", "decide r-1 true"},
		"deny":    {"carol", "Deny…", "decide r-1 false"},
		"assume":  {"dba", "Assume", `assume r-2 tunnel="" accept=false`},
		"only":    {"dba", "Assume for prod__pg only", `assume r-2 tunnel="prod_pg" accept=false`},
		"drop":    {"audit", "Drop", `drop [r-4] tunnel=""`},
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

// Where the policy switches links off, none is offered.
func TestNoLinksToCopy(t *testing.T) {
	s := waking()
	made := state.Request{ID: "5e1f0c2a"}
	if lines := wanted(Layout(s, Env{}, time.Now())); !slices.Contains(lines, "    Copy link") || len(createdButtons(s, made)) != 2 {
		t.Fatalf("with links there are none in %q", lines)
	}
	s.Policy = &state.Policy{Forbids: []string{"links: off"}}
	if lines := wanted(Layout(s, Env{}, time.Now())); slices.Contains(lines, "    Copy link") || len(createdButtons(s, made)) != 1 {
		t.Errorf("there are links in %q", lines)
	}
}

func TestMenuActsHere(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.say(waking())
		d.click("prod__pg", "Copy address")
		if d.copied != "127.0.0.1:15432" {
			t.Errorf("copied %q", d.copied)
		}
		d.click("prod__pg", "Copy link")
		if d.copied != "berth://add?cluster=example.com&kind=db&name=prod_pg&resource=prod_pg-db" {
			t.Errorf("copied %q", d.copied)
		}
		d.click("", "About berth")
		d.click("old", "Why?")
		if got := d.prompter.titles(); got != "berth 1.2.3; old: access denied" || d.copied != "The cluster refused." {
			t.Errorf("dialogs %q, copied %q", got, d.copied)
		}
		d.click("", "Copy diagnostics")
		if got := d.notifier.titles(); got != "Diagnostics copied" || d.copied != "diagnostics" {
			t.Errorf("shown %q, copied %q", got, d.copied)
		}
		// What cannot be opened can be pasted.
		d.click("", "Logs")
		card := d.notifier.cards[ownPrefix+"answer"]
		if d.notifier.titles() != "Open it yourself" || !strings.HasSuffix(card.Body, "\n/agent.log") || d.copied != "/agent.log" {
			t.Errorf("shown %+v, copied %q", card, d.copied)
		}
	})
}

// TestReportsWithoutDialogs: what does not fit is cut, and the words are there.
func TestReportsWithoutDialogs(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.err = &prompt.UnavailableError{Reason: "no zenity"}
		d.say(waking())
		d.click("old", "Why?")
		if got := d.notifier.titles(); got != "old: access denied" {
			t.Errorf("shown: %q", got)
		}
	})
}

// TestTheWindowIsOpened for whatever is long.
func TestTheWindowIsOpened(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.say(waking())
		for _, line := range [][2]string{
			{"", "Open berth"}, {"", "Recordings…"}, {"", "About berth"}, {"", "Doctor"}, {"", "All settings"}, {"", "Request access…"}, {"old", "Why?"}, {"carol", "Details"},
		} {
			d.click(line[0], line[1])
		}
		d.pause()
		want := []string{"", "recordings", "about", "doctor", "settings", "access/new", "tunnels/old", "access/r-1"}
		if !slices.Equal(d.pages, want) || d.prompter.titles() != "" {
			t.Errorf("opened %q, want %q", d.pages, want)
		}
	}, withWindow)
}

// TestDetailsKeepTheirButtons: whoever reads on can still act, with and without a window.
func TestDetailsKeepTheirButtons(t *testing.T) {
	for _, window := range [][]func(*desk, *Config){nil, {withClosedWindow}} {
		onDesk(t, func(d *desk) {
			d.say(waking())
			d.click("dba", "Details")
			d.notifier.press(t, ownPrefix+"answer", "Assume")
			if got := d.agent.asked(); got != `assume r-2 tunnel="" accept=false` {
				t.Errorf("asked for %q", got)
			}
			d.click("carol", "Details")
			d.notifier.press(t, ownPrefix+"answer", "Deny…")
			if got := d.agent.asked(); got != "decide r-1 false" || d.prompter.titles() != "Deny admin for carol?" {
				t.Errorf("asked for %q", got)
			}
		}, window...)
	}
}

// TestPortInUse: another port is asked for until it is one.
func TestPortInUse(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.text = "15999"
		d.say(waking())
		d.click("5 need", "taken: port in use")
		if got := d.agent.asked(); got != "change taken port=15999" || d.notifier.titles() != "taken is at a new port" {
			t.Errorf("asked for %q, shown %q", got, d.notifier.titles())
		}
	})
}

// TestPortOfAChangedTunnel: the port alone is changed of a tunnel that others changed while
// the dialog was open.
func TestPortOfAChangedTunnel(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.text, d.prompter.wait = "15999", make(chan struct{})
		s := waking()
		d.say(s)
		d.click("5 need", "taken: port in use")
		s.Tunnels = slices.Clone(s.Tunnels)
		i := slices.IndexFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Name == "taken" })
		s.Tunnels[i].DBUser = "reporting"
		d.say(s)
		close(d.prompter.wait)
		synctest.Wait()
		if got := d.agent.changed; got.Port != 15999 || got.DBUser != "reporting" {
			t.Errorf("changed to %+v", got)
		}
	})
}

// TestFirstLogin: whoever has no profile is asked for the proxy's address.
func TestFirstLogin(t *testing.T) {
	for typed, want := range map[string]string{
		"teleport.example.com": "teleport.example.com", " https://t.example.com:3080/web/login ": "t.example.com:3080", "t.example.com/web": "t.example.com",
	} {
		onDesk(t, func(d *desk) {
			d.prompter.text = typed
			d.say(state.Snapshot{})
			d.click("", "Log in…")
			if got := d.agent.asked(); got != "login "+want+" renew=false" {
				t.Errorf("%q: asked for %q", typed, got)
			}
		})
	}
}

// TestTwoUsersAtOneProxy: of two homes, what is clicked of one user's session is done to that.
func TestTwoUsersAtOneProxy(t *testing.T) {
	const at = "teleport.example.com:443"
	both := func(change func(bob *state.Profile)) state.Snapshot {
		s := waking()
		bob := s.Profiles[0]
		bob.User, bob.Home = "bob", "/second"
		change(&bob)
		s.Profiles = append(s.Profiles, bob)
		s.Notices = []state.Notice{ending("a", "A")}
		for i := range s.Notices[0].Actions[:2] {
			s.Notices[0].Actions[i].User = "bob"
		}
		return s
	}
	valid := func(*state.Profile) {}
	expired := func(bob *state.Profile) { bob.State, bob.ValidUntil = state.ProfileLoggedOut, nil }
	logsIn := func(bob *state.Profile) { bob.Login = state.Login{InProgress: true, URL: "http://127.0.0.1:1/bob"} }
	warned := func(bob *state.Profile) { bob.Renewal.Warning = state.WarnSoon }
	for name, c := range map[string]struct {
		bob         func(*state.Profile)
		label, want string
		card        bool
	}{
		"logout":        {bob: valid, label: "Log out", want: "logout bob@" + at},
		"renew":         {bob: valid, label: "Renew now", want: "login bob@" + at + " renew=true"},
		"login":         {bob: expired, label: "Log in", want: "login bob@" + at + " renew=false"},
		"cancel":        {bob: logsIn, label: "Cancel the login", want: "cancel bob@" + at},
		"snooze":        {bob: warned, label: "Remind me later", want: "snooze bob@" + at},
		"notice_renew":  {bob: valid, label: "Renew now", want: "login bob@" + at + " renew=true", card: true},
		"notice_snooze": {bob: valid, label: "Snooze", want: "snooze bob@" + at, card: true},
	} {
		t.Run(name, func(t *testing.T) {
			onDesk(t, func(d *desk) {
				d.say(both(c.bob))
				if c.card {
					d.notifier.press(t, "a", c.label)
				} else {
					d.click("bob", c.label)
				}
				if got := d.agent.asked(); got != c.want {
					t.Errorf("asked for %q, want %q", got, c.want)
				}
			})
		})
	}
	if got := proxiesOf(both(valid)); !slices.Equal(got, []string{at}) {
		t.Errorf("there are settings of %q", got)
	}
	onDesk(t, func(d *desk) {
		d.say(both(logsIn))
		d.click("bob", "Open the login page")
		if d.opened != "http://127.0.0.1:1/bob" {
			t.Errorf("opened %q", d.opened)
		}
		d.agent.login = wrongTill("right")
		d.prompter.secret = "right"
		d.say(both(expired))
		d.click("bob", "Log in")
		if q := d.prompter.asked; len(q) != 1 || q[0].Initial != "bob" {
			t.Errorf("asked %+v", q)
		}
		d.prompter.err = &prompt.UnavailableError{Reason: "no zenity"}
		d.say(both(valid))
		d.click("bob", "Log out")
		if got := d.answer().Body; !strings.Contains(got, "berth logout teleport.example.com --user=bob") {
			t.Errorf("shown: %q", got)
		}
	})
}

// TestFirstTouch: where there is no profile the agent has no notice of the security key,
// and the tray asks for the touch until the login goes on. One that fails is tried again.
func TestFirstTouch(t *testing.T) {
	onDesk(t, func(d *desk) {
		touched := make(chan error, 1)
		d.prompter.text = "teleport.example.com"
		d.agent.login = func(_ context.Context, show func(client.LoginEvent, func(string)) error) error {
			_ = show(client.LoginEvent{Kind: state.LoginTap}, nil)
			_ = show(client.LoginEvent{Kind: state.LoginInfo, Text: "Tap any security key"}, nil)
			if err := <-touched; err != nil {
				return err
			}
			return show(client.LoginEvent{Kind: state.LoginDone}, nil)
		}
		d.say(state.Snapshot{})
		d.click("", "Log in…")
		card := d.notifier.cards[ownPrefix+tapID]
		if card.Title != "Touch your security key" || card.Body != "The login to teleport.example.com waits for it." {
			t.Errorf("shown: %+v", card)
		}
		touched <- errors.New("no touch came")
		if got := d.notifier.titles(); got != "Not logged in" {
			t.Errorf("shown: %q", got)
		}
		d.notifier.press(t, ownPrefix+answerID, "Log in")
		if got := d.notifier.titles(); got != "Touch your security key" {
			t.Errorf("shown: %q", got)
		}
		touched <- nil
		if got := d.notifier.titles(); got != "Logged in" {
			t.Errorf("shown: %q", got)
		}
		d.say(waking())
		d.click("alice", "Renew now")
		if got := d.notifier.titles(); got != "Logged in" {
			t.Errorf("beside the agent's notice is shown: %q", got)
		}
		touched <- nil
	})
}

// TestResourcesOfANewSession: a list that comes when another session is there is asked for
// again.
func TestResourcesOfANewSession(t *testing.T) {
	onDesk(t, func(d *desk) {
		asked := make(chan struct{})
		names := []string{"old", "new"}
		d.agent.list = func() []client.Resource {
			name := names[0]
			names = names[1:]
			<-asked
			return []client.Resource{{Name: name, Kind: state.KindDB, Protocol: "mysql", Cluster: "example.com"}}
		}
		s := waking()
		d.say(s)
		s.Profiles = slices.Clone(s.Profiles)
		s.Profiles[0].Roles = []string{"access", "dba", "audit"}
		d.say(s)
		start := time.Now()
		asked <- struct{}{}
		asked <- struct{}{}
		if took := time.Since(start); took > 0 {
			t.Errorf("asked again after %s", took)
		}
		d.pause()
		if got := d.kit.screen(); !slices.Contains(got, "    new (mysql)") || slices.Contains(got, "    Asking the cluster… (grey)") {
			t.Errorf("the menu says %q", got)
		}
	})
}

// TestNoTSH: the first line says how to get it, until it is there.
func TestNoTSH(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.noTSH.Store(true)
		d.say(state.Snapshot{})
		d.click("", "Get tsh, which logs you in")
		if got := d.prompter.titles(); got != "berth needs tsh" || d.copied != aboutTSH {
			t.Errorf("dialogs %q, copied %q", got, d.copied)
		}
		d.noTSH.Store(false)
		time.Sleep(time.Minute)
		d.pause()
		if got := d.kit.screen()[0]; got != "Log in…" {
			t.Errorf("the menu says %q", got)
		}
	})
}

func TestRequestAccess(t *testing.T) {
	for _, window := range [][]func(*desk, *Config){nil, {withClosedWindow}} {
		onDesk(t, func(d *desk) {
			d.prompter.text = "incident 7"
			d.say(waking())
			d.click("", "Request access…")
			if got := d.agent.asked(); got != `request teleport.example.com:443 [ops] "incident 7"` {
				t.Errorf("asked for %q", got)
			}
			d.notifier.press(t, ownPrefix+"answer", "Copy link")
			synctest.Wait()
			if d.copied != "berth://request/5e1f0c2a-0000-4000-8000-000000000001" {
				t.Errorf("copied %q", d.copied)
			}
		}, window...)
	}
}

// wrongTill refuses every password but the one that is right.
func wrongTill(right string) func(context.Context, func(client.LoginEvent, func(string)) error) error {
	return func(ctx context.Context, show func(client.LoginEvent, func(string)) error) error {
		answered := make(chan string, 1)
		_ = show(client.LoginEvent{ID: 1, Kind: state.LoginPassword, Text: "Enter password:"}, func(s string) { answered <- s })
		select {
		case <-ctx.Done():
			return ctx.Err()
		case got := <-answered:
			if got != right {
				return &client.Error{Code: ipc.CodeWrongSecret, Message: "wrong password"}
			}
		}
		until := time.Now().Add(6*time.Hour + 4*time.Minute)
		return show(client.LoginEvent{Kind: state.LoginDone, Deadline: &until, Proxy: "teleport.example.com:443", Text: "logged in as alice"}, nil)
	}
}

// TestWrongPassword: the dialog comes back, three times.
func TestWrongPassword(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.secret = "wrong"
		d.agent.login = wrongTill("right")
		d.say(waking())
		d.click("alice", "Renew now")
		synctest.Wait()
		if n := len(d.prompter.asked); n != tries {
			t.Fatalf("%d dialogs, want %d", n, tries)
		}
		first, second := d.prompter.asked[0], d.prompter.asked[1]
		if first.Initial != "alice" || !strings.HasPrefix(first.Text, "psql (pid 7) waits for staging-pg.\nEnter password:") ||
			!strings.HasPrefix(second.Text, "Wrong user name, password or code: try again.\npsql") {
			t.Errorf("asked %+v, then %+v", first, second)
		}
		d.prompter.secret = "right"
		d.notifier.press(t, ownPrefix+"answer", "Log in")
		synctest.Wait()
		if got := d.notifier.titles(); got != "Logged in until 06:04: 1 client went on" {
			t.Errorf("shown: %q", got)
		}
	})
}

// TestLoginAsAnotherUser: the login begins anew, and the password is typed once.
func TestLoginAsAnotherUser(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.secret, d.prompter.login = "right", prompt.Credentials{User: "bob", Remember: true}
		d.agent.login = wrongTill("right")
		d.say(waking())
		d.click("alice", "Renew now")
		want := "login alice@teleport.example.com:443 renew=true; cancel alice@teleport.example.com:443; " +
			"login bob@teleport.example.com:443 renew=true remember"
		if got := d.agent.asked(); got != want || len(d.prompter.asked) != 1 {
			t.Errorf("asked for %q after %d dialogs", got, len(d.prompter.asked))
		}
	})
}

// TestNothingIsDoneWithoutAYes: what cannot be taken back is asked for first.
func TestNothingIsDoneWithoutAYes(t *testing.T) {
	for _, line := range [][2]string{{"alice", "Log out"}, {"carol", "Approve…"}, {"carol", "Deny…"}} {
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
		d.click("carol", "Deny…")
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
		d.click("dba", "Assume")
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
		d.click("prod__pg", "Stop")
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
		if d.kit.mood != moodOff || !slices.Contains(d.kit.screen(), "Start agent") {
			t.Errorf("icon %s, menu %q", d.kit.mood, d.kit.screen())
		}
		d.click("", "Start agent")
		d.pause()
		if d.starts != 1 || !slices.Contains(d.kit.screen(), "Starting the agent… (grey)") {
			t.Errorf("%d starts, menu %q", d.starts, d.kit.screen())
		}
		d.say(waking())
		if d.kit.mood != moodAction || slices.Contains(d.kit.screen(), "Start agent") {
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

func TestLoginAsksAndOpens(t *testing.T) {
	onDesk(t, func(d *desk) {
		d.prompter.secret = "hunter2"
		var got string
		d.agent.login = func(_ context.Context, show func(client.LoginEvent, func(string)) error) error {
			_ = show(client.LoginEvent{Kind: state.LoginURL, URL: "http://127.0.0.1:1/x"}, nil)
			answered := make(chan struct{})
			_ = show(client.LoginEvent{ID: 7, Kind: state.LoginPassword, Text: "Password:"}, func(s string) { got = s; close(answered) })
			<-answered
			return show(client.LoginEvent{Kind: state.LoginDone}, nil)
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
		d.prompter.wait = make(chan struct{}) // no answer is typed
		d.agent.login = func(_ context.Context, show func(client.LoginEvent, func(string)) error) error {
			_ = show(client.LoginEvent{ID: 7, Kind: state.LoginOTP}, func(string) { t.Error("answered") })
			time.Sleep(time.Minute)
			_ = show(client.LoginEvent{ID: 7, Kind: state.LoginSettled}, nil)
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
		if !slices.ContainsFunc(d.kit.screen(), func(l string) bool { return strings.Contains(l, "6 h 0 min left") }) {
			t.Errorf("the menu says %q", d.kit.screen())
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

func TestFreeName(t *testing.T) {
	// The config takes no two names that look the same.
	taken := []state.Tunnel{{TunnelSpec: state.TunnelSpec{Name: "PG"}}, {TunnelSpec: state.TunnelSpec{Name: "\u0440g-2"}}}
	if got := freeName("pg", taken); got != "pg-3" {
		t.Errorf("freeName = %q", got)
	}
}

// TestDetailsOfANotice: they are about what the notice says, whatever else is wrong.
func TestDetailsOfANotice(t *testing.T) {
	notice := func(id, title, body, proxy, user string) state.Notice {
		return state.Notice{ID: id, Title: title, Body: body, Actions: []state.NoticeAction{
			{Verb: state.VerbDetails, Label: "Details", Proxy: proxy, User: user},
		}}
	}
	for id, want := range map[string]string{
		"clock": "The clock is wrong: By an hour.", "leaf": "Leaf cluster is away: two is away.",
		"user": "alice @ example.com · 6 h 59 min left", "gone": "Nothing is wrong any more",
	} {
		onDesk(t, func(d *desk) {
			s := waking()
			s.Problems = []state.Problem{
				{Code: state.CodeClockSkew, Title: "The clock is wrong", Text: "By an hour."},
				{Code: state.CodeLeafAway, Title: "Leaf cluster is away", Text: "one is away."},
				{Code: state.CodeLeafAway, Title: "Leaf cluster is away", Text: "two is away."},
			}
			here := s.Profiles[0]
			s.Notices = []state.Notice{
				notice("clock", "The clock is wrong", "By an hour.", "", ""),
				notice("leaf", "Leaf cluster is away", "two is away.", here.Proxy, ""),
				notice("user", "Tunnels run as alice", "Before: bob.", here.Proxy, here.User),
				notice("gone", "The disk is full", "Free space.", "", ""),
			}
			d.say(s)
			d.notifier.press(t, id, "Details")
			synctest.Wait()
			got := d.notifier.cards[ownPrefix+"answer"].Title
			if title := d.prompter.titles(); title != "" {
				got = title + ": " + d.copied
			}
			if got != want {
				t.Errorf("%s: shown %q, want %q", id, got, want)
			}
		})
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
	const want = `assume r-2 tunnel="" accept=false; login alice@teleport.example.com:443 renew=false`
	for name, click := range map[string]func(*desk){
		"menu":         func(d *desk) { d.click("dba", "Assume") },
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
			d.click("dba", "Assume")
			card := d.notifier.cards[ownPrefix+"answer"]
			if card.Title != "dba was not assumed" || card.Body != "No login came within 60 s: access request r-2 was not assumed. Berth login p." {
				t.Errorf("shown: %+v", card)
			}
		})
	})
}
