//go:build unix

package agent

import (
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
	"berth/internal/testwait"
)

// active are the requests whose roles the session in a home has.
func active(t *testing.T, home string) []string {
	t.Helper()
	list, err := certwatch.Load(home)
	if err != nil || len(list) != 1 || list[0].Session == nil {
		t.Fatalf("load the home: %v", err)
	}
	return list[0].Session.Identity.ActiveRequests
}

// bobsHome configures a tunnel of alice's, and one of bob's whose session is in another
// home.
func (e *env) bobsHome(opts ...simcluster.LoginOption) (alicesPort, bobsPort int, home string) {
	e.t.Helper()
	home = filepath.Join(e.t.TempDir(), "tsh")
	must(e.t, e.Sim.Login(home, "bob", opts...))
	alices, alicesPort := e.pgTunnel("pg", "user: alice")
	bobs, bobsPort := e.pgTunnel("bobs", "user: bob")
	e.config(alices, bobs)
	text, err := os.ReadFile(e.Paths.Config)
	must(e.t, err)
	both := strings.Replace(string(text), "]", ", '"+home+"']", 1)
	must(e.t, os.WriteFile(e.Paths.Config, []byte(both), 0o600))
	return alicesPort, bobsPort, home
}

// TestRequestsOfTwoHomes: two homes have sessions of two users at one proxy. Each request
// is assumed, dropped and decided with the session that it is for, and what one of them
// loses closes no connection of the other.
func TestRequestsOfTwoHomes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	port, bobsPort, second := e.bobsHome()
	e.appendConfig("access: {on_drop: close}")
	pending := map[string]string{ // by user
		"alice": e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}}),
		"bob":   e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}}),
	}
	e.start()
	e.Await("both sessions", func(s state.Snapshot) bool {
		return len(s.Profiles) == 2 && s.Profiles[0].State == state.ProfileValid && s.Profiles[1].State == state.ProfileValid
	})
	e.AwaitState("pg", state.TunnelReady)
	e.AwaitState("bobs", state.TunnelReady)
	c := e.Client()

	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{
		User: "bob", Roles: []string{"dba"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(13 * time.Hour),
	})
	e.awaitRequest(id, func(r state.Request) bool { return r.Assumable })
	_, err := c.AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "pg"})
	wantCode(t, err, ipc.CodeInvalid, "tunnel pg runs as alice, and the request is bob's")
	alices := e.mustPG(port)
	for _, named := range [][]string{nil, {id}} {
		ofBob := e.mustPG(bobsPort)
		if _, err := c.AssumeRequest(t.Context(), client.Assume{ID: id}); err != nil {
			t.Fatalf("assume: %v", err)
		}
		if one, two := active(t, e.Home), active(t, second); len(one) != 0 || !slices.Equal(two, []string{id}) {
			t.Errorf("assumed are %q in alice's home and %q in bob's, want %q in bob's alone", one, two, id)
		}
		if dropped, err := c.DropRequests(t.Context(), named, ""); err != nil || !slices.Equal(dropped, []string{id}) {
			t.Errorf("DropRequests(%q) = %q, %v", named, dropped, err)
		}
		if left := active(t, second); len(left) != 0 {
			t.Fatalf("after DropRequests(%q) bob's session has the roles of %q", named, left)
		}
		testwait.Eventually(t, "bob's connection to be closed", func() bool { // which is after alice's tunnel in the config
			_, err := servedBy(t.Context(), ofBob)
			return err != nil
		})
		if _, err := servedBy(t.Context(), alices); err != nil {
			t.Fatalf("bob's roles were dropped, and alice's connection broke: %v", err)
		}
	}

	for user, reviewer := range map[string]string{"alice": "bob", "bob": "alice"} {
		testwait.Eventually(t, "a review of "+user+"'s request", func() bool { // the reviewer's session has to list it first
			_, err = c.DecideRequest(t.Context(), pending[user], true, "")
			return err == nil
		})
		if r, _ := e.Sim.AccessRequest(pending[user]); len(r.GetReviews()) != 1 || r.GetReviews()[0].Author != reviewer {
			t.Errorf("%s's request has the reviews %+v, want %s's", user, r.GetReviews(), reviewer)
		}
	}
}

