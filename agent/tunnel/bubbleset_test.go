package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/kubelocal"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
)

// newSet returns a Set that runs tunnels one and two, without a session, on
// ports that take slow to be released.
func newSet(t *testing.T, slow time.Duration) (set *Set, done func()) {
	t.Helper()
	cfg := twoTunnels(state.TunnelSpec{Kind: state.KindDB, Cluster: "prod", Port: 15432})
	set, done = setOf(t, cfg, kubelocal.Config{Logger: slog.New(slog.DiscardHandler)})
	set.newCarrier = func(*tunnel) carrier { return &port{slow: slow, released: make(chan struct{})} }
	set.Start(cfg)
	synctest.Wait()
	return set, done
}

// twoTunnels is a config with tunnels one and two, which are else like spec.
func twoTunnels(spec state.TunnelSpec) *config.Config {
	cfg := config.Default()
	for _, spec.Name = range []string{"one", "two"} {
		cfg.Tunnels = append(cfg.Tunnels, spec)
	}
	return cfg
}

// setOf returns a Set for a config, without a session, that is not started yet.
func setOf(t *testing.T, cfg *config.Config, kube kubelocal.Config) (set *Set, done func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := memory.Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	set = New(ctx, Config{
		Config: func() *config.Config { return cfg }, Sessions: sessions.New(log), Memory: store,
		Kube: kubelocal.New(kube), OnChange: func() {}, OnGrants: func() {}, Logger: log,
	})
	return set, func() {
		cancel()
		set.Close()
	}
}

// TestManyGrantsAtOnce: of requests that are assumed for one tunnel at once none is lost.
func TestManyGrantsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, done := newSet(t, 0)
		defer done()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := set.Grant("one", state.Request{ID: strconv.Itoa(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if ids := set.cfg.Memory.Grants("one"); len(ids) != 20 {
			t.Errorf("the tunnel has %q", ids)
		}
		wg.Go(func() {
			if err := set.Ungrant("one", "3"); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { set.GrantLost("one", "4") })
		wg.Wait()
		if ids := set.cfg.Memory.Grants("one"); len(ids) != 18 {
			t.Errorf("two taken back, left: %q", ids)
		}
	})
}

// TestWhatCannotBeSavedIsDone: a tunnel stops and starts while nothing can be saved. A
// change of its name is refused, and nothing of it left; during a hand-over all are.
func TestWhatCannotBeSavedIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, done := newSet(t, 0)
		defer done()
		full := filepath.Join(t.TempDir(), "full")
		if err := os.WriteFile(full, nil, 0o600); err != nil { // in the folder's place
			t.Fatal(err)
		}
		set.cfg.Memory, _ = memory.Load(filepath.Join(full, "state.json")) // it cannot be read either
		said := func(what string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), "it is done, but not saved yet") {
				t.Errorf("%s: %v", what, err)
			}
		}
		said("stop", set.Stop(t.Context(), "one"))
		if set.tunnel("one") != nil {
			t.Error("a stopped tunnel serves")
		}
		said("start", set.Resume(t.Context(), "one"))
		if set.tunnel("one") == nil {
			t.Error("a started tunnel does not serve")
		}
		said("stop again", set.Stop(t.Context(), "one"))
		said("grant", set.Grant("one", state.Request{ID: "id"}))
		err := set.Rename("one", "three", func() error {
			t.Error("the config is changed")
			return nil
		})
		if store := set.cfg.Memory; err == nil || store.Stopped("three") || len(store.Grants("three")) > 0 {
			t.Errorf("rename: %v; remembered: stopped %v, roles of %q", err, store.Stopped("three"), store.Grants("three"))
		}

		thaw := set.cfg.Memory.Freeze()
		defer thaw(true)
		for name, change := range map[string]func(context.Context, string) error{"one": set.Resume, "two": set.Stop} {
			if err, was := change(t.Context(), name), set.entry(name).t; !errors.Is(err, memory.ErrPassedOn) || (was != nil) != (name == "two") {
				t.Errorf("tunnel %s during a hand-over: %v, and it runs: %v", name, err, was != nil)
			}
		}
	})
}
