package notices

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/doctest"
)

var update = flag.Bool("update", false, "write docs/NOTIFICATIONS.md")

// TestTable keeps the documents' table of all notices current: it is made of
// what the Tracker tells in each case.
func TestTable(t *testing.T) {
	told := make(map[state.NoticeKind][]row)
	for _, example := range examples() {
		w := newWorld(t)
		w.after(0)
		example.makes(w)
		w.in.Now = w.in.Now.Add(time.Minute)
		w.tr.Update(&w.s, w.in)
		if example.then != nil {
			w.in.Now = w.in.Now.Add(time.Minute)
			example.then(w)
		}
		w.in.Now = w.in.Now.Add(time.Minute - time.Second)
		for _, n := range w.tr.Update(&w.s, w.in) {
			if example.only != "" && n.Kind != example.only {
				continue
			}
			told[n.Kind] = append(told[n.Kind], row{example.when, n})
		}
	}
	var b strings.Builder
	b.WriteString(tableHead)
	for _, kind := range []state.NoticeKind{
		state.NoticeSessionEnding, state.NoticeLoginNeeded, state.NoticeTap, state.NoticeRenewed, state.NoticeRenewFailed, state.NoticeTunnelBroken,
		state.NoticeTunnelRecovered, state.NoticeUserChanged, state.NoticePortTaken, state.NoticeForeign, state.NoticeApproved, state.NoticeDenied, state.NoticeReview, state.NoticeAssumedEnding,
		state.NoticeMore,
	} {
		if len(told[kind]) == 0 {
			t.Errorf("no example tells of %s", kind)
		}
		for _, r := range told[kind] {
			fmt.Fprintf(&b, "| %s | **%s**<br>%s | %s | %s |\n", r.when, r.n.Title, strings.ReplaceAll(r.n.Body, "\n", "<br>"), r.n.Urgency, buttons(r.n))
		}
	}
	doctest.Made(t, filepath.Join("..", ".."), "NOTIFICATIONS.md", b.String(), *update)
}

type row struct {
	when string
	n    state.Notice
}

func buttons(n state.Notice) string {
	var labels []string
	for _, a := range n.Actions {
		label := a.Label
		if a.Confirm {
			label += " (asks once more)"
		}
		labels = append(labels, label)
	}
	if len(labels) == 0 {
		return "–"
	}
	return strings.Join(labels, ", ")
}

const tableHead = `# Notifications

Every notification berth shows, with the words of an example. One cause has one notification, however many tunnels
it affects. berth withdraws it when the cause is gone and does not repeat it within ten minutes, unless a tunnel fails again
after a restart. One that you dismissed stays away until the agent is stopped; an agent that takes over
remembers it. None is shown in ` + "`notifications.quiet_hours`" + ` or within ten seconds of a wake-up, and at most five in
a minute: berth counts the others. Notifications about something only you can do have no such limit. ` + "`notifications.enabled: false`" + ` turns all of them off.

Every action is also in the tray's menu and on the command line. Each checks the current state before it does anything, so a
button pressed too late says so.

The tray answers what you do in its menu with one notification, which the next answer replaces. A login is reported quietly:
**Logged in until 18:04: 2 clients went on**. A wrong password brings its dialog back, three times, while the clients go on
waiting; then the notification has the reason and *Log in*. *Details* of a request keep its buttons. Long texts, such as
*Why?* and the doctor's report, open in a dialog that scrolls and copies.

| when | what it says | urgency | buttons |
|---|---|---|---|
`

type example struct {
	when  string
	makes func(*world)
	then  func(*world)
	only  state.NoticeKind // of several, the one it is an example of
}

