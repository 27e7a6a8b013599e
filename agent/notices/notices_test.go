package notices

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
)

var noon = time.Date(2027, 3, 4, 12, 0, 0, 0, time.Local)

// world is a snapshot that a test changes, and the clock.
type world struct {
	t   *testing.T
	tr  *Tracker
	s   state.Snapshot
	in  Input
	had []string // what the last look showed
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, tr: New(), in: Input{
		Now: noon, Enabled: true, Listed: func(r state.Request) bool { return r.Profile == "p.example.com:443" },
	}}
	w.s.Profiles = []state.Profile{{
		Proxy: "p.example.com:443", Cluster: "example.com", User: "alice", State: state.ProfileValid, ValidUntil: new(noon.Add(15 * time.Minute)),
		Renewal: state.Renewal{Mode: state.RenewAsk},
	}}
	for _, name := range []string{"prod-pg", "orders"} {
		w.s.Tunnels = append(w.s.Tunnels, state.Tunnel{
			TunnelSpec: state.TunnelSpec{Name: name}, Profile: "p.example.com:443", State: state.TunnelReady, Address: "127.0.0.1:15432",
		})
	}
	return w
}

// after moves the clock and returns the IDs that are shown then.
func (w *world) after(d time.Duration) []string {
	w.t.Helper()
	w.in.Now = w.in.Now.Add(d)
	var ids []string
	for _, n := range w.tr.Update(&w.s, w.in) {
		ids = append(ids, n.ID)
	}
	w.had = ids
	return ids
}

// want moves the clock and checks the kinds that are shown then.
func (w *world) want(d time.Duration, kinds ...state.NoticeKind) []state.Notice {
	w.t.Helper()
	w.in.Now = w.in.Now.Add(d)
	list := w.tr.Update(&w.s, w.in)
	got := make([]state.NoticeKind, 0, len(list))
	for _, n := range list {
		got = append(got, n.Kind)
		if n.Title == "" || n.Since.IsZero() || n.Urgency == "" {
			w.t.Errorf("an unfinished notice: %+v", n)
		}
	}
	if kinds == nil {
		kinds = []state.NoticeKind{}
	}
	if diff := cmp.Diff(kinds, got); diff != "" {
		w.t.Fatalf("shown at %v (-want +got):\n%s", w.in.Now.Sub(noon), diff)
	}
	return list
}

func (w *world) profile() *state.Profile { return &w.s.Profiles[0] }

func (w *world) down() {
	p := state.Problem{Code: state.CodeProxyUnreachable, Title: "Proxy unreachable", Text: "The proxy does not answer.", Since: w.in.Now}
	w.s.Problems = []state.Problem{p}
	for i := range w.s.Tunnels {
		w.s.Tunnels[i].State, w.s.Tunnels[i].Problem = state.TunnelError, new(p)
	}
}

func (w *world) up() {
	w.s.Problems = nil
	for i := range w.s.Tunnels {
		w.s.Tunnels[i].State, w.s.Tunnels[i].Problem = state.TunnelReady, nil
	}
}

// TestTwoSessionsOutdated: two users have sessions at a proxy, and each its own notice.
func TestTwoSessionsOutdated(t *testing.T) {
	w := newWorld(t)
	for i, user := range []string{"alice", "bob"} {
		p := state.Problem{Code: state.CodeSessionOutdated, Title: "Session no longer accepted", Text: "It is " + user + "'s.", Since: noon}
		w.s.Problems = append(w.s.Problems, p)
		w.s.Tunnels[i].State, w.s.Tunnels[i].Problem = state.TunnelError, &p
	}
	w.want(0)
	if ids := w.after(time.Minute); len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("two sessions are outdated, and the notices are %q", ids)
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	w.profile().Renewal.Warning = state.WarnSoon
	soon := w.want(time.Minute, state.NoticeSessionEnding)[0]
	if soon.Title != "Session ends at 12:15" || soon.Actions[0].Verb != state.VerbRenew || soon.Actions[1].Verb != state.VerbSnooze {
		t.Errorf("got %+v", soon)
	}
	if again := w.want(time.Minute, state.NoticeSessionEnding)[0]; again.ID != soon.ID || again.Title != soon.Title || !again.Since.Equal(soon.Since) {
		t.Errorf("a minute later it is another notice: %+v", again)
	}
	w.profile().Renewal.Warning = state.WarnNot // snoozed
	w.want(time.Minute)
	w.profile().Renewal.Warning = state.WarnLast
	if last := w.want(6*time.Minute, state.NoticeSessionEnding)[0]; last.Urgency != state.UrgencyCritical || last.ID == soon.ID {
		t.Errorf("the last warning is %+v", last)
	}
	w.profile().Login.InProgress = true
	w.want(time.Second, state.NoticeSessionEnding) // the login takes so long that the warning stands
	w.profile().Renewal.Warning = state.WarnNot
	w.want(time.Second)
	w.profile().Renewal.Warning = state.WarnLast
	w.profile().Login = state.Login{}
	w.profile().Renewal.Warning = state.WarnNot
	w.profile().ValidUntil = new(noon.Add(8 * time.Hour))
	w.want(time.Second)
	w.profile().Renewal.Warning = state.WarnSoon
	w.want(8*time.Hour, state.NoticeSessionEnding) // the next session's end is news
}

