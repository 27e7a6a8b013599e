package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"berth/agent/config"
	"berth/agent/handover"
	"berth/agent/memory"
	"berth/internal/paths"
)

// TestTunnelRemovedWhileNoAgentRan: one that is added under its name later begins anew.
// Nothing is forgotten where it is not known what the config says, or while another agent
// still serves.
func TestTunnelRemovedWhileNoAgentRan(t *testing.T) {
	t.Setenv("TELEPORT_HOME", t.TempDir())
	const tunnel = "tunnels: [{name: %s, kind: db, cluster: c.test, resource: pg, port: 15432}]\n"
	good, other := fmt.Sprintf(tunnel, "kept"), fmt.Sprintf(tunnel, "kept2")
	for name, c := range map[string]struct {
		text, copied, policy string // empty: there is no such file
		successor, forgets   bool
	}{
		"removed":        {text: good, copied: other, forgets: true},
		"none_left":      {text: "version: 1\n", copied: good, forgets: true},
		"policy":         {text: good, policy: "version: 1\n", forgets: true},
		"policy_mistake": {text: good, policy: "nonsense"},
		"mistake":        {text: "nonsense", copied: good},
		"mistake_alone":  {text: "nonsense"},
		"emptied":        {text: "\n", copied: good},
		"gone":           {copied: good},
		"gone_alone":     {},
		"successor":      {text: good, successor: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at, err := paths.Resolve(func(key string) string { return map[string]string{paths.HomeVar: dir, "HOME": dir}[key] })
			if err == nil {
				err = at.MakeDirs()
			}
			if err != nil {
				t.Fatal(err)
			}
			policy := config.PolicyFile{Path: filepath.Join(dir, "policy.yaml"), Trusted: func(*os.File) error { return nil }}
			for path, text := range map[string]string{at.Config: c.text, at.LastGoodConfig(): c.copied, policy.Path: c.policy} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before, err := memory.Load(at.StateFile)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"kept", "removed"} {
				if err := before.SetStopped(name, true); err != nil {
					t.Fatal(err)
				}
				if _, err := before.SetGrant(name, "id", true); err != nil {
					t.Fatal(err)
				}
			}
			opts := Options{Paths: at, Policy: policy, Version: "test", Logger: slog.New(slog.DiscardHandler)}
			if c.successor {
				opts.Succession.Line = new(handover.Line)
			}
			a, err := newAgent(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			a.sessions.Close()
			after, err := memory.Load(at.StateFile)
			if err != nil {
				t.Fatal(err)
			}
			kept := name != "none_left"
			if after.Stopped("kept") != kept || len(after.Grants("kept")) > 0 != kept {
				t.Errorf("the tunnel of the config: stopped %v, roles of %q", after.Stopped("kept"), after.Grants("kept"))
			}
			if after.Stopped("removed") == c.forgets || len(after.Grants("removed")) > 0 == c.forgets {
				t.Errorf("the removed tunnel: stopped %v, roles of %q", after.Stopped("removed"), after.Grants("removed"))
			}
		})
	}
}
