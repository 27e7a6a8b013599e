//go:build unix

package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// endedEnv is an agent with the tunnel pg whose session has just ended, and
// two approved requests of alice's, for dba and for brief.
func endedEnv(t *testing.T, more ...string) (e *env, port int, dba, brief string) {
	t.Helper()
	e = newEnv(t, requestsConfig())
	e.withTSH()
	e.Login()
	tun, port := e.pgTunnel("pg")
	e.config(tun)
	e.appendConfig(more...)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.awaitWatch()
	dba, brief = e.approved("dba"), e.approved("brief")
	e.Login(simcluster.WithTTL(2 * time.Second))
	e.Await("the session's end", func(s state.Snapshot) bool {
		return s.Profiles[0].State == state.ProfileExpired && s.Tunnels[0].State == state.TunnelWaitingForLogin
	})
	return e, port, dba, brief
}

// assuming assumes beside the test.
func (e *env) assuming(want client.Assume) <-chan error {
	done := make(chan error, 1)
	c := e.Client()
	go func() {
		_, err := c.AssumeRequest(e.t.Context(), want)
		done <- err
	}()
	return done
}

func (e *env) result(of <-chan error) error {
	e.t.Helper()
	select {
	case err := <-of:
		return err
	case <-time.After(wait):
		e.t.Fatal("the assume does not end")
		return nil
	}
}

// One login serves every assume that is held, and the held client of a tunnel.
func TestAssumeIsHeldForALogin(t *testing.T) {
	t.Parallel()
	e, port, dba, brief := endedEnv(t)
	c := e.Client()
	testwait.Never(t, "a request that cannot be assumed after the next login", func() bool {
		s, err := c.Snapshot(t.Context())
		return err != nil || slices.ContainsFunc(s.Requests, func(r state.Request) bool { return !r.Assumable })
	})
	logins := e.Sim.Counters().Logins
	held := []<-chan error{
		e.assuming(client.Assume{ID: dba[:8], AcceptEarlierEnd: true}),
		e.assuming(client.Assume{ID: brief, AcceptEarlierEnd: true}),
		e.assuming(client.Assume{ID: dba, AcceptEarlierEnd: true}),
		e.assuming(client.Assume{ID: brief, Tunnel: "pg"}),
	}
	conn := e.connecting(port)
	want := slices.Sorted(slices.Values([]string{dba, brief}))
	e.Await("all to be held", func(s state.Snapshot) bool {
		return slices.Equal(s.Profiles[0].HeldRequests, want) && s.Tunnels[0].Waiting == 1 &&
			slices.ContainsFunc(s.Notices, func(n state.Notice) bool {
				return strings.HasPrefix(n.Title, "Log in to ") && strings.Contains(n.Body, "pg") && strings.Contains(n.Body, "assume")
			})
	})
	p := e.sit(t.Context(), client.LoginStart{}, "alice-password")
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	for i, of := range held {
		if err := e.result(of); err != nil {
			t.Errorf("held assume %d: %v", i, err)
		}
	}
	if err := <-conn; err != nil {
		t.Errorf("held client: %v", err)
	}
	if n := e.Sim.Counters().Logins - logins; n != 1 {
		t.Errorf("%d logins, want one", n)
	}
	e.newRoles(port, "access,brief,dba")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access", "brief", "dba"}) {
		t.Errorf("the home has the roles %q", roles)
	}
	e.Await("nothing to be held", func(s state.Snapshot) bool { return len(s.Profiles[0].HeldRequests) == 0 })
}

func TestNoLoginForAnAssume(t *testing.T) {
	t.Parallel()
	e, _, dba, _ := endedEnv(t)
	began := time.Now()
	err := e.result(e.assuming(client.Assume{ID: dba, Hold: new(1200 * time.Millisecond)}))
	wantCode(t, err, ipc.CodeLoginNeeded, fmt.Sprintf("no login at %s came within 1.2 s: access request %s was not assumed | berth login %s --user=alice",
		e.Sim.ProxyAddr(), dba, e.Sim.ProxyAddr()))
	if took := time.Since(began); took < time.Second {
		t.Errorf("held for %v", took)
	}
	// One whose id the agent has never heard is held as well: only the cluster
	// knows whether there is one.
	err = e.result(e.assuming(client.Assume{ID: "\x1b[31m7c1f", Hold: new(50 * time.Millisecond)}))
	wantCode(t, err, ipc.CodeLoginNeeded, "access request 7c1f was not assumed")
	err = e.result(e.assuming(client.Assume{ID: dba, Hold: new(time.Duration)}))
	wantCode(t, err, ipc.CodeLoginNeeded, "no valid session at "+e.Sim.ProxyAddr())
}