// TestPINIsAskedFor: of whoever has a client there, and beside what else there is to
// say. What tsh will ask for once it has started is no one-time code.
func TestPINIsAskedFor(t *testing.T) {
	w := newWorld(t)
	pg, orders := &w.s.Tunnels[0], &w.s.Tunnels[1]
	pg.Engine, pg.State, pg.Connections, pg.Waiting = state.EngineTSH, state.TunnelWaitingForLogin, 1, 1
	pg.Problem = &state.Problem{Code: state.CodeMFARequired, Since: noon}
	w.want(0)
	pg.Problem = &state.Problem{Code: state.CodePINNeeded, Since: noon}
	asks := w.want(time.Second, state.NoticeLoginNeeded)[0]
	if asks.Title != "PIN of your security key for example.com" || asks.Body != "A client waits for tunnel prod-pg." || asks.Actions[0].Verb != state.VerbLogin {
		t.Errorf("got %+v", asks)
	}
	w.profile().Renewal.Warning = state.WarnLast
	orders.State, orders.Problem = pg.State, pg.Problem // after a renewal, without a client
	w.want(time.Minute, state.NoticeLoginNeeded, state.NoticeSessionEnding)
	pg.Waiting = 0 // a pool rests on the tsh from before the renewal
	w.want(time.Second, state.NoticeSessionEnding)
}

// TestEachTap: what a login wants touched is shown each time, also after it was dismissed.
func TestEachTap(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	for range 3 {
		w.profile().Login = state.Login{InProgress: true, Asks: state.LoginTap}
		n := w.want(time.Second, state.NoticeTap)[0]
		if still := w.want(time.Second, state.NoticeTap)[0]; still.ID != n.ID || !still.Since.Equal(n.Since) {
			t.Errorf("a second later it is another notice: %+v", still)
		}
		w.tr.Dismiss(n.ID)
		w.want(time.Second)
		w.profile().Login = state.Login{}
		w.want(time.Minute)
	}
}

// TestEachCode: the next tunnel's code is asked for by another notice, also after the
// first one's was dismissed. That its client tries again is no news.
func TestEachCode(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	pg, orders := &w.s.Tunnels[0], &w.s.Tunnels[1]
	for _, tun := range []*state.Tunnel{pg, orders} {
		tun.State, tun.Problem = state.TunnelWaitingForLogin, &state.Problem{Code: state.CodeMFARequired, Since: noon}
	}
	pg.Waiting = 1
	first := w.want(time.Second, state.NoticeLoginNeeded)[0]
	pg.WaitingSince = new(w.in.Now)
	orders.Waiting, orders.WaitingSince = 1, new(noon) // it has waited for longer
	if both := w.want(time.Second, state.NoticeLoginNeeded)[0]; both.ID != first.ID {
		t.Errorf("with a second client it is another notice: %+v", both)
	}
	w.tr.Dismiss(first.ID)
	w.want(time.Second)
	pg.Waiting, orders.Waiting = 0, 0
	w.want(time.Second)
	pg.Waiting = 1
	w.want(time.Minute)
	pg.Waiting = 0
	w.want(time.Second)
	orders.Waiting = 1
	w.want(time.Minute, state.NoticeLoginNeeded)
	orders.Waiting = 0
	w.want(time.Second)
	pg.Waiting, pg.Problem = 1, &state.Problem{Code: state.CodeMFARequired, Since: w.in.Now} // its cert has ended
	w.want(time.Second, state.NoticeLoginNeeded)
}

