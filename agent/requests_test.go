package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// requestsConfig is a cluster where alice may ask for dba, who alone may use
// the database secret, and where bob's requests wait for her review.
func requestsConfig() simcluster.Config {
	return simcluster.Config{
		Users: []simcluster.User{{Name: "alice", Password: "alice-password"}, {Name: "bob"}},
		Roles: []simcluster.Role{
			{
				Name: "access", DBLabels: map[string][]string{"env": {"test"}},
				Request: simcluster.RequestRules{Roles: []string{"dba", "brief"}}, Review: []string{"dba"},
			},
			{Name: "dba"}, {Name: "brief", MaxSessionTTL: time.Hour},
		},
		Databases: []simcluster.Database{
			{Name: "pg", Protocol: "postgres", Labels: map[string]string{"env": "test"}},
			{Name: "secret", Protocol: "postgres", Labels: map[string]string{"env": "prod"}},
		},
	}
}

// requestsEnv is an agent with the tunnels pg and other, logged in and ready.
func requestsEnv(t *testing.T, more ...string) (e *env, port int) {
	t.Helper()
	e = newEnv(t, requestsConfig())
	e.Login()
	tun, port := e.pgTunnel("pg")
	other, _ := e.pgTunnel("other")
	e.config(tun, other)
	e.appendConfig(more...)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.AwaitState("other", state.TunnelReady)
	e.awaitWatch()
	return e, port
}

// awaitWatch waits until the requests have been listed by a watch that is up.
func (e *env) awaitWatch() {
	e.t.Helper()
	testwait.Eventually(e.t, "the access requests are watched", func() bool {
		rpcs := e.Sim.Counters().RPCs
		return rpcs["WatchEvents"] > 0 && rpcs["GetAccessRequestsV2"] >= 2
	})
}

// appendConfig adds lines to the config file.
func (e *env) appendConfig(lines ...string) {
	e.t.Helper()
	f, err := os.OpenFile(e.Paths.Config, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, l := range lines {
		fmt.Fprintln(f, l)
	}
	if err := f.Close(); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) approved(roles ...string) string {
	e.t.Helper()
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{
		User: "alice", Roles: roles, State: types.RequestState_APPROVED, Expires: time.Now().Add(13 * time.Hour),
	})
	e.awaitRequest(id, func(r state.Request) bool { return r.Assumable })
	return id
}

func (e *env) awaitRequest(id string, ok func(state.Request) bool) state.Request {
	e.t.Helper()
	var got state.Request
	e.Await("access request "+id, func(s state.Snapshot) bool {
		i := slices.IndexFunc(s.Requests, func(r state.Request) bool { return r.ID == id })
		if i < 0 {
			return false
		}
		got = s.Requests[i]
		return ok(got)
	})
	return got
}

// rolesIn are the roles of the session in the home, as tsh would say.
func (e *env) rolesIn() []string {
	e.t.Helper()
	list, err := certwatch.Load(e.Home)
	if err != nil || len(list) != 1 || list[0].Session == nil {
		e.t.Fatalf("load the home: %v", err)
	}
	if ssh := list[0].Session.SSH; ssh == nil || !slices.Equal(slices.Sorted(slices.Values(ssh.Roles)), slices.Sorted(slices.Values(list[0].Session.Identity.Roles))) {
		e.t.Errorf("the SSH cert has other roles: %+v", ssh)
	}
	return slices.Sorted(slices.Values(list[0].Session.Identity.Roles))
}

// rolesAt are the roles that a new connection through a tunnel has.
func (e *env) rolesAt(port int) string {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), wait)
	defer cancel()
	conn, err := e.pg(ctx, port)
	if err != nil {
		return err.Error() // it came while those opened with other roles were closed
	}
	defer conn.Close(ctx)
	got, err := servedBy(ctx, conn)
	if err != nil {
		return err.Error()
	}
	roles := strings.Split(got["roles"], ",")
	slices.Sort(roles)
	return strings.Join(roles, ",")
}

// newRoles waits until a new connection's roles are those.
func (e *env) newRoles(port int, want string) {
	e.t.Helper()
	got := ""
	if !testwait.Until(func() bool { got = e.rolesAt(port); return got == want }) {
		e.t.Fatalf("a new connection has the roles %q, want %q", got, want)
	}
}