// Whoever cancels the login, or may not log in, is not left waiting.
func TestLoginForAnAssumeComesToNothing(t *testing.T) {
	t.Parallel()
	e, _, dba, _ := endedEnv(t)
	held := e.assuming(client.Assume{ID: dba})
	e.Await("it to be held", func(s state.Snapshot) bool { return len(s.Profiles[0].HeldRequests) == 1 })
	p := e.sit(t.Context(), client.LoginStart{})
	p.next(t)
	if err := e.Client().CancelLogin(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	wantCode(t, e.result(held), ipc.CodeLoginNeeded, "was cancelled; access request "+dba+" was not assumed")
	if p.result(t) == nil {
		t.Error("the cancelled login succeeded")
	}
	e.Await("nothing to be held", func(s state.Snapshot) bool { return len(s.Profiles[0].HeldRequests) == 0 })
}

func TestTunnelThatHoldsNoClientHoldsNoAssume(t *testing.T) {
	t.Parallel()
	e, _, dba, _ := endedEnv(t)
	tun, _ := e.pgTunnel("impatient", "hold: 0s")
	e.config(tun)
	e.Await("the tunnel", func(s state.Snapshot) bool { return len(s.Tunnels) == 1 && s.Tunnels[0].Name == "impatient" })
	began := time.Now()
	err := e.result(e.assuming(client.Assume{ID: dba, Tunnel: "impatient"}))
	wantCode(t, err, ipc.CodeLoginNeeded, "no valid session at")
	testwait.Soon(t, "the answer", time.Since(began), 5*time.Second)
}

// An agent that stops does not wait for a login.
func TestAgentStopsWithAHeldAssume(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login(simcluster.WithTTL(time.Second))
	e.config()
	stop := e.start()
	e.Await("the session's end", func(s state.Snapshot) bool { return s.Profiles[0].State == state.ProfileExpired })
	held := e.assuming(client.Assume{ID: "7c1f"})
	e.Await("it to be held", func(s state.Snapshot) bool { return len(s.Profiles[0].HeldRequests) == 1 })
	began := time.Now()
	stop()
	testwait.Soon(t, "the end of the agent", time.Since(began), time.Second)
	wantCode(t, e.result(held), ipc.CodeNotRunning, "")
}

// Requests that are assumed at once come one after the other: no cert is made
// from one that lacks the others' roles.
func TestAssumesAtOnce(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t)
	dba, brief := e.approved("dba"), e.approved("brief")
	held := []<-chan error{
		e.assuming(client.Assume{ID: dba, AcceptEarlierEnd: true}), e.assuming(client.Assume{ID: brief, AcceptEarlierEnd: true}),
	}
	for _, of := range held {
		if err := e.result(of); err != nil {
			t.Error(err)
		}
	}
	e.newRoles(port, "access,brief,dba")
}

// A rule is followed for what was approved while no user was logged in.
func TestRuleIsFollowedAfterTheLogin(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	tun, port := e.pgTunnel("pg")
	e.config(tun)
	e.appendConfig("access: {auto_assume: [{roles: [dba], tunnel: pg}]}")
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.awaitWatch()
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	e.awaitRequest(id, func(r state.Request) bool { return r.State == state.RequestPending })
	e.Login(simcluster.WithTTL(2 * time.Second))
	e.Await("the session's end", func(s state.Snapshot) bool {
		return s.Profiles[0].State == state.ProfileExpired && len(s.Requests) == 0
	})
	if err := e.Sim.ResolveAccessRequest(id, types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	e.Login()
	e.awaitRequest(id, func(r state.Request) bool { return slices.Equal(r.Tunnels, []string{"pg"}) })
	e.comesToHave(port, "access,dba")
}

// Right after a logout by hand the agent still believes in the session; the
// assume finds out, and is held all the same.
func TestAssumeRightAfterALogout(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t)
	want := client.Assume{ID: e.approved("dba")}
	e.logout()
	servedAfterLogout(t, e, port, e.assuming(want), func() {})
}

// A logout while the cluster is being asked ends the question, and is no sign of
// a proxy that is away.
func TestLogoutDuringAnAssume(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t)
	want := client.Assume{ID: e.approved("dba")}
	logoutDuringAnAssume(t, e, port, want, "GenerateUserCerts")
}

func TestLogoutDuringAnAssumeForATunnel(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t)
	want := client.Assume{ID: e.approved("dba"), Tunnel: "pg"}
	logoutDuringAnAssume(t, e, port, want, "ListAccessRequests")
}

// A cluster that is slow to list its requests after a login has not lost any.
func TestAssumeBeforeTheFirstList(t *testing.T) {
	testneeds.Time(t, "the cluster is slow")
	t.Parallel()
	e, port := requestsEnv(t)
	want := client.Assume{ID: e.approved("dba")}
	e.logout()
	servedAfterLogout(t, e, port, e.assuming(want), func() { e.Sim.Faults().RPCDelay("ListAccessRequests", 3*time.Second) })
}

// logoutDuringAnAssume logs out while the assume waits for the answer to a call.
func logoutDuringAnAssume(t *testing.T, e *env, port int, want client.Assume, method string) {
	t.Helper()
	asked := func() int { return e.Sim.Counters().RPCs[method] }
	e.Sim.Faults().RPCDelay(method, testwait.Patience)
	before := asked()
	held := e.assuming(want)
	testwait.Eventually(t, "the cluster to be asked", func() bool { return asked() > before })
	e.logout()
	servedAfterLogout(t, e, port, held, func() { e.Sim.Faults().RPCDelay(method, 0) })
}

// servedAfterLogout wants an assume to be held after a logout, and served after the login.
func servedAfterLogout(t *testing.T, e *env, port int, held <-chan error, beforeLogin func()) {
	t.Helper()
	e.Await("the logout to be seen", func(s state.Snapshot) bool { return len(s.Profiles) == 0 })
	select {
	case err := <-held:
		t.Fatalf("not held: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	beforeLogin()
	e.Login()
	if err := e.result(held); err != nil {
		t.Error(err)
	}
	e.newRoles(port, "access,dba")
}