func TestWaitingClientIsNamed(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	w.profile().State, w.profile().Renewal.Warning = state.ProfileExpired, state.WarnEnded
	w.want(time.Second, state.NoticeLoginNeeded)
	w.s.Tunnels[0].State, w.s.Tunnels[0].Waiting = state.TunnelWaitingForLogin, 1
	w.s.Tunnels[0].WaitingClient, w.s.Tunnels[0].WaitingSince = "DBeaver (pid 812)", new(noon)
	n := w.want(time.Second, state.NoticeLoginNeeded)[0]
	if n.Body != "DBeaver (pid 812) waits for tunnel prod-pg." || n.Urgency != state.UrgencyCritical {
		t.Errorf("got %+v", n)
	}
	w.s.Tunnels[1].State, w.s.Tunnels[1].Waiting = state.TunnelWaitingForLogin, 2
	w.s.Tunnels[1].WaitingSince = new(noon.Add(-time.Minute))
	if n := w.want(time.Second, state.NoticeLoginNeeded)[0]; n.Body != "A client waits for tunnel orders, and so do 2 others." {
		t.Errorf("got %q", n.Body)
	}
	w.profile().HeldRequests = []string{"7c1f", "91c2"}
	w.s.Requests = []state.Request{{ID: "7c1f", Profile: w.profile().Proxy, Roles: []string{"dba"}, Mine: true}}
	if n := w.want(time.Second, state.NoticeLoginNeeded)[0]; n.Body != "A client waits for tunnel orders, and so do 2 others. You wanted to assume dba and 1 more." {
		t.Errorf("got %q", n.Body)
	}
	w.profile().HeldRequests, w.s.Requests = nil, nil
	if !w.tr.Dismiss(n.ID) || w.tr.Dismiss("nonsense") {
		t.Error("Dismiss is wrong about what there is")
	}
	w.profile().Renewal.Warning = state.WarnNot
	for range 60 { // a client that tries all night
		w.want(10 * time.Minute)
	}
}

func TestOnePerCause(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	w.down()
	w.want(time.Second)
	w.want(29 * time.Second)
	n := w.want(2*time.Second, state.NoticeTunnelBroken)[0]
	if n.Body != "The proxy does not answer." || n.Actions[0].Proxy != "p.example.com:443" {
		t.Errorf("got %+v", n)
	}
	w.up()
	over := w.want(time.Second, state.NoticeTunnelRecovered)[0]
	if !strings.Contains(over.Body, "p.example.com:443") {
		t.Errorf("got %+v", over)
	}
	w.want(recoveredFor + time.Second)
	w.down() // flapping
	w.want(time.Minute)
	w.up()
	w.want(time.Second)
	w.down()
	w.want(20 * time.Minute)
	w.want(time.Minute, state.NoticeTunnelBroken)
}

func TestShortTroubleIsNotTold(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	for range 20 {
		w.down()
		w.want(10 * time.Second)
		w.want(10 * time.Second)
		w.up()
		w.want(time.Second)
	}
}

func TestTunnelsOwnTrouble(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	w.s.Tunnels[0].State = state.TunnelPortInUse
	w.s.Tunnels[0].Problem = &state.Problem{Code: state.CodePortInUse, Title: "Port in use", Text: "Port 15432 is taken by postgres (pid 7)."}
	w.s.Tunnels[1].State = state.TunnelError
	w.s.Tunnels[1].Problem = &state.Problem{Code: state.CodeAccessDenied, Title: "Access denied", Text: "The cluster refused."}
	w.want(time.Second)
	if n := w.want(6*time.Second, state.NoticePortTaken)[0]; n.Title != "prod-pg: port in use" {
		t.Errorf("got %+v", n)
	}
	w.want(20*time.Second, state.NoticePortTaken, state.NoticeTunnelBroken)
	w.up()
	w.want(time.Second, state.NoticeTunnelRecovered, state.NoticeTunnelRecovered)
}

