package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/internal/survive"
)

// fakeBackend is a screen that does what it is told.
type fakeBackend struct {
	to chan sink

	mu       sync.Mutex    // guards what follows
	takes    time.Duration // to show one
	fail     error
	told     []string // in order
	withdrew []string
}

func newFakeBackend() *fakeBackend { return &fakeBackend{to: make(chan sink, 1)} }

func (f *fakeBackend) run(ctx context.Context, to sink) error {
	f.to <- to
	<-ctx.Done()
	return nil
}

func (f *fakeBackend) show(ctx context.Context, n Notification) error {
	f.mu.Lock()
	takes := f.takes
	f.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, n.ID+"/"+n.Title)
	return f.fail
}

func (f *fakeBackend) withdraw(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.withdrew = append(f.withdrew, id)
	return nil
}

// shown returns what was shown since it was last asked.
func (f *fakeBackend) shown() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := f.told
	f.told = nil
	return told
}

// becomes has later calls take that long and fail with err.
func (f *fakeBackend) becomes(takes time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takes, f.fail = takes, err
}

func (f *fakeBackend) holds(string) bool          { return true }
func (f *fakeBackend) capabilities() Capabilities { return Capabilities{} }

// inBubble runs f with a Notifier on a fake screen.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, n *notifier, screen *fakeBackend, to sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		screen := newFakeBackend()
		cfg.AppName = "berth"
		if cfg.Logger == nil {
			cfg.Logger = testLog(t)
		}
		if cfg.OnAction == nil {
			cfg.OnAction = func(string, string) {}
		}
		if cfg.OnClosed == nil {
			cfg.OnClosed = func(string) {}
		}
		n := newNotifier(cfg, screen)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		f(t, n, screen, <-screen.to)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		if err := n.Show(t.Context(), Notification{ID: "late"}); !errors.Is(err, ErrStopped) {
			t.Errorf("Show() after the end = %v, want ErrStopped", err)
		}
	})
}

func TestPace(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, n *notifier, screen *fakeBackend, _ sink) {
		for i := range 20 {
			u := UrgencyNormal
			if i == 19 {
				u = UrgencyCritical
			}
			go func() { _ = n.Show(t.Context(), Notification{ID: fmt.Sprintf("%02d", i), Title: "x", Urgency: u}) }()
			synctest.Wait()
		}
		if got := screen.shown(); len(got) != burst {
			t.Errorf("%d were shown at once, want %d", len(got), burst)
		}
		time.Sleep(interval)
		synctest.Wait()
		if diff := cmp.Diff([]string{"19/x"}, screen.shown()); diff != "" {
			t.Errorf("after the first ones came (-want +got, the urgent one):\n%s", diff)
		}
		go func() { _ = n.Show(t.Context(), Notification{ID: "10", Title: "newer"}) }()
		synctest.Wait()
		n.Close("11")
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []string{"08/x", "09/x", "10/newer", "12/x", "13/x", "14/x", "15/x", "16/x", "17/x", "18/x"}
		if diff := cmp.Diff(want, screen.shown()); diff != "" {
			t.Errorf("then came (-want +got):\n%s", diff)
		}
	})
}

func TestShowAnswersAll(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, n *notifier, screen *fakeBackend, _ sink) {
		screen.becomes(time.Second, nil)
		errs := make(chan error, 8)
		for i := range 4 { // other words each time, while the first are on their way
			go func() { errs <- n.Show(t.Context(), Notification{ID: "x", Title: fmt.Sprint(i)}) }()
			synctest.Wait()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Errorf("Show() = %v, want nil", err)
			}
		}
		if diff := cmp.Diff([]string{"x/0", "x/3"}, screen.shown()); diff != "" {
			t.Errorf("shown (-want +got):\n%s", diff)
		}
		broken := errors.New("broken")
		screen.becomes(0, broken)
		if err := n.Show(t.Context(), Notification{ID: "y"}); !errors.Is(err, broken) {
			t.Errorf("Show() = %v, want what the screen says", err)
		}
	})
}

