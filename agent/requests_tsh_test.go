//go:build unix

package agent

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies"
)

// comesToHave waits until a new connection's roles are those.
func (e *env) comesToHave(port int, want string) {
	e.t.Helper()
	got := ""
	if !testwait.Until(func() bool { got = e.rolesAt(port); return got == want }) {
		e.t.Fatalf("a new connection has the roles %q, want %q", got, want)
	}
}

// privateHomes are the homes that berth made in the real one.
func (e *env) privateHomes() []string {
	e.t.Helper()
	var found []string
	if err := filepath.WalkDir(e.Home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "staging-") {
			found = append(found, path)
		}
		return nil
	}); err != nil {
		e.t.Fatal(err)
	}
	return found
}

func (e *env) awaitNoPrivateHome(when string) {
	e.t.Helper()
	if !testwait.Until(func() bool { return len(e.privateHomes()) == 0 }) {
		e.t.Fatalf("%s there is still %q", when, e.privateHomes())
	}
}

// A tunnel that tsh carries gets the roles of a request alone, too: its tsh runs
// in a private home, which goes when the roles do.
func TestTunnelThroughTSHHasRolesAlone(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.withTSH()
	e.Login()
	item, port := e.pgTunnel("pg", "engine: tsh")
	otherItem, other := e.pgTunnel("other", "engine: tsh")
	e.config(item, otherItem)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.AwaitState("other", state.TunnelReady)
	e.awaitWatch()
	c := e.Client()
	before := e.mustPG(port)
	id := e.approved("dba")
	got, err := c.AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "pg"})
	if err != nil || !slices.Equal(got.Request.Tunnels, []string{"pg"}) {
		t.Fatalf("assumed %+v, %v", got.Request, err)
	}
	e.comesToHave(port, "access,dba")
	if roles := e.rolesAt(other); roles != "access" {
		t.Errorf("the other tunnel has the roles %q", roles)
	}
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access"}) {
		t.Errorf("the home has the roles %q", roles)
	}
	if _, err := servedBy(t.Context(), before); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	homes := e.privateHomes()
	if len(homes) != 1 {
		t.Fatalf("private homes %q, want one", homes)
	}
	if info, err := os.Stat(homes[0]); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the private home's mode is %v, %v", info.Mode(), err)
	}

	e.Login() // a new session: the tunnel keeps the roles
	e.Await("the new session", func(s state.Snapshot) bool { return s.Profiles[0].State == state.ProfileValid })
	e.comesToHave(port, "access,dba")

	withRoles := e.mustPG(port)
	if _, err := c.DropRequests(t.Context(), nil, "pg"); err != nil {
		t.Fatal(err)
	}
	if roles := e.rolesAt(port); roles != "access" { // at once: the old tsh takes no client any longer
		t.Errorf("after the drop a new connection has the roles %q", roles)
	}
	if _, err := servedBy(t.Context(), withRoles); err != nil {
		t.Errorf("on_drop is keep, and the connection broke: %v", err)
	}
	e.awaitNoPrivateHome("after the drop")
}

// withHeldTSH is withTSH for a tsh that carries no tunnel: between hold and release none
// that is started comes to anything.
func (e *env) withHeldTSH() (hold, release func()) {
	e.t.Helper()
	e.withTSH()
	held, script := filepath.Join(e.t.TempDir(), "held"), filepath.Join(e.t.TempDir(), "tsh")
	must(e.t, os.WriteFile(script, fmt.Appendf(nil,
		"#!/bin/sh\nwhile [ \"$1\" = proxy ] && [ -e %s ]; do sleep 0.1; done\nexec %s \"$@\"\n", held, e.tsh), 0o700))
	e.tsh = script
	return func() { must(e.t, os.WriteFile(held, nil, 0o600)) }, func() { must(e.t, os.Remove(held)) }
}

