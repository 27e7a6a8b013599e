package certwatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"berth/internal/testwait"
)

func TestJumped(t *testing.T) {
	const tick = 15 * time.Second
	for _, tt := range []struct {
		name         string
		wall, steady time.Duration
		want         bool
	}{
		{"steady", tick, tick, false},
		{"a_little_late", tick + 3*time.Second, tick + 3*time.Second, false},
		{"drift", tick + 4*time.Second, tick, false},
		{"slept_and_steady_clock_too", tick + 9*time.Hour, tick, true},
		{"slept_and_steady_clock_not", tick + 9*time.Hour, tick + 9*time.Hour, true},
		{"clock_set_forward", tick + 6*time.Second, tick, true},
		{"clock_set_back", -time.Hour, tick, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := jumped(tt.wall, tt.steady, tick); got != tt.want {
				t.Errorf("jumped(%v, %v, %v) = %v, want %v", tt.wall, tt.steady, tick, got, tt.want)
			}
		})
	}
}

func TestWokeWakesSubscribers(t *testing.T) {
	w := New(Config{Homes: []string{t.TempDir()}})
	w.wakeEvery = 10 * time.Millisecond
	slept := make(chan struct{})
	w.now = func() time.Time {
		select {
		case <-slept:
			return time.Now().Round(0).Add(9 * time.Hour)
		default:
			return time.Now()
		}
	}
	changed, unsubscribe := w.Subscribe()
	defer unsubscribe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	testwait.Never(t, "a wake-up before the clock jumped", func() bool { return !w.View().WokeAt.IsZero() })
	close(slept)
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Error("no wake-up after the clock jumped")
	}
	if at := w.View().WokeAt; time.Until(at) < 8*time.Hour {
		t.Errorf("woke at %v, want the time after the jump", at)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// readings for TestBelief: two contents, and doubt about them.
func someReading(content string, doubt error) reading {
	sum := sha256.Sum256([]byte(content))
	return reading{
		profile: &Profile{Name: content}, what: sum, when: sum, doubt: doubt, patience: 3 * time.Second,
	}
}

func TestBelief(t *testing.T) {
	doubt := errors.New("doubt")
	synctest.Test(t, func(t *testing.T) {
		var b belief
		if wait := b.take(someReading("new", doubt)); wait == 0 || b.known || !b.shown.Settling {
			t.Errorf("doubtful first reading: wait %v, known %v, shown %+v; want it settling", wait, b.known, b.shown)
		}
		if wait := b.take(someReading("good", nil)); wait != 0 || b.shown.Name != "good" || b.shown.Settling {
			t.Errorf("good reading: wait %v, shown %+v, want it shown", wait, b.shown)
		}

		start := time.Now()
		var waits []time.Duration
		for b.shown.Name == "good" {
			wait := b.take(someReading("bad", doubt))
			if wait == 0 {
				break
			}
			waits = append(waits, wait)
			time.Sleep(wait)
		}
		if b.shown.Name != "bad" || time.Since(start) != 3*time.Second {
			t.Errorf("bad reading shown after %v, want 3s", time.Since(start))
		}
		if len(waits) < 4 || waits[0] > 50*time.Millisecond || slices.Max(waits) > time.Second {
			t.Errorf("looked again after %v, want from some 25ms to at most 1s", waits)
		}

		b.take(someReading("good", nil))
		for i := range 10 { // always another kind of bad: it is changing, so no verdict
			b.take(someReading(string(rune('a'+i)), doubt))
			time.Sleep(2900 * time.Millisecond)
		}
		if b.shown.Name != "good" {
			t.Errorf("%q is shown while the files kept changing, want the last good", b.shown.Name)
		}
		b.take(someReading("bad", doubt))
		b.take(someReading("good", nil))
		time.Sleep(time.Hour)
		b.take(someReading("bad", doubt))
		if b.shown.Name != "good" {
			t.Errorf("the doubt of an hour ago counted")
		}
		first := belief{}
		old := someReading("old", doubt)
		old.quiet = time.Minute
		if wait := first.take(old); wait != 0 || first.shown.Settling {
			t.Errorf("first reading of files at rest: wait %v, shown %+v, want it believed", wait, first.shown)
		}
	})
}

func TestScheduleDebounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := schedule{cfg: Config{}.withDefaults()}
		s.read(0)
		if got := s.next(time.Hour); got != defaultSafety {
			t.Errorf("at rest the next reading is in %v, want %v", got, defaultSafety)
		}
		s.noted()
		if got := s.next(time.Hour); got != defaultDebounce || s.due() {
			t.Errorf("after an event it is in %v (due %v), want %v", got, s.due(), defaultDebounce)
		}
		start := time.Now()
		for !s.due() { // noise without end
			time.Sleep(10 * time.Millisecond)
			s.noted()
		}
		if got := time.Since(start); got != defaultMaxDebounce {
			t.Errorf("noise put the reading off by %v, want %v", got, defaultMaxDebounce)
		}
		s.read(50 * time.Millisecond)
		if got := s.next(time.Hour); got != 50*time.Millisecond {
			t.Errorf("with something in doubt the next reading is in %v, want 50ms", got)
		}
		s.noted()
		if got := s.next(time.Hour); got != defaultDebounce {
			t.Errorf("doubt and then an event: the next reading is in %v, want %v", got, defaultDebounce)
		}
		if got := s.next(time.Millisecond); got != time.Millisecond {
			t.Errorf("next(1ms) = %v", got)
		}
	})
}

