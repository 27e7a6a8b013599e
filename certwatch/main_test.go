package certwatch_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"berth/certwatch"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// runWatcher starts a Watcher that logs to the test and ends with it.
func runWatcher(t testing.TB, cfg certwatch.Config) *certwatch.Watcher {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	w := certwatch.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return w
}

// atRest waits until the files of a home are old enough to be believed.
func atRest(t testing.TB, home string) {
	t.Helper()
	testwait.Eventually(t, "files at rest", func() bool {
		profiles, err := certwatch.Load(home)
		return err == nil && !slices.ContainsFunc(profiles, func(p *certwatch.Profile) bool { return p.Settling })
	})
}

// await waits until the view satisfies ok and returns it.
func await(t testing.TB, w *certwatch.Watcher, what string, ok func(*certwatch.View) bool) *certwatch.View {
	t.Helper()
	changed, cancel := w.Subscribe()
	defer cancel()
	deadline := time.After(testwait.Patience)
	for {
		view := w.View()
		if ok(view) {
			return view
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("never saw %s; the view is %+v", what, view)
		}
	}
}
