package agent

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/internal/simcluster"
)

// TestRenamedTunnelGoesOn: under its new name a tunnel has the port, the history
// and the state of before, and so it does under the old name again.
func TestRenamedTunnelGoesOn(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.Login()
	e.AwaitState("pg", state.TunnelReady)
	if err := e.Client().StopTunnel(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][2]string{{"pg", "orders"}, {"orders", "pg"}} {
		from, to := names[0], names[1]
		spec := e.spec(from)
		spec.Name = to
		if spec, err := e.Client().ChangeTunnel(t.Context(), from, spec); err != nil || spec.Port != port {
			t.Fatalf("%+v, %v; want port %d", spec, err, port)
		}
		is := e.AwaitState(to, state.TunnelStopped)
		if is.Port != port {
			t.Errorf("%s listens on %d, want %d", to, is.Port, port)
		}
		events := e.awaitEvent(to, state.EventConfig, "config changed: name from "+from+" to "+to)
		if !slices.ContainsFunc(events, func(ev state.Event) bool { return ev.Text == "stopped on request" }) {
			t.Errorf("%s has forgotten what happened: %v", to, events)
		}
		if _, err := e.Client().TunnelHistory(t.Context(), from); err == nil {
			t.Errorf("%s is still there", from)
		}
	}
	if err := e.Client().StartTunnel(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil || !strings.Contains(string(raw), item) {
		t.Errorf("the file is not as it was: %v\n%s", err, raw)
	}
}

// TestChangedTunnel changes one key, and what cannot be changed changes nothing.
func TestChangedTunnel(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	pg, port := e.pgTunnel("pg")
	other, _ := e.pgTunnel("other")
	e.config(pg, other)
	e.start()
	e.Login()
	e.AwaitState("pg", state.TunnelReady)
	spec := e.spec("pg")
	spec.DBName = "reports"
	spec.Port = 0 // as it is
	if got, err := e.Client().ChangeTunnel(t.Context(), "pg", spec); err != nil || got.DBName != "reports" || got.Port != port {
		t.Fatalf("%+v, %v", got, err)
	}
	e.awaitEvent("pg", state.EventConfig, "config changed: db_name from app to reports")
	e.AwaitState("pg", state.TunnelReady)
	for name, tt := range map[string]struct {
		change func(*state.TunnelSpec)
		code   ipc.Code
	}{
		"name_there":   {func(s *state.TunnelSpec) { s.Name = "other" }, ipc.CodeExists},
		"no_name":      {func(s *state.TunnelSpec) { s.Name = "a b" }, ipc.CodeInvalid},
		"another_kind": {func(s *state.TunnelSpec) { s.Kind = state.KindKube }, ipc.CodeInvalid},
		"no_resource":  {func(s *state.TunnelSpec) { s.Resource = "nowhere" }, ipc.CodeNotFound},
		"privileged":   {func(s *state.TunnelSpec) { s.Port = 80 }, ipc.CodeInvalid},
	} {
		spec := e.spec("pg")
		tt.change(&spec)
		_, err := e.Client().ChangeTunnel(t.Context(), "pg", spec)
		if refused, _ := errors.AsType[*ipc.Error](err); refused == nil || refused.Code != tt.code {
			t.Errorf("%s: %v, want code %s", name, err, tt.code)
		}
	}
	if got := e.spec("pg"); got.Port != port || got.Resource != spec.Resource {
		t.Errorf("after the refusals it is %+v", got)
	}
	if _, err := e.Client().ChangeTunnel(t.Context(), "nope", spec); err == nil {
		t.Error("an unknown tunnel was changed")
	}
}

// spec is the tunnel as the snapshot has it.
func (e *env) spec(name string) state.TunnelSpec {
	e.t.Helper()
	s, err := e.Client().Snapshot(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	i := slices.IndexFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Name == name })
	if i < 0 {
		e.t.Fatalf("there is no tunnel %s", name)
	}
	return s.Tunnels[i].TunnelSpec
}