// breaks has a tunnel refused by its cluster, until that is shown.
func (w *world) breaks(t *state.Tunnel, code state.Code) {
	w.t.Helper()
	t.State, t.Problem = state.TunnelError, &state.Problem{Code: code, Title: "Access denied", Text: "The cluster refused."}
	w.want(time.Second)
	w.want(graceTunnel, state.NoticeTunnelBroken)
}

// TestEndIsNoRecovery: that a problem is gone does not say that its tunnel works.
func TestEndIsNoRecovery(t *testing.T) {
	for name, ends := range map[string]func(w *world){
		"restarted": func(w *world) { w.s.Tunnels[0].State = state.TunnelConnecting },
		"stopped":   func(w *world) { w.s.Tunnels[0].State, w.s.Tunnels[0].Problem = state.TunnelStopped, nil },
		"removed":   func(w *world) { w.s.Tunnels = w.s.Tunnels[1:] },
		"another_problem": func(w *world) {
			w.s.Tunnels[0].Problem = &state.Problem{Code: state.CodeUpstream, Title: "Tunnel failed"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.want(0)
			broken := w.s.Tunnels
			w.breaks(&broken[0], state.CodeAccessDenied)
			ends(w)
			w.want(time.Second)
			w.s.Tunnels = broken
			w.up()
			if n := w.want(time.Second, state.NoticeTunnelRecovered)[0]; n.Title != "prod-pg works again" {
				t.Errorf("got %+v", n)
			}
			broken[0].State = state.TunnelStopped
			w.want(time.Second) // what it says is so no longer
		})
	}
}

// TestProxyIsBackWhenATunnelIs: while the network is away a session expires, and then
// nothing finds out how the proxy is.
func TestProxyIsBackWhenATunnelIs(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	w.down()
	w.want(time.Second)
	w.want(graceProxy, state.NoticeTunnelBroken)
	w.s.Problems = nil
	for i := range w.s.Tunnels {
		w.s.Tunnels[i].State, w.s.Tunnels[i].Problem = state.TunnelWaitingForLogin, &state.Problem{Code: state.CodeLoginNeeded}
	}
	w.s.Tunnels = append(w.s.Tunnels, state.Tunnel{
		TunnelSpec: state.TunnelSpec{Name: "other home's"}, Profile: "p.example.com:443", State: state.TunnelReady,
	})
	w.want(time.Second)
	w.s.Tunnels[1].State, w.s.Tunnels[1].Problem = state.TunnelReady, nil
	w.want(time.Second, state.NoticeTunnelRecovered)
	w.down()
	w.s.Tunnels[1].State, w.s.Tunnels[1].Problem = state.TunnelReady, nil
	w.want(time.Second) // it is away again, which not every tunnel has found out
}

// TestRestartThatFails: its notice comes back at once.
func TestRestartThatFails(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	pg := &w.s.Tunnels[0]
	w.breaks(pg, state.CodeAccessDenied)
	for range 2 {
		pg.State = state.TunnelConnecting
		w.want(time.Minute)
		pg.State = state.TunnelError
		w.want(time.Second, state.NoticeTunnelBroken)
	}
	w.up()
	w.want(time.Second, state.NoticeTunnelRecovered)
}

func TestSilence(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"quiet_hours":  func(in *Input) { in.Quiet = true },
		"just_woken":   func(in *Input) { in.WokeAt = in.Now },
		"switched_off": func(in *Input) { in.Enabled = false },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.want(0)
			w.profile().Renewal.Warning = state.WarnSoon
			w.in.Now = w.in.Now.Add(time.Minute)
			change(&w.in)
			w.want(0)
			w.want(9 * time.Second)
			w.in.Quiet, w.in.Enabled = false, true
			w.want(time.Second, state.NoticeSessionEnding)
		})
	}
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	for i := range 20 {
		w.s.Requests = append(w.s.Requests, state.Request{ID: fmt.Sprint(i), User: "carol", Roles: []string{"dba"}, State: state.RequestPending, Reviewable: true})
	}
	w.in.Now = w.in.Now.Add(time.Second)
	list := w.tr.Update(&w.s, w.in)
	if len(list) != perMinute+1 {
		t.Fatalf("%d notices at once, want %d", len(list), perMinute+1)
	}
	i := slices.IndexFunc(list, func(n state.Notice) bool { return n.Kind == state.NoticeMore })
	if i < 0 || list[i].Title != "15 more things to look at" {
		t.Errorf("those held back are not counted: %+v", list)
	}
	w.profile().Renewal.Warning = state.WarnLast
	if ids := w.after(time.Second); !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(id, "/last/") }) {
		t.Errorf("what is urgent was held back: %v", ids)
	}
	if !w.tr.Dismiss(moreID) || w.tr.Dismiss(moreID) {
		t.Error("the count cannot be dismissed, or twice")
	}
	if ids := w.after(2 * time.Minute); len(ids) != perMinute+1 {
		t.Errorf("after the dismissal %d are shown: %v", len(ids), ids)
	}
}

