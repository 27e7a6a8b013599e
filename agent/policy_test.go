//go:build unix

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/simcluster"
)

// TestPolicyOfMachine: a policy that comes while the agent runs holds from then on.
// A proxy that it does not allow has no session any more, and gets no login; with
// the policy gone all is as before.
func TestPolicyOfMachine(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg", "guard: off", "hold: 0s")
	e.withTSH()
	e.config(item)
	e.Login()
	file := config.PolicyFile{Path: filepath.Join(t.TempDir(), "policy.yaml"), Trusted: func(*os.File) error { return nil }}
	e.startOptions(func(o *Options) { o.Policy = file }, func(*Agent) {})
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(port))
	if s := e.Await("the tunnel", func(state.Snapshot) bool { return true }); s.Policy != nil || s.Tunnels[0].Guard == state.GuardOn {
		t.Errorf("without a policy: %+v, guard %s", s.Policy, s.Tunnels[0].Guard)
	}

	write := func(format string, args ...any) {
		t.Helper()
		if err := atomicfile.Write(file.Path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	has := func(code state.Code) func(state.Snapshot) bool {
		return func(s state.Snapshot) bool {
			return slices.ContainsFunc(s.Problems, func(p state.Problem) bool { return p.Code == code })
		}
	}
	write("guard: on\nproxies: [%q]\n", e.Sim.ProxyAddr())
	s := e.Await("the policy's word on the config", func(s state.Snapshot) bool { // which is there before it is applied
		return has(state.CodePolicyOverrules)(s) && s.Policy != nil && s.Tunnels[0].Guard != state.GuardOff
	})
	if !slices.Contains(s.Policy.Forbids, "guard: on") {
		t.Errorf("the policy is %+v", s.Policy)
	}
	e.AwaitState("pg", state.TunnelReady)

	write("proxies: [other.example.com]\n")
	s = e.Await("the proxy to be forbidden", func(s state.Snapshot) bool {
		p := s.Tunnels[0].Problem
		return has(state.CodeProxyForbidden)(s) && p != nil && p.Code == state.CodeProxyForbidden && len(s.Profiles) == 0
	})
	if got := s.Tunnels[0]; got.State != state.TunnelError || strings.Contains(got.Problem.Action, "berth login") {
		t.Errorf("the tunnel is %s, its problem %+v", got.State, got.Problem)
	}
	_, _, err := e.Client().Resources(t.Context(), client.ResourceQuery{Cluster: e.Sim.Name()})
	if err == nil || !strings.Contains(err.Error(), "is not allowed here: the policy "+file.Path) {
		t.Errorf("a listing there ends with %v", err)
	}
	if conn, err := e.pg(t.Context(), port); err == nil {
		_ = conn.Close(t.Context()) // it should not be there
		t.Error("a client gets through to a proxy that is not allowed")
	}
	err = <-e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr()}).done
	if err == nil || !strings.Contains(err.Error(), "is not allowed here: the policy "+file.Path) {
		t.Errorf("a login there ends with %v", err)
	}
	_, err = e.Client().SnoozeRenewal(t.Context(), e.Sim.ProxyAddr(), "")
	if err == nil || !strings.Contains(err.Error(), "is not allowed here: the policy "+file.Path) {
		t.Errorf("snoozing its reminder ends with %v", err)
	}

	if _, err := e.Client().Logout(t.Context(), e.Sim.ProxyAddr(), ""); err != nil {
		t.Errorf("a session that is not allowed cannot be ended: %v", err)
	}
	e.Await("the forbidden session to be gone", func(s state.Snapshot) bool { return !has(state.CodeProxyForbidden)(s) })
	e.Login()
	e.Await("the forbidden session to be back", has(state.CodeProxyForbidden))

	write("proxies: [")
	e.Await("the mistake", has(state.CodePolicyBroken))
	if err := os.Remove(file.Path); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(port))
}
