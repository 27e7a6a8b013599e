package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/wake"
)

// How soon a change is read: once nothing more has come for settle, but not
// later than settleMost after the first sign. Without any sign the file is
// read every reread, in case the signs do not come (network folders, a limit
// on watches).
const (
	settle     = 100 * time.Millisecond
	settleMost = time.Second
	reread     = 15 * time.Second
	rereadPoll = 2 * time.Second // when nothing can be watched
)

// WatcherConfig configures a Watcher.
type WatcherConfig struct {
	Path     string       // the config file
	Policy   PolicyFile   // which binds it
	LastGood string       // where a copy of the last good file is kept, for a start with a bad one; empty means nowhere
	Logger   *slog.Logger // nil means no log
}

// Loaded is a Watcher's knowledge. It is not changed once published.
type Loaded struct {
	Config   *Config   // the last good one, bound by the policy; the default when there was none. Never nil
	Err      *Error    // what is wrong with the file now; nil when Config is what it says
	ErrSince time.Time // when the file went bad; zero when it is good
	LoadedAt time.Time // when Config was read
	FromFile bool      // Config was read, and is not the default for want of a file
	// Overruled is what the file says and the policy leaves without effect.
	Overruled []Mistake
}

// Problems says what is wrong with the file.
func (l *Loaded) Problems() []state.Problem {
	if l.Err == nil {
		return nil
	}
	return []state.Problem{{
		Code: state.CodeConfigInvalid, Title: "Config has mistakes",
		Text:   fmt.Sprintf("The last good config goes on: %v.", strings.TrimSuffix(strings.ReplaceAll(l.Err.Error(), "\n", "; "), ".")),
		Action: "berth config check", Since: l.ErrSince.UTC(),
	}}
}

// Watcher follows a config file and the policy that binds it. A file that goes bad, is emptied or removed
// leaves the last good Config in force and sets Err.
type Watcher struct {
	path     string
	policy   PolicyFile
	lastGood string
	log      *slog.Logger
	cur      atomic.Pointer[Loaded]
	lost     wake.Signal // signs of changes were

	settle, settleMost, reread time.Duration

	reading  wake.Turn // one reading at a time; guards the following
	seen     string    // what the last reading found, to tell changes from noise
	fromFile bool      // file was read, not assumed
	file     *Config   // what the last good file says
	bound    *Policy   // what binds it

	followers wake.Followers
}

// NewWatcher reads the file, so that Current has an answer at once. It starts
// nothing: see Run.
func NewWatcher(c WatcherConfig) (*Watcher, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("watch config %q: %w", c.Path, err)
	}
	w := &Watcher{
		path: path, policy: c.Policy, lastGood: c.LastGood, log: c.Logger, lost: wake.NewSignal(), file: Default(),
		settle: settle, settleMost: settleMost, reread: reread,
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.log = w.log.With("component", "config")
	w.cur.Store(&Loaded{LoadedAt: time.Now()})
	w.read(context.Background()) // it is the first
	if w.Current().Err != nil {
		w.recall()
	}
	return w, nil
}

// Current is the newest state.
func (w *Watcher) Current() *Loaded { return w.cur.Load() }

// Subscribe returns a channel that gets a value after every change of Current;
// changes that come together may give one. The function ends it.
func (w *Watcher) Subscribe() (<-chan struct{}, func()) { return w.followers.Subscribe() }

// Reload reads the file now, without waiting for a sign of a change, and
// returns what is then known. The only error is that ctx ended before it was its turn.
func (w *Watcher) Reload(ctx context.Context) (*Loaded, error) {
	if !w.read(ctx) {
		return nil, ctx.Err()
	}
	return w.Current(), nil
}

// Run follows the file until ctx ends, then returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	var events chan fsnotify.Event
	every := w.reread
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("config file cannot be watched, reading it every few seconds", "err", err)
		every = rereadPoll
	} else {
		defer func() { _ = watch.Close() }() // nothing was written
		events = watch.Events
		// They are always taken: fsnotify sends some while it holds the lock that Add
		// needs.
		go func() {
			for err := range watch.Errors { // until watch is closed
				w.log.Debug("signs of changes were lost", "err", err)
				w.lost.Wake()
			}
		}()
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	quiet := time.NewTimer(0) // the first reading is due now
	defer quiet.Stop()
	var first time.Time // of the signs since the last reading; zero when there are none
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-events:
			if !w.concerns(ev.Name) {
				continue
			}
		case <-w.lost:
		case <-ticker.C:
			w.follow(ctx, watch)
			continue
		case <-quiet.C:
			first = time.Time{}
			w.follow(ctx, watch)
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		quiet.Reset(min(w.settle, max(0, w.settleMost-time.Since(first))))
	}
}

// follow brings the watches up to date, then reads: in this order nothing is
// missed.
func (w *Watcher) follow(ctx context.Context, watch *fsnotify.Watcher) {
	if watch != nil {
		w.rewatch(watch)
	}
	w.read(ctx)
}

