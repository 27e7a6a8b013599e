package requests

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/memory"
	"berth/agent/state"
	"berth/certwatch"
)

// frozenTunnels are Tunnels of an agent that hands over until a moment.
type frozenTunnels struct {
	noTunnels
	until   time.Time
	granted []string
}

func (f *frozenTunnels) Grant(tunnel string, r state.Request) error {
	if time.Now().Before(f.until) {
		return memory.ErrPassedOn
	}
	f.granted = append(f.granted, tunnel+" "+r.ID)
	return nil
}

// TestRuleMeetsAHandOver: a rule that is to be followed while the agent hands over is
// followed once that has failed; an agent that is replaced ends.
func TestRuleMeetsAHandOver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("access: {auto_assume: [{roles: [dba], tunnel: pg}]}\n"+
		"tunnels: [{name: pg, kind: db, cluster: tele.test, resource: pg, port: 15432}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		lasts, runs time.Duration // the hand-over, the agent
		granted     int
	}{"it_fails": {10 * time.Second, time.Minute, 1}, "it_serves": {time.Minute, 15 * time.Second, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, began := newHeldTest(t), time.Now()
				tunnels := &frozenTunnels{until: began.Add(c.lasts)}
				h.cfg.Config, h.cfg.Tunnels = func() *config.Config { return cfg }, tunnels
				h.sessions.Update(&certwatch.View{Profiles: []*certwatch.Profile{{
					Home: "/home/tsh", Name: "tele.test", ProxyAddr: "tele.test:443", Cluster: "tele.test", RootCluster: "tele.test", User: "alice",
					Session: &certwatch.Session{ValidUntil: began.Add(time.Hour)},
				}}})
				ctx, cancel := context.WithTimeout(t.Context(), c.runs)
				defer cancel()
				h.autoAssume(ctx, state.Request{
					ID: "id", Profile: "tele.test:443", User: "alice", Roles: []string{"dba"}, State: state.RequestApproved, Mine: true, Assumable: true,
				})
				h.rules.Wait()
				if took := time.Since(began); len(tunnels.granted) != c.granted || took != min(c.lasts, c.runs) {
					t.Errorf("after %v the rule has given %q", took, tunnels.granted)
				}
			})
		})
	}
}
