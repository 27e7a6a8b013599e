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

// TestRequestsOfTwoHomes: two homes have sessions of two users at one proxy. Each request
// is assumed, dropped and decided with the session that it is for, and what one of them
// loses closes no connection of the other.
func TestRequestsOfTwoHomes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	second := filepath.Join(t.TempDir(), "tsh")
	must(t, e.Sim.Login(second, "bob"))
	tun, port := e.pgTunnel("pg", "user: alice")
	bobs, bobsPort := e.pgTunnel("bobs", "user: bob")
	e.config(tun, bobs)
	text, err := os.ReadFile(e.Paths.Config)
	must(t, err)
	both := strings.Replace(string(text), "]", ", '"+second+"']", 1)
	must(t, os.WriteFile(e.Paths.Config, []byte(both+"\naccess: {on_drop: close}\n"), 0o600))
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
	_, err = c.AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "pg"})
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
	second := filepath.Join(t.TempDir(), "tsh")
	expired := simcluster.WithTTL(time.Second)
	e.Login(expired)
	must(t, e.Sim.Login(second, "bob", expired))
	tun, port := e.pgTunnel("pg", "user: bob", "hold: 1m")
	e.config(tun)
	text, err := os.ReadFile(e.Paths.Config)
	must(t, err)
	both := strings.Replace(string(text), "]", ", '"+second+"']", 1)
	must(t, os.WriteFile(e.Paths.Config, []byte(both), 0o600))
	a := e.startAgent()
	e.Await("both sessions to end", func(s state.Snapshot) bool {
		return len(s.Profiles) == 2 && s.Profiles[0].State == state.ProfileExpired && s.Profiles[1].State == state.ProfileExpired
	})
	done := e.connecting(port)
	e.Await("the client to be held", func(s state.Snapshot) bool {
		return s.Tunnels[0].State == state.TunnelWaitingForLogin && s.Tunnels[0].Waiting == 1
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
	second := filepath.Join(t.TempDir(), "tsh")
	must(t, e.Sim.Login(second, "bob"))
	e.config()
	text, err := os.ReadFile(e.Paths.Config)
	must(t, err)
	both := strings.Replace(string(text), "]", ", '"+second+"']", 1)
	must(t, os.WriteFile(e.Paths.Config, []byte(both), 0o600))
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