func wantCode(t *testing.T, err error, code ipc.Code, text string) {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message+" | "+e.Hint, text) {
		t.Errorf("error %v (%+v), want code %s with %q", err, e, code, text)
	}
}

func TestAssumeForTheSession(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t)
	c := e.Client()
	old := e.mustPG(port)
	id := e.approved("dba")
	got, err := c.AssumeRequest(t.Context(), client.Assume{ID: id[:8]})
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := c.AssumeRequest(t.Context(), client.Assume{ID: id}); err != nil {
		t.Errorf("assume again: %v", err)
	}
	if got.SessionUntil == nil || time.Until(*got.SessionUntil) < 11*time.Hour {
		t.Errorf("assumed %+v", got)
	}
	e.newRoles(port, "access,dba")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access", "dba"}) {
		t.Errorf("the home has the roles %q", roles)
	}
	if _, err := servedBy(t.Context(), old); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	e.awaitRequest(id, func(r state.Request) bool { return r.Assumed && !r.Assumable })

	withRoles := e.mustPG(port)
	dropped, err := c.DropRequests(t.Context(), nil, "")
	if err != nil || !slices.Equal(dropped, []string{id}) {
		t.Fatalf("dropped %q, %v", dropped, err)
	}
	e.newRoles(port, "access")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access"}) {
		t.Errorf("after the drop the home has the roles %q", roles)
	}
	if _, err := servedBy(t.Context(), withRoles); err != nil {
		t.Errorf("on_drop is keep, and the connection broke: %v", err)
	}
	e.Await("the connections to be marked", func(s state.Snapshot) bool { return s.Tunnels[0].StaleConnections >= 2 })
	if err := c.RestartTunnel(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	e.Await("none to be marked", func(s state.Snapshot) bool { return s.Tunnels[0].StaleConnections == 0 })
	if again, err := c.DropRequests(t.Context(), nil, ""); err != nil || len(again) != 0 {
		t.Errorf("dropping nothing: %q, %v", again, err)
	}
}

func TestAssumeForOneTunnel(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t, "access: {on_drop: close}")
	c := e.Client()
	id := e.approved("dba")
	got, err := c.AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "pg"})
	if err != nil || !slices.Equal(got.Request.Tunnels, []string{"pg"}) {
		t.Fatalf("assumed %+v, %v", got.Request, err)
	}
	e.newRoles(port, "access,dba")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access"}) {
		t.Errorf("the session has the roles %q", roles)
	}
	other := e.Snapshot().Tunnels[1]
	var otherPort int
	if _, err := fmt.Sscanf(other.Address, "127.0.0.1:%d", &otherPort); err != nil {
		t.Fatal(err)
	}
	if roles := e.rolesAt(otherPort); roles != "access" {
		t.Errorf("the other tunnel has the roles %q", roles)
	}
	conn := e.mustPG(port)
	e.Sim.DeleteAccessRequest(id)
	e.newRoles(port, "access")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := servedBy(ctx, conn); err == nil {
		t.Error("on_drop is close, and the connection lives")
	}
	_, err = c.DropRequests(t.Context(), []string{id}, "")
	wantCode(t, err, ipc.CodeNotFound, "is not assumed")
	events, err := c.TunnelHistory(t.Context(), "pg")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"has dba alone, by access request " + id, "no longer has the roles of access request " + id} {
		if !slices.ContainsFunc(events, func(ev state.Event) bool { return ev.Text == want }) {
			t.Errorf("the tunnel's history lacks %q: %+v", want, events)
		}
	}
}

func TestTunnelsGrantOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	tun, port := e.pgTunnel("pg")
	e.config(tun)
	stop := e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.awaitWatch()
	id := e.approved("dba")
	if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "pg"}); err != nil {
		t.Fatal(err)
	}
	e.newRoles(port, "access,dba")
	stop()
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.newRoles(port, "access,dba")
	stop2 := e.Sim.ResolveAccessRequest(id, types.RequestState_DENIED, "changed my mind")
	if stop2 != nil {
		t.Fatal(stop2)
	}
	e.newRoles(port, "access")
}