// TestHeldOfTwoHomes: of the sessions of two users at one proxy, a client waits for the
// one that its tunnel is for.
func TestHeldOfTwoHomes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	expired := simcluster.WithTTL(time.Second)
	e.Login(expired)
	_, port, second := e.bobsHome(expired)
	a := e.startAgent()
	e.Await("both sessions to end", func(s state.Snapshot) bool {
		return len(s.Profiles) == 2 && s.Profiles[0].State == state.ProfileExpired && s.Profiles[1].State == state.ProfileExpired
	})
	done := e.connecting(port)
	e.Await("the client to be held", func(s state.Snapshot) bool {
		return s.Tunnels[1].State == state.TunnelWaitingForLogin && s.Tunnels[1].Waiting == 1
	})
	for _, p := range a.sessions.View().Profiles {
		if held := a.held()[p.ID()]; held != (p.User == "bob") {
			t.Errorf("a login of %s releases a client: %v", p.User, held)
		}
	}
	must(t, e.Sim.Login(second, "bob"))
	if err := <-done; err != nil {
		t.Errorf("the client is held until bob's login, and fails: %v", err)
	}
}

// TestLogoutOfTwoHomes: of the sessions of two users at one proxy, the one that is meant
// is ended.
func TestLogoutOfTwoHomes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.withTSH()
	e.Login()
	e.bobsHome()
	e.start()
	valid := func(s state.Snapshot) (users []string) {
		for _, p := range s.Profiles {
			if p.State == state.ProfileValid {
				users = append(users, p.User)
			}
		}
		return users
	}
	e.Await("both sessions", func(s state.Snapshot) bool { return len(valid(s)) == 2 })
	c := e.Client()
	if _, err := c.Logout(t.Context(), e.Sim.ProxyAddr(), "carol"); err == nil || !strings.Contains(err.Error(), "no profile of carol is at "+e.Sim.ProxyAddr()) {
		t.Errorf("the logout of a user without a session ends with %v", err)
	}
	if _, err := c.Logout(t.Context(), e.Sim.ProxyAddr(), "bob"); err != nil {
		t.Fatal(err)
	}
	if got := valid(e.Snapshot()); !slices.Equal(got, []string{"alice"}) {
		t.Errorf("after bob's logout there are sessions of %q", got)
	}
}

// TestProblemsOfTwoHomes: what keeps one of two users at a proxy from the cluster names
// the command for that user's session.
func TestProblemsOfTwoHomes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	alicesPort, bobsPort, _ := e.bobsHome()
	e.start()
	e.awaitWell()
	renew := func(user string) string { return "berth login --renew " + e.Sim.ProxyAddr() + " --user=" + user }

	e.Sim.Lock("bob", "incident 7")
	if _, err := e.pg(t.Context(), bobsPort); err == nil {
		t.Error("bob was served while locked")
	}
	p := e.awaitProblem(state.CodeSessionRefused, "sim.test refuses bob")
	if !strings.HasPrefix(p.Action, renew("bob")+" says more") {
		t.Errorf("bob is locked, and the way out is %q", p.Action)
	}
	e.Sim.Lock("alice", "incident 8")
	if _, err := e.pg(t.Context(), alicesPort); err == nil {
		t.Error("alice was served while locked")
	}
	s := e.Await("both to be refused", func(s state.Snapshot) bool {
		return len(s.Problems) == 2 && s.Tunnels[0].Problem != nil && s.Tunnels[1].Problem != nil
	})
	for i, user := range []string{"alice", "bob"} {
		if p := s.Tunnels[i].Problem; !strings.HasPrefix(p.Text, "sim.test refuses "+user) || !slices.Contains(s.Problems, *p) {
			t.Errorf("both are locked, and the problem of %s's tunnel is %+v, of %+v", user, p, s.Problems)
		}
	}
	e.Sim.Unlock("alice")
	e.Sim.Unlock("bob")
	e.awaitWell()

	must(t, e.Sim.RotateHostCA())
	must(t, e.Client().RestartTunnel(t.Context(), "pg"))
	must(t, e.Client().RestartTunnel(t.Context(), "bobs"))
	s = e.Await("both sessions to be outdated", func(s state.Snapshot) bool {
		return len(s.Problems) == 2 && s.Tunnels[0].Problem != nil && s.Tunnels[1].Problem != nil
	})
	for i, user := range []string{"alice", "bob"} {
		p := s.Tunnels[i].Problem
		if p.Code != state.CodeSessionOutdated || p.Action != renew(user) || !strings.Contains(p.Text, user+"'s login") || !slices.Contains(s.Problems, *p) {
			t.Errorf("the CA was rotated, and the problem of %s's tunnel is %+v, of %+v", user, p, s.Problems)
		}
	}
}