func examples() []example {
	problem := func(code state.Code, title, text string) *state.Problem {
		return &state.Problem{Code: code, Title: title, Text: text}
	}
	warn := func(w state.RenewalWarning) func(*world) {
		return func(wd *world) { wd.profile().Renewal.Warning = w }
	}
	request := func(r state.Request) func(*world) {
		r.ID, r.Profile, r.CreatedAt = "8f4c", "p.example.com:443", noon
		return func(w *world) { w.s.Requests = []state.Request{r} }
	}
	return []example{
		{"15 minutes (or `renew.before`) before a session ends, with `renew: {mode: ask}`", warn(state.WarnSoon), nil, ""},
		{"5 minutes before, unless it was renewed", warn(state.WarnLast), nil, ""},
		{"`renew: {mode: auto}` could not do it", func(w *world) {
			w.profile().Renewal.Warning = state.WarnSoon
			w.profile().Renewal.Problem = problem(state.CodeRenewFailed, "Not renewed", "The session at p.example.com:443 was to be renewed: it asks for something that only you know.")
		}, nil, ""},
		{"a session has ended", warn(state.WarnEnded), nil, ""},
		{"a client waits for a login", func(w *world) {
			w.s.Tunnels[0].State, w.s.Tunnels[0].Waiting, w.s.Tunnels[0].WaitingClient = state.TunnelWaitingForLogin, 2, "DBeaver (pid 812)"
		}, nil, ""},
		{"a client waits for a security key that wants its PIN", func(w *world) {
			w.s.Tunnels[0].State, w.s.Tunnels[0].Waiting = state.TunnelWaitingForLogin, 1
			w.s.Tunnels[0].Problem = problem(state.CodePINNeeded, "PIN needed", `The security key for tunnel "prod" wants its PIN.`)
		}, nil, ""},
		{"an access request that was assumed while logged out waits for the login", func(w *world) {
			w.profile().State, w.profile().HeldRequests = state.ProfileExpired, []string{"8f4c"}
			w.s.Requests = []state.Request{{ID: "8f4c", Profile: "p.example.com:443", Roles: []string{"dba"}, Mine: true}}
		}, nil, ""},
		{"a login wants the security key", func(w *world) { w.profile().Login = state.Login{InProgress: true, Asks: "tap"} }, nil, ""},
		{"a session was renewed unasked; goes by itself after a minute", func(*world) {}, func(w *world) {
			w.profile().ValidUntil, w.profile().Renewal.RenewedAt = new(noon.Add(8*time.Hour)), new(w.in.Now.Add(50*time.Second))
		}, ""},
		{"a renewal that failed long before the end", func(w *world) {
			w.profile().Renewal.Problem = problem(state.CodeRenewFailed, "Not renewed", "The session at p.example.com:443 was to be renewed: the login was cancelled.")
		}, nil, ""},
		{"another user has logged in, and tunnels go on as them; goes by itself after 10 minutes", func(w *world) {
			w.profile().PreviousUser, w.profile().User, w.profile().UserChangedAt = "alice", "bob", new(noon)
		}, nil, ""},
		{"the cluster has refused you everything for 20 seconds", func(w *world) {
			w.s.Problems = []state.Problem{*problem(state.CodeSessionRefused, "Session refused", `example.com refuses alice: locked, "incident 7".`)}
		}, nil, ""},
		{"you are let in again", func(w *world) {
			w.s.Problems = []state.Problem{*problem(state.CodeSessionRefused, "Session refused", `example.com refuses alice: locked, "incident 7".`)}
			w.s.Tunnels[0].State, w.s.Tunnels[0].Problem = state.TunnelError, &w.s.Problems[0]
		}, func(w *world) {
			w.in.Now = w.in.Now.Add(-20 * time.Second)
			w.tr.Update(&w.s, w.in)
			w.up()
			w.in.Now = w.in.Now.Add(-30 * time.Second)
		}, state.NoticeTunnelRecovered},
		{"a CA of the cluster was rotated, and only a login helps", func(w *world) {
			w.s.Problems = []state.Problem{*problem(state.CodeSessionOutdated, "Session no longer accepted",
				"example.com no longer accepts the certs of your login at p.example.com:443: its user CA was rotated.")}
		}, nil, ""},
		{"a leaf cluster is not connected to its root", func(w *world) {
			w.s.Problems = []state.Problem{*problem(state.CodeLeafAway, "Leaf cluster away", "leaf.example.com is not connected to example.com at the moment.")}
		}, nil, ""},
		{"a proxy has been away for 30 seconds; one for all its tunnels", func(w *world) { w.down() }, nil, ""},
		{"it is back; goes by itself after 30 seconds", func(w *world) { w.down() }, func(w *world) {
			w.in.Now = w.in.Now.Add(-20 * time.Second)
			w.tr.Update(&w.s, w.in)
			w.up()
			w.in.Now = w.in.Now.Add(-30 * time.Second)
		}, ""},
		{"a tunnel alone has failed for 20 seconds", func(w *world) {
			w.s.Tunnels[0].State = state.TunnelError
			w.s.Tunnels[0].Problem = problem(state.CodeAccessDenied, "Access denied", `The cluster refused tunnel "prod-pg".`)
		}, nil, ""},
		{"another program has a tunnel's port", func(w *world) {
			w.s.Tunnels[0].State = state.TunnelPortInUse
			w.s.Tunnels[0].Problem = problem(state.CodePortInUse, "Port in use", `Port 15432 of tunnel "prod-pg" is taken by postgres (pid 7).`)
		}, nil, ""},
		{"a program of another user of the machine connected to a tunnel", func(w *world) {
			w.s.Tunnels[0].ForeignUser, w.s.Tunnels[0].ForeignAt = "bob (uid 1001)", new(noon)
		}, nil, ""},
		{"the config file has mistakes, the clock is wrong, a Teleport home or berth's state cannot be read, nothing can be saved, too many files are open here, the program was replaced and the old agent runs on, the agent crashed again and again", func(w *world) {
			w.s.Problems = []state.Problem{*problem(state.CodeConfigInvalid, "Config has mistakes", "The last good config goes on: config.yaml:7: unknown key.")}
		}, nil, ""},
		{"your access request was approved", request(state.Request{
			Mine: true, Roles: []string{"dba"}, State: state.RequestApproved, Assumable: true, AccessUntil: new(noon.Add(6 * time.Hour)),
			Reviews: []state.Review{{Author: "bob", Reason: "ok for incident 42"}},
		}), nil, ""},
		{"it was denied", request(state.Request{Mine: true, Roles: []string{"dba"}, State: state.RequestDenied}), nil, ""},
		{"you are asked to review one", request(state.Request{
			User: "carol", Roles: []string{"admin"}, State: state.RequestPending, Reviewable: true, Reason: "incident 42", Progress: "1 of 2 approvals, needs security",
		}), nil, ""},
		{"roles you assumed end in 10 minutes, before the session does", func(w *world) {
			w.profile().ValidUntil = new(noon.Add(8 * time.Hour))
			request(state.Request{Mine: true, Assumed: true, Roles: []string{"dba"}, State: state.RequestApproved, AccessUntil: new(noon.Add(9 * time.Minute))})(w)
		}, nil, ""},
		{"more than five at once", func(w *world) {
			for i := range 7 {
				w.s.Tunnels = append(w.s.Tunnels, state.Tunnel{TunnelSpec: state.TunnelSpec{Name: fmt.Sprint(i)}, State: state.TunnelError, Problem: problem(state.CodeAccessDenied, "Access denied", "No.")})
			}
		}, nil, state.NoticeMore},
	}
}