func TestConcerns(t *testing.T) {
	root := string(filepath.Separator)
	path := func(elem ...string) string { return root + filepath.Join(elem...) }
	homes := []*home{newHome(path("u", "alice", ".tsh"), patience{})}
	for _, tt := range []struct {
		path string
		want bool
	}{
		{path("u", "alice", ".tsh"), true},
		{path("u", "alice", ".tsh", "keys", "p", "alice"), true},
		{path("u", "alice"), true}, // made again, when the home does not exist
		{path("u", "alice", ".tsh.bak"), false},
		{path("u", "alice", ".bash_history"), false},
		{path("u", "ali"), false},
		{root, true},
		{path("tmp", "x"), false},
	} {
		if got := concerns(tt.path, homes); got != tt.want {
			t.Errorf("concerns(%q) = %v, want %v", tt.path, got, tt.want)
		}
	}
}

// After an overflow nothing is known of what happened, so everything is read.
func TestOverflowReadsEverything(t *testing.T) {
	dir := t.TempDir()
	w := New(Config{Homes: []string{dir}, Safety: time.Hour})
	ws := openWatches(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.watch(ctx, ws) }()
	testwait.Eventually(t, "the folder to be watched", func() bool { return slices.Contains(ws.fs.WatchList(), dir) })
	ws.fs.Events <- fsnotify.Event{Name: dir + ".elsewhere"} // taken after the first reading
	if err := ws.fs.Remove(dir); err != nil {                // deaf, as after a flood
		t.Fatal(err)
	}
	yaml := "web_proxy_addr: p:443\nuser: alice\n"
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	testwait.Never(t, "a profile that nothing tells of", func() bool { return len(w.View().Profiles) > 0 })
	ws.fs.Errors <- fsnotify.ErrEventOverflow
	testwait.Eventually(t, "the profile to be seen", func() bool { return len(w.View().Profiles) == 1 })
	testwait.Eventually(t, "the folder to be watched again", func() bool { return slices.Contains(ws.fs.WatchList(), dir) })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// Without notifications the homes are polled.
func TestPolling(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	w := New(Config{Homes: []string{dir}, Safety: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.watch(ctx, &watches{log: slog.New(slog.DiscardHandler)}) }()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	yaml := "web_proxy_addr: p:443\nuser: alice\n"
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the profile to be seen", func() bool { return len(w.View().Profiles) == 1 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}
