package install

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/testwait"
)

// watcher is a certwatch.Watcher that reads only when it is notified.
type watcher struct {
	t       *testing.T
	w       *certwatch.Watcher
	settled bool // the files were not just written when they were first read
}

func watch(t *testing.T, home string) *watcher {
	t.Helper()
	w := certwatch.New(certwatch.Config{
		Homes: []string{home}, Safety: time.Hour, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Patience: testwait.Patience, GonePatience: testwait.Patience, // who writes may be held up half way
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &watcher{t: t, w: w}
}

// await waits until the home shows a session with the role and returns how long
// it took. No other view than those with one good session may come before.
func (w *watcher) await(role string) time.Duration {
	w.t.Helper()
	start := time.Now()
	changed, cancel := w.w.Subscribe()
	defer cancel()
	for {
		view := w.w.View()
		w.settled = w.settled || !view.Profiles[0].Settling
		if w.settled && (len(view.Profiles) != 1 || view.Profiles[0].Problem != nil || view.Profiles[0].Session == nil) {
			w.t.Fatalf("waiting for %q the view is %+v, want one good session", role, view)
		}
		if s := view.Profiles[0].Session; s != nil && slices.Equal(s.Identity.Roles, []string{role}) {
			return time.Since(start)
		}
		select {
		case <-changed:
		case <-time.After(testwait.Patience):
			w.t.Fatalf("never saw role %q; the view is %+v", role, view)
		}
	}
}

// certwatch must see each installation, soon and with no bad moment in between,
// and afterwards what others write into the folder that is there now.
func TestWatcherSeesInstallations(t *testing.T) {
	t.Parallel()
	for way, swap := range ways {
		for name, layout := range layouts {
			t.Run(way+"/"+name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, layout).withOld(layout)
				w := watch(t, f.home.Dir)
				w.await("old")
				for i := range 4 {
					role := fmt.Sprint("role", i)
					f.stage(certwatchtest.Login{Layout: layout, Identity: certwatch.Identity{Roles: []string{role}}})
					f.check(login(t.Context(), f.config(), &disk{swap: swap}))
					t.Logf("seen %v after Login returned", w.await(role))

					// What tsh writes next, in place.
					role += "-tsh"
					prof, creds := f.ca.Issue(t, certwatchtest.Login{Layout: layout, Identity: certwatch.Identity{Roles: []string{role}}})
					f.check(f.home.Login(prof, creds))
					t.Logf("seen %v after tsh wrote", w.await(role))
				}
			})
		}
	}
}

// A change in a subfolder alone must be noticed too: the watches on the folders
// in the old keys folder went with it.
func TestWatcherSeesSubfolders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, layouts["v17"]).withOld(layouts["v17"])
	w := watch(t, f.home.Dir)
	w.await("old")
	for i := range 4 {
		role := fmt.Sprint("role", i)
		f.stage(certwatchtest.Login{Layout: layouts["v17"], Identity: certwatch.Identity{Roles: []string{role}}})
		f.check(Login(t.Context(), f.config()))
		w.await(role)
		before := w.w.View().Profiles[0]
		time.Sleep(300 * time.Millisecond) // the installation's own notifications are over
		f.write(fmt.Sprintf("keys/%s/cas/extra%d.pem", proxyName, i), string(f.ca.PEM))
		testwait.Eventually(t, "a new file in cas to be noticed", func() bool {
			now := w.w.View().Profiles[0]
			return now != before && len(now.Session.CAs) > 1
		})
	}
}
