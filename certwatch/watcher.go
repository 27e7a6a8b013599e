package certwatch

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

// Config configures a Watcher.
type Config struct {
	Homes  []string     // the folders to watch; they need not exist
	Logger *slog.Logger // nil means no log

	// Debounce is how long the files must be still before they are read; zero
	// means 100 ms.
	Debounce time.Duration
	// MaxDebounce is how long a noisy home can put off a reading; zero means 1 s.
	MaxDebounce time.Duration
	// Patience is how long files that make no session must stay exactly so
	// before they are a Problem; zero means 3 s.
	Patience time.Duration
	// GonePatience is how long a session's files must be gone before it counts
	// as a logout; zero means 500 ms. A login over an expired session removes
	// the files just before it writes the new ones.
	GonePatience time.Duration
	// Safety is how often everything is read although nothing seems to have
	// happened; zero means 60 s.
	Safety time.Duration
}

const (
	defaultDebounce     = 100 * time.Millisecond
	defaultMaxDebounce  = time.Second
	defaultPatience     = 3 * time.Second
	defaultGonePatience = 500 * time.Millisecond
	defaultSafety       = time.Minute
)

// withDefaults returns c with its zero fields filled in.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Debounce, defaultDebounce},
		{&c.MaxDebounce, defaultMaxDebounce},
		{&c.Patience, defaultPatience},
		{&c.GonePatience, defaultGonePatience},
		{&c.Safety, defaultSafety},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return c
}

// Watcher watches homes. Its View is always the newest whole truth; whoever
// wants to know of changes subscribes to wake-ups and reads the View again.
type Watcher struct {
	cfg  Config
	log  *slog.Logger
	view atomic.Pointer[View]
	kick wake.Signal // read now

	now       func() time.Time // time.Now, but in tests
	wakeEvery time.Duration    // wakeInterval, but in tests

	// Owned by New, then by Run.
	homes  []*home
	wokeAt time.Time

	followers wake.Followers

	mu     sync.Mutex // guards wanted
	wanted []string   // the homes to watch, cleaned
}

// New reads the homes once and publishes the first View. It starts nothing:
// Run does.
func New(cfg Config) *Watcher {
	cfg = cfg.withDefaults()
	w := &Watcher{
		cfg:       cfg,
		log:       cfg.Logger.With("component", "certwatch"),
		kick:      wake.NewSignal(),
		now:       time.Now,
		wakeEvery: wakeInterval,
		wanted:    cleanHomes(cfg.Homes),
	}
	w.view.Store(&View{})
	w.read()
	return w
}

// View returns the newest view. It never blocks and is never nil.
func (w *Watcher) View() *View { return w.view.Load() }

// Subscribe returns a channel that receives after the View has changed. It
// has room for one wake-up: a slow reader misses no change, because it reads the
// newest View. Call cancel when done.
func (w *Watcher) Subscribe() (changed <-chan struct{}, cancel func()) {
	return w.followers.Subscribe()
}

// SetHomes replaces the homes to watch. What is known of a home that stays is
// kept. The View changes soon after, when Run is running.
func (w *Watcher) SetHomes(homes []string) {
	w.mu.Lock()
	w.wanted = cleanHomes(homes)
	w.mu.Unlock()
	w.Refresh()
}

// Refresh makes Run read everything now.
func (w *Watcher) Refresh() {
	w.kick.Wake()
}

// cleanHomes makes the paths absolute and drops repeated ones.
func cleanHomes(homes []string) []string {
	var clean []string
	for _, path := range homes {
		if abs, err := filepath.Abs(path); err == nil { // fails only without a working directory
			path = abs
		}
		if !slices.Contains(clean, path) {
			clean = append(clean, path)
		}
	}
	return clean
}

// adoptHomes brings w.homes in line with the wanted homes.
func (w *Watcher) adoptHomes() {
	w.mu.Lock()
	wanted := w.wanted
	w.mu.Unlock()
	homes := make([]*home, 0, len(wanted))
	for _, path := range wanted {
		i := slices.IndexFunc(w.homes, func(h *home) bool { return h.path == path })
		if i >= 0 {
			homes = append(homes, w.homes[i])
			continue
		}
		homes = append(homes, newHome(path, patience{broken: w.cfg.Patience, gone: w.cfg.GonePatience}))
	}
	w.homes = homes
}

// read re-reads all homes and publishes what they hold. It returns after how
// long to read again because something is in doubt; zero means nothing is.
func (w *Watcher) read() time.Duration {
	w.adoptHomes()
	var wait time.Duration
	view := &View{WokeAt: w.wokeAt}
	for _, h := range w.homes {
		wait = sooner(wait, h.read())
		view.Profiles = append(view.Profiles, h.shown()...)
		if h.problem != nil {
			view.HomeProblems = append(view.HomeProblems, HomeProblem{Home: h.path, Err: h.problem})
		}
	}
	view.ReadAt = w.now().Round(0)
	w.publish(view)
	return wait
}

// publish makes view the newest one and wakes the subscribers if it differs.
func (w *Watcher) publish(view *View) {
	old := w.view.Swap(view)
	if sameView(old, view) {
		return
	}
	w.logChanges(old, view)
	w.followers.Wake()
}

// sameView reports whether a and b say the same, but for when they were read.
func sameView(a, b *View) bool {
	return a.WokeAt.Equal(b.WokeAt) &&
		slices.Equal(a.Profiles, b.Profiles) &&
		slices.EqualFunc(a.HomeProblems, b.HomeProblems, func(x, y HomeProblem) bool {
			return x.Home == y.Home && x.Err.Error() == y.Err.Error()
		})
}

// Run watches until ctx is done, and then returns nil. It may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	return w.watch(ctx, openWatches(w.log))
}

func (w *Watcher) watch(ctx context.Context, watches *watches) error {
	defer watches.close()
	ticker := time.NewTicker(w.wakeEvery)
	defer ticker.Stop()
	ticked := w.now()

	s := schedule{cfg: w.cfg}
	timer := time.NewTimer(0) // the first reading with watches in place
	defer timer.Stop()
	for {
		now := false
		select {
		case <-ctx.Done():
			return nil
		case event := <-watches.events():
			if concerns(event.Name, w.homes) {
				s.noted()
			}
		case err := <-watches.errors():
			watches.lost(err)
			now = true
		case <-w.kick:
			now = true
		case <-ticker.C:
			now = w.woke(ticked)
			ticked = w.now()
		case <-timer.C:
			now = s.due() || watches.moved()
		}
		if now {
			w.adoptHomes()
			watches.sync(w.homes)
			s.read(w.read())
		}
		timer.Reset(s.next(watches.interval()))
	}
}

// woke reports whether the computer slept, or its clock was set, since the last
// tick.
func (w *Watcher) woke(ticked time.Time) bool {
	now := w.now()
	if !jumped(now.Round(0).Sub(ticked.Round(0)), now.Sub(ticked), w.wakeEvery) {
		return false
	}
	w.wokeAt = now.Round(0)
	w.log.Info("clock jumped: the computer slept or its clock was set")
	return true
}