func TestCloseWhileOnItsWay(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, n *notifier, screen *fakeBackend, _ sink) {
		screen.becomes(time.Second, nil)
		errs := make(chan error, 1)
		go func() { errs <- n.Show(t.Context(), Notification{ID: "x"}) }()
		synctest.Wait()
		n.Close("x")
		if err := <-errs; err != nil {
			t.Errorf("Show() = %v, want nil: it is not wanted any longer", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Contains(screen.withdrew, "x") || len(n.open) != 0 {
			t.Errorf("withdrew %v with %d open, want x and none", screen.withdrew, len(n.open))
		}
	})
}

func TestFreshService(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, n *notifier, screen *fakeBackend, to sink) {
		show := func(id string) { _ = n.Show(t.Context(), Notification{ID: id, Title: "x"}) }
		show("x")
		screen.becomes(0, errors.New("nobody is there"))
		show("failed")
		screen.becomes(0, nil)
		screen.shown()
		to.fresh()
		synctest.Wait()
		if diff := cmp.Diff([]string{"x/x", "failed/x"}, screen.shown()); diff != "" {
			t.Errorf("shown again (-want +got):\n%s", diff)
		}
		time.Sleep(2 * againAfter)
		to.fresh()
		synctest.Wait()
		if got := screen.shown(); len(got) != 2 {
			t.Errorf("after a while %v were shown again, want both", got)
		}
		to.fresh() // and at once another
		synctest.Wait()
		if got := screen.shown(); len(got) != 0 || len(n.open) != 0 {
			t.Errorf("%v were shown and %d are open, want nothing more", got, len(n.open))
		}
	})
}

// TestSlowCallback checks that clicks neither block the screen nor pile up.
func TestSlowCallback(t *testing.T) {
	count, release := 0, context.CancelFunc(nil)
	var released context.Context
	inBubble(t, Config{OnAction: func(string, string) { count++; <-released.Done() }},
		func(t *testing.T, _ *notifier, _ *fakeBackend, to sink) {
			released, release = context.WithCancel(t.Context())
			for range 10 * maxEvents {
				to.acted("x", "y") // returns at once
			}
			release()
			synctest.Wait()
			if count < maxEvents || count > maxEvents+1 {
				t.Errorf("%d clicks were reported, want %d or one more", count, maxEvents)
			}
		})
}

// TestBugs: a bug while a notification is shown, withdrawn or acted on ends that alone.
func TestBugs(t *testing.T) {
	acted := 0
	act := func(string, string) {
		if acted++; acted == 1 {
			panic("a bug")
		}
	}
	// What is logged of bugs that are made here would be taken for one of the tests'.
	inBubble(t, Config{OnAction: act, Logger: slog.New(slog.DiscardHandler)}, func(t *testing.T, n *notifier, _ *fakeBackend, to sink) {
		defer survive.Trap.Store(nil)
		met := make(map[string]bool)
		trap := func(what string) {
			if what != "act on a notification" && !met[what] {
				met[what] = true
				panic("a bug in: " + what)
			}
		}
		survive.Trap.Store(&trap)
		for i, id := range []string{"x", "y", "closed"} {
			err := n.Show(t.Context(), Notification{ID: id})
			if _, bug := errors.AsType[*survive.Error](err); bug != (i == 0) {
				t.Errorf("Show(%s) = %v", id, err)
			}
			if id == "closed" {
				n.Close(id)
			} else {
				to.acted(id, "button")
			}
			synctest.Wait()
		}
		want := map[string]bool{"show a notification": true, "withdraw a notification": true}
		if !maps.Equal(met, want) || acted != 2 {
			t.Errorf("bugs were met in %v, and %d buttons acted", met, acted)
		}
	})
}

// TestShowAnswersWhenGoneAlready: what happens to a notification can be heard of before
// the answer of the service that showed it.
func TestShowAnswersWhenGoneAlready(t *testing.T) {
	for name, happens := range map[string]func(to sink){
		"closed":  func(to sink) { to.closed("x") },
		"expired": func(to sink) { to.expired("x") },
		"clicked": func(to sink) { to.acted("x", "ok") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, n *notifier, screen *fakeBackend, to sink) {
				screen.becomes(time.Second, nil)
				shown := make(chan error, 1)
				go func() { shown <- n.Show(t.Context(), Notification{ID: "x", Title: "X"}) }()
				synctest.Wait()
				happens(to)
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case err := <-shown:
					if err != nil {
						t.Errorf("Show() = %v, want nil", err)
					}
				default:
					t.Fatal("Show() waits for ever")
				}
			})
		})
	}
}