func TestWhatCannotBeAssumed(t *testing.T) {
	t.Parallel()
	e, _ := requestsEnv(t)
	c := e.Client()
	put := func(user, reason string, s types.RequestState) string {
		id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: user, Roles: []string{"dba"}, State: s, ResolveReason: reason})
		if user != "alice" {
			return id
		}
		e.awaitRequest(id, func(state.Request) bool { return true })
		return id
	}
	assume := func(id string) error {
		_, err := c.AssumeRequest(t.Context(), client.Assume{ID: id})
		return err
	}
	wantCode(t, assume(put("alice", "", types.RequestState_PENDING)), ipc.CodeDenied, "is not approved yet: 0 of 1 approval")
	wantCode(t, assume(put("alice", "no \x1b[31mway", types.RequestState_DENIED)), ipc.CodeDenied, "was denied: no way")
	wantCode(t, assume(put("alice", "", types.RequestState_PROMOTED)), ipc.CodeDenied, "access list")
	wantCode(t, assume(put("bob", "", types.RequestState_APPROVED)), ipc.CodeDenied, "is bob's, who alone can assume it")
	wantCode(t, assume("00000000-dead"), ipc.CodeNotFound, "no access request has an id")
	_, err := c.AssumeRequest(t.Context(), client.Assume{ID: "x", Tunnel: "nope"})
	wantCode(t, err, ipc.CodeNotFound, `there is no tunnel "nope"`)

	// The end of the session is reported before it comes nearer.
	id := e.approved("brief")
	err = assume(id)
	wantCode(t, err, ipc.CodeConfirm, "the session ends at")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access"}) {
		t.Errorf("nothing was to change, and the roles are %q", roles)
	}
	for _, id := range []string{"aaaa-1", "aaaa-2"} {
		e.Sim.PutAccessRequest(simcluster.AccessRequest{ID: id, User: "alice", Roles: []string{"dba"}})
		e.awaitRequest(id, func(state.Request) bool { return true })
	}
	wantCode(t, assume("aaaa"), ipc.CodeInvalid, "aaaa-1 (dba for alice)")
}

func TestReviews(t *testing.T) {
	testneeds.Time(t, "each review is waited for at the desktop")
	t.Parallel()
	e, _ := requestsEnv(t)
	c := e.Client()
	decide := func(id string) (state.Request, error) { return c.DecideRequest(t.Context(), id, true, "fine") }
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}})
	if r, err := decide(id); err != nil || r.State != state.RequestApproved { // not listed yet: it is looked for
		t.Errorf("approve: %+v, %v", r, err)
	}
	_, err := decide(id)
	wantCode(t, err, ipc.CodeDenied, "has already")
	_, err = decide(e.approved("dba"))
	wantCode(t, err, ipc.CodeDenied, "you cannot review your own")
	// It expires while the notification is up.
	gone := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}})
	if _, err := c.DecideRequest(t.Context(), gone[:3]+"zzz", true, ""); err == nil {
		t.Error("decided what does not exist")
	}
	e.awaitRequest(gone, func(r state.Request) bool { return r.Reviewable })
	e.Sim.DeleteAccessRequest(gone)
	_, err = decide(gone)
	wantCode(t, err, ipc.CodeNotFound, "is not there any more")
}

