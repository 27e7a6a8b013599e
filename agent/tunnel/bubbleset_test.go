package tunnel

import (
	"context"
	"log/slog"
	"path/filepath"
	"strconv"
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
	log := slog.New(slog.DiscardHandler)
	store, err := memory.Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	for _, name := range []string{"one", "two"} {
		cfg.Tunnels = append(cfg.Tunnels, state.TunnelSpec{Name: name, Kind: state.KindDB, Cluster: "prod", Port: 15432})
	}
	ctx, cancel := context.WithCancel(t.Context())
	set = New(ctx, Config{
		Config: func() *config.Config { return cfg }, Sessions: sessions.New(log), Memory: store,
		Kube: kubelocal.New(kubelocal.Config{Logger: log}), OnChange: func() {}, OnGrants: func() {}, Logger: log,
	})
	set.newCarrier = func(*tunnel) carrier { return &port{slow: slow, released: make(chan struct{})} }
	set.Start(cfg)
	synctest.Wait()
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