// dirs returns the folders to watch: the file's own, or the nearest one above
// that exists; the one above, to see it go and come; and, where the file is a
// link, the target's.
func (w *Watcher) dirs() []string {
	dir := filepath.Dir(w.path)
	for !isDir(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	dirs := []string{dir, filepath.Dir(dir)}
	if target := w.targetDir(); target != "" {
		dirs = append(dirs, target)
	}
	if dir := filepath.Dir(w.policy.Path); w.policy.Path != "" && isDir(dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// targetDir is the folder of the file that the path leads to, if it is a link.
func (w *Watcher) targetDir() string {
	target, err := atomicfile.Resolve(w.path)
	if err != nil || target == w.path {
		return ""
	}
	return filepath.Dir(target)
}

func (w *Watcher) rewatch(watch *fsnotify.Watcher) {
	var added []string
	want := w.dirs()
	for !slices.Equal(added, want) {
		for _, dir := range want {
			// Again each time: the watch of a folder that was replaced is dead.
			if err := watch.Add(dir); err != nil {
				w.log.Debug("folder not watched", "dir", dir, "err", err)
			}
		}
		added, want = want, w.dirs() // a folder may have been made before the one above was watched
	}
	for _, dir := range watch.WatchList() {
		if !slices.Contains(want, dir) {
			_ = watch.Remove(dir) // it may have gone by itself
		}
	}
}

// concerns reports whether a change of name can change what the file says.
func (w *Watcher) concerns(name string) bool {
	base := filepath.Base(w.path)
	if strings.HasPrefix(filepath.Base(name), "."+base+".") {
		return false // a lock or temporary file of berth's own
	}
	dir := filepath.Dir(name)
	return dir == filepath.Dir(w.path) || strings.HasPrefix(w.path, name+string(filepath.Separator)) ||
		dir == w.targetDir() || w.policy.Path != "" && dir == filepath.Dir(w.policy.Path)
}

// read reads the file and the policy, and publishes what is new. It returns false if
// ctx ended before it was its turn.
func (w *Watcher) read(ctx context.Context) bool {
	if !w.reading.Take(ctx) {
		return false
	}
	defer w.reading.Give()
	data, err := readFile(w.path)
	now := "content: " + string(data)
	if err != nil {
		now = "error: " + err.Error()
	}
	last := w.bound
	if last == nil && w.seen != "" {
		last = &Policy{} // there was none, which allowed every proxy and hold
	}
	policy := w.policy.reload(last)
	if now += "\x00policy: " + policy.fingerprint(); now == w.seen {
		return true
	}
	w.seen, w.bound = now, policy
	if policy != nil && policy.Err != nil {
		w.log.Warn("the policy has mistakes", "path", policy.Path, "err", policy.Err.Summary())
	}
	cfg, err := w.judge(data, err)
	if bad := (*Error)(nil); errors.As(err, &bad) {
		w.refuse(bad)
		return true
	}
	w.accept(cfg, data)
	return true
}

// judge decides what a reading means. The error is an *Error.
func (w *Watcher) judge(data []byte, err error) (*Config, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if w.fromFile {
			return nil, &Error{Path: w.path, Mistakes: []Mistake{{Text: "the file is gone: what it said last stays in force " +
				"until it is back or the agent is restarted"}}}
		}
		return Default(), nil
	case err != nil:
		return nil, err
	case len(bytes.TrimSpace(data)) == 0 && (w.fromFile || w.lastGood != "" && hasText(w.lastGood)):
		// A full disk or an editor that was interrupted leaves such a file.
		return nil, &Error{Path: w.path, Mistakes: []Mistake{{Text: "the file is empty: what it said last stays in force; " +
			"if nothing is wanted any more, write version: 1"}}}
	}
	cfg, root, err := parse(w.path, data)
	if err == nil {
		err = w.bound.checkFile(w.path, cfg, root)
	}
	return cfg, err
}

func (w *Watcher) refuse(bad *Error) {
	old := w.Current()
	w.log.Warn("config has mistakes, the last good one stays in force",
		"path", w.path, "mistakes", len(bad.Mistakes), "err", bad.Summary())
	since := old.ErrSince
	if since.IsZero() {
		since = time.Now()
	}
	w.publish(bad, since, old.LoadedAt)
}

func (w *Watcher) accept(cfg *Config, data []byte) {
	w.fromFile, w.file = data != nil, cfg
	w.log.Info("config read", "path", w.path, "tunnels", len(cfg.Tunnels))
	w.publish(nil, time.Time{}, time.Now())
	if w.lastGood == "" || data == nil {
		return
	}
	if old, err := os.ReadFile(w.lastGood); err == nil && bytes.Equal(old, data) {
		return
	}
	if err := atomicfile.Write(w.lastGood, data, 0o600); err != nil {
		w.log.Warn("copy of the config not kept", "err", err)
	}
}

// recall puts the copy of the last good file in force: a bad edit does not
// stop anything even when the agent is started after it.
func (w *Watcher) recall() {
	if w.lastGood == "" {
		return
	}
	data, err := readFile(w.lastGood)
	if err != nil {
		return // there never was one
	}
	cfg, err := parseText(w.lastGood, data)
	if err != nil {
		w.log.Warn("copy of the config not usable", "err", err)
		return
	}
	w.fromFile, w.file = true, cfg
	w.log.Info("the config that was good last is in force", "tunnels", len(cfg.Tunnels))
	bad := w.Current()
	w.publish(bad.Err, bad.ErrSince, time.Now())
}

// publish binds the last good config by the policy, and wakes the subscribers.
func (w *Watcher) publish(bad *Error, since, loadedAt time.Time) {
	l := &Loaded{Err: bad, ErrSince: since, LoadedAt: loadedAt, FromFile: w.fromFile}
	l.Config, l.Overruled = w.bound.Bind(w.file)
	w.cur.Store(l)
	w.followers.Wake()
}