// TestCountRests: how many are held back is a notice like the others: the same in every
// snapshot, and none in quiet hours, in which nothing is let through that would end it.
func TestCountRests(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	for i := range perMinute + 3 {
		w.s.Requests = append(w.s.Requests, state.Request{ID: fmt.Sprint(i), User: "carol", Roles: []string{"dba"}, State: state.RequestPending, Reviewable: true})
	}
	kinds := func(reviews int, more ...state.NoticeKind) []state.NoticeKind {
		return append(slices.Repeat([]state.NoticeKind{state.NoticeReview}, reviews), more...)
	}
	first := w.want(time.Second, kinds(perMinute, state.NoticeMore)...)
	if diff := cmp.Diff(first, w.want(time.Second, kinds(perMinute, state.NoticeMore)...)); diff != "" {
		t.Errorf("nothing has changed, and it is shown otherwise (-first +then):\n%s", diff)
	}
	w.in.Quiet = true
	w.want(time.Second, kinds(perMinute)...)
	w.s.Requests = w.s.Requests[:perMinute+2] // one less at night
	w.want(4*time.Hour, kinds(perMinute)...)
	w.in.Quiet = false
	w.want(time.Second, kinds(perMinute+2)...)
}

// TestRequestsAfterALogout: what was decided before the login is no news then either.
func TestRequestsAfterALogout(t *testing.T) {
	w := newWorld(t)
	w.profile().ValidUntil = new(noon.Add(12 * time.Hour))
	old := []state.Request{{ID: "old", Profile: "p.example.com:443", Mine: true, Roles: []string{"dba"}, State: state.RequestApproved, Assumable: true}}
	listed := w.in.Listed
	for range 2 {
		w.s.Requests, w.in.Listed = nil, nil
		w.want(again + time.Minute)
		w.s.Requests = old
		w.want(time.Second)
		w.in.Listed = listed
		w.want(time.Second)
	}
}

func TestRequests(t *testing.T) {
	w := newWorld(t)
	old := state.Request{ID: "old", Profile: "p.example.com:443", Mine: true, Roles: []string{"dba"}, State: state.RequestApproved, Assumable: true}
	listed := w.in.Listed
	w.in.Listed = nil
	w.want(0)
	w.in.Listed = listed
	w.s.Requests = []state.Request{old}
	w.want(time.Second) // decided before anybody looked
	mine := state.Request{ID: "mine", Profile: "p.example.com:443", Mine: true, Roles: []string{"dba", "admin"}, State: state.RequestPending, CreatedAt: noon}
	w.s.Requests = []state.Request{old, mine}
	w.want(time.Second)
	mine.State, mine.Assumable, mine.AccessUntil = state.RequestApproved, true, new(noon.Add(6*time.Hour))
	mine.Reviews = []state.Review{{Author: "bob", Reason: "ok for incident 42", At: noon}}
	w.s.Requests = []state.Request{old, mine}
	n := w.want(time.Second, state.NoticeApproved)[0]
	if n.Title != "Approved: dba, admin until 18:00" || n.Body != "bob: “ok for incident 42”" || n.Actions[0].Verb != state.VerbAssume {
		t.Errorf("got %+v", n)
	}
	mine.Assumed = true
	w.s.Requests = []state.Request{mine}
	w.want(time.Second)
	w.profile().ValidUntil = new(noon.Add(12 * time.Hour))
	w.want(5*time.Hour+55*time.Minute, state.NoticeAssumedEnding)
	w.profile().ValidUntil = new(noon.Add(6 * time.Hour)) // the session ends then as well: that is shown
	w.want(time.Second)

	denied := state.Request{ID: "no", Profile: "p.example.com:443", Mine: true, Resources: []string{"/c/db/a", "/c/db/b", "/c/db/c", "/c/db/d"}, State: state.RequestDenied, CreatedAt: w.in.Now, ResolveReason: "no"}
	review := state.Request{
		ID: "rev", User: "carol", Roles: []string{"admin"}, State: state.RequestPending, Reviewable: true, Reason: "incident 42", Progress: "0 of 2 approvals",
	}
	w.s.Requests = []state.Request{denied, review}
	w.in.Sensitive = func(r state.Request) bool { return slices.Contains(r.Roles, "admin") }
	list := w.want(time.Second, state.NoticeDenied, state.NoticeReview)
	if list[0].Title != "Denied: /c/db/a, /c/db/b and 2 more" || list[0].Body != "“no”" {
		t.Errorf("got %+v", list[0])
	}
	if n := list[1]; n.Title != "carol asks for admin" || n.Body != "“incident 42”\n0 of 2 approvals" || !n.Actions[0].Confirm || !n.Actions[1].Confirm {
		t.Errorf("got %+v", n)
	}
	w.in.Requests = func(r state.Request) bool { return r.Mine }
	w.want(time.Second, state.NoticeDenied)
	w.want(2 * time.Hour)
}