// TestTunnelThroughTSHLosesTheSessionsRoles: a tsh that was started with roles which were
// dropped, or as another person, takes no client, however long the next one takes to start.
func TestTunnelThroughTSHLosesTheSessionsRoles(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*env) error{
		"dropped": func(e *env) error {
			_, err := e.Client().DropRequests(e.t.Context(), nil, "")
			return err
		},
		"bob": func(e *env) error {
			e.loginAs("bob")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, requestsConfig())
			hold, release := e.withHeldTSH()
			e.Login()
			item, port := e.pgTunnel("pg", "engine: tsh")
			e.config(item)
			e.start()
			e.AwaitState("pg", state.TunnelReady)
			e.awaitWatch()
			if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: e.approved("dba")}); err != nil {
				t.Fatal(err)
			}
			e.comesToHave(port, "access,dba")
			before := e.mustPG(port)
			hold()
			must(t, lose(e))
			e.Await("the connection from before to be stale", func(s state.Snapshot) bool { return s.Tunnels[0].StaleConnections == 1 })
			roles := make(chan string, 1)
			go func() { roles <- e.rolesAt(port) }()
			e.Await("the client to wait", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 || len(roles) == 1 })
			release()
			if got := <-roles; got != "access" {
				t.Errorf("a new connection has the roles %q", got)
			}
			if _, err := servedBy(t.Context(), before); err != nil {
				t.Errorf("on_drop is keep, and the connection broke: %v", err)
			}
		})
	}
}

// TestKubeThroughTSHFollowsItsRoles: requests that go on while tsh is replaced, over a
// connection made with what is new and through the old process still, go through the new
// one as soon as it is ready.
func TestKubeThroughTSHFollowsItsRoles(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{
		Users: []simcluster.User{{Name: "alice", Password: "alice-password"}},
		Roles: []simcluster.Role{
			{Name: "access", KubeGroups: []string{"all"}, Request: simcluster.RequestRules{Roles: []string{"brief"}}},
			{Name: "brief", MaxSessionTTL: time.Hour},
		},
		KubeHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, strings.Join(slices.Sorted(slices.Values(simcluster.KubeIdentity(r).Roles)), ","))
		}),
	})
	hold, release := e.withHeldTSH()
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod", "engine: tsh"))
	e.start()
	until := e.AwaitState("prod", state.TunnelReady).CertValidUntil
	get, _ := e.kube("prod")
	e.awaitWatch()
	id := e.approved("brief")
	hold()
	if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "prod", AcceptEarlierEnd: true}); err != nil {
		t.Fatal(err)
	}
	e.Await("the way with the roles", func(s state.Snapshot) bool {
		is := s.Tunnels[0].CertValidUntil
		return is != nil && is.Before(*until)
	})
	if code, roles := get(podsPath); code != 200 || roles != "access" {
		t.Errorf("while the next tsh starts: %d %s", code, roles)
	}
	release()
	testwait.Eventually(t, "requests to have the roles", func() bool {
		_, roles := get(podsPath)
		return roles == "access,brief"
	})
}

// TestTSHThatStartsSlowly: a client waits for it longer than a dial may take.
func TestTSHThatStartsSlowly(t *testing.T) {
	testneeds.Time(t, "a slow tsh is waited for")
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	slow := filepath.Join(t.TempDir(), "tsh")
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = proxy ] && sleep %d\nexec %s \"$@\"\n", int(proxies.MaxDialTimeout.Seconds())+2, e.tsh)
	must(t, os.WriteFile(slow, []byte(script), 0o700))
	e.tsh = slow
	e.Login()
	item, port := e.pgTunnel("pg", "engine: tsh")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelConnecting)
	if roles := e.rolesAt(port); roles != "access" {
		t.Errorf("a client that came as tsh started has the roles %q", roles)
	}
}

// What only the roles see, tsh reaches as well; and it loses them with the
// request.
func TestTunnelThroughTSHLosesItsRequest(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.withTSH()
	e.Login()
	item, port := e.pgTunnel("secret", "engine: tsh")
	e.config(strings.Replace(item, "resource: pg", "resource: secret", 1))
	stop := e.start()
	e.AwaitState("secret", state.TunnelError)
	e.awaitWatch()
	id := e.approved("dba")
	if _, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id, Tunnel: "secret"}); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelReady)
	e.comesToHave(port, "access,dba")
	stop()
	e.awaitNoPrivateHome("after the agent's end")
	e.start() // it remembers
	e.AwaitState("secret", state.TunnelReady)
	e.comesToHave(port, "access,dba")
	if err := e.Sim.ResolveAccessRequest(id, types.RequestState_DENIED, "changed my mind"); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelError)
	e.awaitNoPrivateHome("after the denial")
	if err := os.RemoveAll(e.Home); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelWaitingForLogin)
}
