//go:build unix

package agent

import (
	"strings"
	"testing"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/tshhome"
)

// aliceAndBob may both log in.
var aliceAndBob = simcluster.Config{Users: []simcluster.User{
	{Name: "alice", Password: "alice-password"}, {Name: "bob", Password: "bob-password"},
}}

// loginAs does what a "tsh login" of another user over the session would.
func (e *env) loginAs(user string) { must(e.t, e.Sim.Login(e.Home, user)) }

// TestAnotherPersonsSession: tunnels go on as whoever is logged in, which is an
// event and a notice; one that is for alice waits.
func TestAnotherPersonsSession(t *testing.T) {
	t.Parallel()
	e := newEnv(t, aliceAndBob)
	e.Login()
	item, port := e.pgTunnel("pg")
	pinned, pinnedPort := e.pgTunnel("pinned", "user: alice", "hold: 0s")
	e.config(item, pinned)
	e.start()
	e.awaitWell()
	if tun := e.Snapshot().Tunnels[0]; tun.RunsAs != "alice" {
		t.Errorf("the tunnel runs as %q, want alice", tun.RunsAs)
	}
	open := e.mustPG(port)
	e.loginAs("bob")
	e.Await("the tunnel to run as bob", func(s state.Snapshot) bool { return s.Tunnels[0].RunsAs == "bob" })
	s := e.Await("the other to wait", func(s state.Snapshot) bool { return s.Tunnels[1].State == state.TunnelWaitingForLogin })
	p := s.Tunnels[1].Problem
	if p == nil || !strings.Contains(p.Text, `is of bob, and tunnel "pinned" is for alice`) || !strings.HasSuffix(p.Action, "--user=alice") {
		t.Errorf("the tunnel for alice has the problem %+v", p)
	}
	if _, err := e.pg(t.Context(), pinnedPort); err == nil {
		t.Error("the tunnel for alice served with bob's session")
	}
	e.awaitEvent("pg", state.EventCert, "runs as bob now, before: alice")
	e.Await("the notice", func(s state.Snapshot) bool {
		for _, n := range s.Notices {
			if n.Kind == state.NoticeUserChanged {
				return n.Body == "Tunnels of sim.test now run as bob, before: alice."
			}
		}
		return false
	})
	e.serial(open) // what is open stays
	if n := e.Snapshot().Tunnels[0].StaleConnections; n != 1 {
		t.Errorf("%d stale connections, want the one that alice opened", n)
	}
	e.loginAs("alice")
	e.Await("the other to go on", func(s state.Snapshot) bool { return s.Tunnels[1].RunsAs == "alice" })
	e.mustPG(pinnedPort)
}

// TestProfileOfAUserWithoutKeys is what "tsh login --user=bob" leaves over a
// session of alice: one user is named, everywhere.
func TestProfileOfAUserWithoutKeys(t *testing.T) {
	t.Parallel()
	e := newEnv(t, aliceAndBob)
	e.Login()
	item, _ := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.awaitWell()
	profile := e.Sim.Profile("bob", e.Sim.Name())
	must(t, tshhome.Home{Dir: e.Home, Layout: e.Sim.Layout()}.Touch(profile))
	s := e.Await("bob's profile", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && s.Profiles[0].User == "bob" && s.Tunnels[0].State == state.TunnelWaitingForLogin
	})
	if p := s.Tunnels[0].Problem; p == nil || !strings.HasSuffix(p.Action, "--user=bob") {
		t.Errorf("the profile is bob's, and the tunnel's problem is %+v", p)
	}
}