// TestDroppedRolesAreNoNews: an approval is dealt with once its roles were assumed, by the
// session or for a tunnel, and also where they were before berth looked.
func TestDroppedRolesAreNoNews(t *testing.T) {
	for name, assume := range map[string]func(*state.Request){
		"session": func(r *state.Request) { r.Assumed = true },
		"tunnel":  func(r *state.Request) { r.Tunnels = []string{"prod-pg"} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.profile().ValidUntil = new(noon.Add(12 * time.Hour))
			mine := state.Request{Profile: "p.example.com:443", Mine: true, Roles: []string{"dba"}, State: state.RequestApproved, Assumable: true}
			early, late := mine, mine
			early.ID, late.ID = "early", "late"
			assume(&early)
			w.s.Requests = []state.Request{early}
			w.want(0)
			w.s.Requests = []state.Request{early, late}
			w.want(time.Second, state.NoticeApproved)
			assume(&late)
			w.s.Requests = []state.Request{early, late}
			w.want(time.Second)
			w.want(again)
			for i := range w.s.Requests {
				w.s.Requests[i].Assumed, w.s.Requests[i].Tunnels = false, nil
			}
			w.want(time.Minute)
		})
	}
}

func TestRenewedUnasked(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	p := w.profile()
	p.Login = state.Login{InProgress: true, Asks: "tap"}
	w.want(time.Second, state.NoticeTap)
	p.Login = state.Login{}
	p.ValidUntil, p.Renewal.RenewedAt = new(noon.Add(8*time.Hour)), new(w.in.Now)
	if n := w.want(time.Second, state.NoticeRenewed)[0]; n.Body != "You are logged in to example.com until 20:00." {
		t.Errorf("got %+v", n)
	}
	w.want(renewedFor)
	p.Renewal.Problem = &state.Problem{Title: "Not renewed", Text: "The proxy was away."}
	w.want(time.Second, state.NoticeRenewFailed)
	p.Renewal.Warning = state.WarnSoon
	if n := w.want(time.Second, state.NoticeSessionEnding)[0]; !strings.HasPrefix(n.Body, "The proxy was away. ") {
		t.Errorf("the warning does not say why: %+v", n)
	}
}

// TestAnotherUserIsSaidOnce: the change of user is the same one after a renewal.
func TestAnotherUserIsSaidOnce(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	p := w.profile()
	p.PreviousUser, p.User, p.UserChangedAt = "alice", "bob", new(noon)
	first := w.want(time.Second, state.NoticeUserChanged)[0]
	p.ValidUntil = new(noon.Add(8 * time.Hour))
	if again := w.want(time.Minute, state.NoticeUserChanged)[0]; again.ID != first.ID || !again.Since.Equal(first.Since) {
		t.Errorf("after a renewal it is another notice: %+v, before: %+v", again, first)
	}
	w.tr.Dismiss(first.ID)
	p.ValidUntil = new(noon.Add(9 * time.Hour))
	w.want(time.Minute)
	p.PreviousUser, p.User, p.UserChangedAt = "bob", "alice", new(w.in.Now)
	w.want(time.Second, state.NoticeUserChanged)
	p.PreviousUser, p.User, p.UserChangedAt = "alice", "bob", new(w.in.Now) // once more
	w.want(time.Second, state.NoticeUserChanged)
}