func TestCreateAndWatch(t *testing.T) {
	t.Parallel()
	e, _ := requestsEnv(t)
	c := e.Client()
	able, err := c.RequestAbilities(t.Context(), "", nil)
	if err != nil || !slices.Equal(able.Roles, []string{"brief", "dba"}) {
		t.Errorf("abilities %+v, %v", able, err)
	}
	_, err = c.CreateRequest(t.Context(), client.NewRequest{Roles: []string{"root"}})
	wantCode(t, err, ipc.CodeFailed, "you may ask for: ")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := make(chan state.RequestEvent, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ev, err := range c.RequestEvents(ctx) {
			if err == nil {
				events <- ev
			}
		}
	}()
	testwait.Eventually(t, "the watch", func() bool { // its first event shows that the agent knows of it
		e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
		select {
		case <-events:
			return true
		default:
			return false
		}
	})
	made, err := c.CreateRequest(t.Context(), client.NewRequest{Roles: []string{"dba"}, Reason: "<b>incident\u202e 42"})
	if err != nil || made.State != state.RequestPending {
		t.Fatalf("made %+v, %v", made, err)
	}
	if made.Reason != "<b>incident 42" {
		t.Errorf("reason %q", made.Reason)
	}
	began := time.Now()
	if err := e.Sim.ResolveAccessRequest(made.ID, types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []state.RequestEventKind{state.RequestEventCreated, state.RequestEventApproved} {
		select {
		case ev := <-events:
			for ev.Request.ID != made.ID {
				ev = <-events
			}
			if ev.Kind != want {
				t.Errorf("event %s, want %s", ev.Kind, want)
			}
		case <-time.After(wait):
			t.Fatalf("no event %s", want)
		}
	}
	testwait.Soon(t, "a report", time.Since(began), 2*time.Second)
	cancel()
	<-ended
}

func TestRuleAssumes(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t, "access: {auto_assume: [{roles: [dba], tunnel: pg}]}")
	e.Sim.PutAccessRequest(simcluster.AccessRequest{ID: "wide", User: "alice", Roles: []string{"dba", "brief"}, State: types.RequestState_APPROVED})
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	e.awaitRequest(id, func(r state.Request) bool { return r.State == state.RequestPending })
	if err := e.Sim.ResolveAccessRequest(id, types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	e.awaitRequest(id, func(r state.Request) bool { return slices.Equal(r.Tunnels, []string{"pg"}) })
	e.newRoles(port, "access,dba")
	if _, err := e.Client().DropRequests(t.Context(), []string{id}, ""); err != nil {
		t.Fatal(err)
	}
	e.newRoles(port, "access")
	e.awaitRequest("wide", func(r state.Request) bool { return r.Assumable && len(r.Tunnels) == 0 })
}

func TestRefusalNamesTheRequest(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	tun, _ := e.pgTunnel("secret")
	e.config(strings.Replace(tun, "resource: pg", "resource: secret", 1))
	e.start()
	e.AwaitState("secret", state.TunnelError)
	got := e.Snapshot().Tunnels[0]
	if got.Problem == nil || !strings.HasPrefix(got.Problem.Action, "berth request create --role brief") || !strings.Contains(got.Problem.Action, "dba") {
		t.Errorf("problem %+v, want the command that asks for access", got.Problem)
	}
}

func TestLoggedOutAssume(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.config()
	e.start()
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED})
	_, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, Hold: new(time.Duration)})
	wantCode(t, err, ipc.CodeLoginNeeded, "berth login")
	e.Login()
	e.Await("the session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })
	if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, AcceptEarlierEnd: true}); err != nil {
		t.Errorf("after the login: %v", err)
	}
}

// What the session may not even see, a tunnel with a request's roles reaches.
func TestTunnelReachesWhatTheSessionDoesNotSee(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	tun, port := e.pgTunnel("secret")
	e.config(strings.Replace(tun, "resource: pg", "resource: secret", 1))
	e.start()
	e.AwaitState("secret", state.TunnelError)
	e.awaitWatch()
	id := e.approved("dba")
	if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "secret"}); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelReady)
	e.newRoles(port, "access,dba")
	if _, err := e.Client().DropRequests(t.Context(), []string{id[:8]}, ""); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelError)
}

func TestHooksRun(t *testing.T) {
	t.Parallel()
	testneeds.Unix(t, "the hook of this test is cp")
	out := filepath.Join(t.TempDir(), "event")
	e, _ := requestsEnv(t, fmt.Sprintf("access: {hooks: [{on: [denied], run: [cp, /dev/stdin, %q]}]}", out))
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	e.awaitRequest(id, func(r state.Request) bool { return r.State == state.RequestPending })
	if err := e.Sim.ResolveAccessRequest(id, types.RequestState_DENIED, "no"); err != nil {
		t.Fatal(err)
	}
	var ev state.RequestEvent
	testwait.Eventually(t, "the hook runs", func() bool {
		raw, err := os.ReadFile(out)
		return err == nil && json.Unmarshal(raw, &ev) == nil
	})
	if ev.Kind != state.RequestEventDenied || ev.Request.ID != id || ev.Request.ResolveReason != "no" {
		t.Errorf("the hook got %+v", ev)
	}
}
