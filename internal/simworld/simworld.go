// Package simworld is what a test of berth stands in: a simulated cluster, the
// homes of a user who may log in to it, and an agent beside it.
package simworld

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/testwait"
)

// World is a simulated cluster, a Teleport home and a home of berth whose
// config trusts the cluster.
type World struct {
	T     testing.TB
	Sim   *simcluster.Cluster
	Home  string // TELEPORT_HOME
	Dir   string // BERTH_HOME
	Paths paths.Paths
	Log   *Log // of the agent that Run runs
}

// Start runs a simulated cluster until the test ends.
func Start(t testing.TB, cfg simcluster.Config) *simcluster.Cluster {
	t.Helper()
	sim, err := simcluster.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close simcluster: %v", err)
		}
	})
	return sim
}

// New returns a world in folders of the test's own. The config is not written
// yet, no one is logged in and no agent runs.
func New(t testing.TB, cfg simcluster.Config) *World {
	t.Helper()
	return In(t, cfg, filepath.Join(t.TempDir(), "tsh"), t.TempDir())
}

// In is New in given folders: a socket's path must be short.
func In(t testing.TB, cfg simcluster.Config, home, dir string) *World {
	t.Helper()
	w := &World{T: t, Sim: Start(t, cfg), Home: home, Dir: dir, Log: &Log{}}
	var err error
	if w.Paths, err = paths.Resolve(func(key string) string {
		return map[string]string{paths.HomeVar: w.Dir}[key]
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Paths.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	if err := w.Sim.WriteWebCA(w.CAFile()); err != nil {
		t.Fatal(err)
	}
	return w
}

// CAFile is where the CA of the cluster's web certificate lies.
func (w *World) CAFile() string { return filepath.Join(w.Dir, "web-ca.pem") }

// Login does what "tsh login" would, as alice.
func (w *World) Login(opts ...simcluster.LoginOption) {
	w.T.Helper()
	if err := w.Sim.Login(w.Home, "alice", opts...); err != nil {
		w.T.Fatal(err)
	}
}

// Trust is the setting of a profile that makes berth trust the cluster.
func (w *World) Trust() string { return fmt.Sprintf("ca_file: %q", w.CAFile()) }

// Configure writes the config file: the home, the proxy with settings in YAML's
// flow style, and further lines.
func (w *World) Configure(proxy string, lines ...string) {
	w.T.Helper()
	text := fmt.Sprintf("version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, %s}\n%s\n",
		w.Home, w.Sim.ProxyAddr(), proxy, strings.Join(lines, "\n"))
	if err := os.WriteFile(w.Paths.Config, []byte(text), 0o600); err != nil {
		w.T.Fatal(err)
	}
}

// Run runs an agent until the test ends or stop is called. The agent calls
// ready when it serves, and logs to w.Log.
func (w *World) Run(agent func(ctx context.Context, ready func()) error) (stop func()) {
	w.T.Helper()
	ctx, cancel := context.WithCancel(w.T.Context())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- agent(ctx, func() { close(ready) }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.T.Errorf("agent: %v", err)
			}
		case <-time.After(testwait.Patience):
			w.T.Error("agent did not stop")
		}
	})
	w.T.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		done <- err
		w.T.Fatalf("agent did not start: %v", err)
	case <-time.After(testwait.Patience):
		w.T.Fatal("agent did not start")
	}
	w.T.Cleanup(func() {
		if w.T.Failed() {
			w.T.Logf("agent log:\n%s", w.Log)
		}
	})
	return stop
}

// Client returns a client of the agent, until the test ends.
func (w *World) Client() *client.Client {
	w.T.Helper()
	c := client.Dial(w.Paths.Socket)
	w.T.Cleanup(func() {
		if err := c.Close(); err != nil {
			w.T.Errorf("close client: %v", err)
		}
	})
	return c
}

// Snapshot returns what the agent publishes now.
func (w *World) Snapshot() state.Snapshot {
	w.T.Helper()
	s, err := w.Client().Snapshot(w.T.Context())
	if err != nil {
		w.T.Fatal(err)
	}
	return s
}

// Await returns the first snapshot that ok accepts.
func (w *World) Await(what string, ok func(state.Snapshot) bool) state.Snapshot {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), testwait.Patience)
	defer cancel()
	var last state.Snapshot
	for s, err := range w.Client().Follow(ctx) {
		if err != nil {
			continue // the agent is not there yet
		}
		if last = s; ok(s) {
			return s
		}
	}
	w.T.Fatalf("waited in vain for %s; last snapshot:\n%+v", what, last)
	return last
}

// AwaitState waits until a tunnel is in a state.
func (w *World) AwaitState(name string, want state.TunnelState) state.Tunnel {
	w.T.Helper()
	var got state.Tunnel
	w.Await(fmt.Sprintf("tunnel %s to be %s", name, want), func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.Name == name {
				got = tun
			}
		}
		return got.State == want
	})
	return got
}

// Profile returns the only profile in a Teleport home, once it has been still
// for the moment after which certwatch believes it.
func Profile(t testing.TB, home string) *certwatch.Profile {
	t.Helper()
	var list []*certwatch.Profile
	testwait.Eventually(t, "a profile at rest in "+home, func() bool {
		var err error
		if list, err = certwatch.Load(home); err != nil || len(list) != 1 {
			t.Fatalf("load %s: %v, %d profiles", home, err, len(list))
		}
		return !list[0].Settling
	})
	return list[0]
}