func TestForeigners(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	w.s.Tunnels[0].ForeignUser, w.s.Tunnels[0].ForeignAt = "bob (uid 1001)", new(noon)
	if n := w.want(time.Second, state.NoticeForeign)[0]; n.Body != "A program of bob (uid 1001) tried to use your tunnel prod-pg." {
		t.Errorf("got %+v", n)
	}
	w.s.Tunnels[0].ForeignAt = new(noon.Add(time.Minute)) // again: shown once
	first := w.want(time.Minute, state.NoticeForeign)[0]
	if !first.Since.Equal(noon.Add(time.Second)) {
		t.Errorf("shown again: %+v", first)
	}
	w.want(foreignFor + time.Minute)
}

// TestSuccessorGoesOn: what the agent before has shown comes back as soon as it is seen
// again, and what was dismissed there stays away.
func TestSuccessorGoesOn(t *testing.T) {
	w := newWorld(t)
	w.profile().ValidUntil = new(noon.Add(12 * time.Hour))
	w.want(0)
	requests := []state.Request{
		{ID: "mine", Profile: "p.example.com:443", Mine: true, Roles: []string{"dba"}, State: state.RequestApproved, Assumable: true},
		{ID: "rev", Profile: "p.example.com:443", User: "carol", Roles: []string{"dba"}, State: state.RequestPending, Reviewable: true},
	}
	w.s.Requests = requests
	w.tr.Dismiss(w.want(time.Second, state.NoticeApproved, state.NoticeReview)[1].ID)
	pg := &w.s.Tunnels[0]
	pg.State, pg.Problem = state.TunnelError, &state.Problem{Code: state.CodeAccessDenied, Title: "Access denied", Text: "The cluster refused."}
	w.want(time.Second, state.NoticeApproved)
	w.want(graceTunnel, state.NoticeApproved, state.NoticeTunnelBroken)

	for range 2 {
		raw, err := json.Marshal(w.tr.Save())
		if err != nil {
			t.Fatal(err)
		}
		var saved Saved
		if err := json.Unmarshal(raw, &saved); err != nil {
			t.Fatal(err)
		}
		w.tr = New()
		w.tr.Restore(saved)
		listed := w.in.Listed
		w.s.Requests, w.in.Listed, pg.State = nil, nil, state.TunnelConnecting
		w.want(time.Second)
		w.in.Listed = listed
	}
	w.s.Requests, pg.State = requests, state.TunnelError
	w.want(time.Second, state.NoticeApproved, state.NoticeTunnelBroken)
	w.up()
	w.want(time.Second, state.NoticeApproved, state.NoticeTunnelRecovered)
}

// TestSuccessorKnowsCodes: a code that is still needed is no new one to the process that
// goes on, though that has found out by itself.
func TestSuccessorKnowsCodes(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	pg := &w.s.Tunnels[0]
	needs := func() {
		pg.State, pg.Waiting, pg.Problem = state.TunnelWaitingForLogin, 1, &state.Problem{Code: state.CodeMFARequired, Since: w.in.Now}
	}
	needs()
	w.tr.Dismiss(w.want(time.Second, state.NoticeLoginNeeded)[0].ID)
	saved := w.tr.Save()
	w.tr = New()
	w.tr.Restore(saved)
	pg.State, pg.Problem = state.TunnelConnecting, nil
	w.want(time.Second)
	needs()
	w.want(time.Second)
}

// TestMemoryIsBounded: a tracker that sees new causes for weeks forgets them.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t)
	for i := range 5000 {
		w.s.Requests = []state.Request{{ID: fmt.Sprint(i), User: "carol", State: state.RequestPending, Reviewable: true}}
		w.after(time.Minute)
	}
	if n := len(w.tr.by); n > 24*60+10 {
		t.Errorf("%d causes are remembered", n)
	}
}
