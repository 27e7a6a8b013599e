package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"berth/internal/atomicfile"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// soon is how long a change may take to be seen in a test before it counts as
// lost; the slow reading is slower, so what is seen was announced.
const soon = 10 * time.Second

// watched is a running Watcher.
type watched struct {
	*Watcher
	t    *testing.T
	wake <-chan struct{}
}

func watch(t *testing.T, c WatcherConfig) *watched {
	t.Helper()
	w, err := NewWatcher(c)
	if err != nil {
		t.Fatal(err)
	}
	w.settle, w.reread = 20*time.Millisecond, time.Hour
	wake, unsubscribe := w.Subscribe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		unsubscribe()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	testwait.Moment() // the folder gets watched
	return &watched{w, t, wake}
}

// until waits for a state that is as wanted.
func (w *watched) until(what string, ok func(*Loaded) bool) *Loaded {
	w.t.Helper()
	limit := time.After(soon)
	for {
		if l := w.Current(); ok(l) {
			return l
		}
		select {
		case <-w.wake:
		case <-limit:
			l := w.Current()
			w.t.Fatalf("never %s; now %s, error %v", what, level(l), l.Err)
		}
	}
}

func level(l *Loaded) string { return string(l.Config.LogLevel()) }

func levelText(s string) string { return "log: {level: " + s + "}\n" }

func (w *watched) untilLevel(want string) *Loaded {
	w.t.Helper()
	return w.until("level "+want, func(l *Loaded) bool { return level(l) == want && l.Err == nil })
}

func (w *watched) untilError(says string) *Loaded {
	w.t.Helper()
	return w.until("an error that says "+says, func(l *Loaded) bool { return l.Err != nil && strings.Contains(l.Err.Error(), says) })
}

func TestWatch(t *testing.T) {
	t.Parallel()
	newPath := func(t *testing.T) string { return filepath.Join(t.TempDir(), "berth", "config.yaml") }
	rewrite := func(t *testing.T, path, text string) {
		t.Helper()
		if err := atomicfile.Write(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("written_in_place_and_replaced", func(t *testing.T) {
		path := newPath(t)
		writeFile(t, path, levelText("warn"))
		w := watch(t, WatcherConfig{Path: path})
		if got := level(w.Current()); got != "warn" {
			t.Errorf("before Run: level %s", got)
		}
		writeFile(t, path, levelText("debug"))
		w.untilLevel("debug")
		rewrite(t, path, levelText("error"))
		w.untilLevel("error")
		rewrite(t, path, levelText("warn")) // the first replacement did not end the watch
		w.untilLevel("warn")
	})
	t.Run("file_and_folders_made_later", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "not", "yet", "config.yaml")
		w := watch(t, WatcherConfig{Path: path})
		if l := w.Current(); l.Err != nil || level(l) != "info" {
			t.Errorf("without a file: %s, error %v", level(l), l.Err)
		}
		writeFile(t, path, levelText("debug"))
		w.untilLevel("debug")
	})
	t.Run("folder_replaced", func(t *testing.T) {
		path := newPath(t)
		writeFile(t, path, levelText("warn"))
		w := watch(t, WatcherConfig{Path: path})
		if err := os.Rename(filepath.Dir(path), filepath.Dir(path)+".old"); err != nil {
			if runtime.GOOS == "windows" {
				testneeds.Here(t, "to move a watched folder", err)
			}
			t.Fatal(err)
		}
		w.untilError("the file is gone")
		writeFile(t, path, levelText("debug"))
		w.untilLevel("debug")
		rewrite(t, path, levelText("error"))
		w.untilLevel("error")
	})
	t.Run("bad_edit_keeps_the_last_good", func(t *testing.T) {
		path := newPath(t)
		writeFile(t, path, levelText("warn"))
		w := watch(t, WatcherConfig{Path: path})
		good := w.Current()
		writeFile(t, path, "log: {level: loud}\n")
		l := w.untilError(":1:14: log.level:")
		if l.Config != good.Config || !l.LoadedAt.Equal(good.LoadedAt) {
			t.Error("the last good config did not stay as it was")
		}
		since := l.ErrSince
		if since.IsZero() {
			t.Error("no time since when")
		}
		writeFile(t, path, "log: {level: louder}\n")
		if l := w.untilError("louder"); !l.ErrSince.Equal(since) {
			t.Error("a second mistake counts as the beginning of the trouble")
		}
		writeFile(t, path, levelText("debug"))
		if l := w.untilLevel("debug"); !l.ErrSince.IsZero() {
			t.Error("a good file has a time since when it is bad")
		}
	})
	t.Run("removed_or_emptied_keeps_the_last_good", func(t *testing.T) {
		path := newPath(t)
		writeFile(t, path, levelText("warn"))
		w := watch(t, WatcherConfig{Path: path})
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if l := w.untilError("the file is gone"); level(l) != "warn" {
			t.Errorf("level %s", level(l))
		}
		writeFile(t, path, "\n")
		if l := w.untilError("the file is empty"); level(l) != "warn" {
			t.Errorf("level %s", level(l))
		}
		writeFile(t, path, "version: 1\n")
		w.untilLevel("info")
	})
	t.Run("emptied_before_a_start_keeps_the_last_good", func(t *testing.T) {
		path, lastGood := newPath(t), filepath.Join(t.TempDir(), "last-good.yaml")
		writeFile(t, lastGood, levelText("warn"))
		writeFile(t, path, "\n")
		w := watch(t, WatcherConfig{Path: path, LastGood: lastGood})
		if l := w.untilError("the file is empty"); level(l) != "warn" {
			t.Errorf("level %s", level(l))
		}
	})
	t.Run("linked_file", func(t *testing.T) {
		path := newPath(t)
		target := filepath.Join(t.TempDir(), "dotfiles.yaml")
		other := filepath.Join(t.TempDir(), "other.yaml")
		writeFile(t, target, levelText("warn"))
		writeFile(t, other, levelText("error"))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		testneeds.Here(t, "symbolic links", os.Symlink(target, path))
		w := watch(t, WatcherConfig{Path: path})
		rewrite(t, target, levelText("debug"))
		w.untilLevel("debug")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(other, path); err != nil {
			t.Fatal(err)
		}
		w.untilLevel("error")
		rewrite(t, other, levelText("warn"))
		w.untilLevel("warn")
	})
	t.Run("edit", func(t *testing.T) {
		path := newPath(t)
		w := watch(t, WatcherConfig{Path: path})
		if err := AddTunnel(path, newTunnel); err != nil {
			t.Fatal(err)
		}
		w.until("the new tunnel", func(l *Loaded) bool { _, ok := l.Config.Tunnel("new"); return ok })
	})
}

func reload(t *testing.T, w *Watcher) *Loaded {
	t.Helper()
	l, err := w.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReloadMayBeGivenUp: whoever waits for a reading that the disk holds up may leave.
func TestReloadMayBeGivenUp(t *testing.T) {
	w, err := NewWatcher(WatcherConfig{Path: filepath.Join(t.TempDir(), "config.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	w.reading.Take(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Reload = %v", err)
	}
	w.reading.Give()
	reload(t, w)
}

// Without any sign of a change, the slow reading finds it; and Reload at once.
func TestWatchWithoutSigns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, levelText("warn"))
	w, err := NewWatcher(WatcherConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, levelText("debug"))
	if l := reload(t, w); level(l) != "debug" {
		t.Errorf("Reload: level %s", level(l))
	}
	w.settle, w.settleMost, w.reread = time.Hour, time.Hour, 20*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	testwait.Moment() // the first reading is over
	writeFile(t, path, levelText("error"))
	(&watched{w, t, func() <-chan struct{} { ch, _ := w.Subscribe(); return ch }()}).untilLevel("error")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Signs that never end, as from a log in the same folder, do not keep a change
// from being read.
func TestWatchBusyFolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, levelText("warn"))
	w := watch(t, WatcherConfig{Path: path})
	stop := make(chan struct{})
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), "other"), []byte{byte(i)}, 0o600); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	defer func() { close(stop); <-busy }()
	writeFile(t, path, levelText("debug"))
	w.untilLevel("debug")
}

// An unwatched change wakes no follower.
func TestWatchSameContent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, levelText("warn"))
	w := watch(t, WatcherConfig{Path: path})
	if err := atomicfile.Write(path, []byte(levelText("warn")), 0o600); err != nil { // at no moment empty
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(filepath.Dir(path), "other"), "x")
	select {
	case <-w.wake:
		t.Error("woken, and nothing changed")
	case <-time.After(300 * time.Millisecond):
	}
}

// An agent that is started after a bad edit goes on with what was good last.
func TestLastGood(t *testing.T) {
	dir := t.TempDir()
	path, copyPath := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "last-good.yaml")
	c := WatcherConfig{Path: path, LastGood: copyPath}
	newWatcher := func() *Loaded {
		t.Helper()
		w, err := NewWatcher(c)
		if err != nil {
			t.Fatal(err)
		}
		return w.Current()
	}
	writeFile(t, path, "nonsense")
	if l := newWatcher(); l.Err == nil || level(l) != "info" {
		t.Errorf("bad file and no copy: %s, error %v", level(l), l.Err)
	}
	writeFile(t, path, levelText("warn"))
	if l := newWatcher(); l.Err != nil || level(l) != "warn" {
		t.Errorf("good file: %s, error %v", level(l), l.Err)
	}
	writeFile(t, path, "nonsense")
	if l := newWatcher(); l.Err == nil || level(l) != "warn" || l.ErrSince.IsZero() {
		t.Errorf("bad file and a copy: %s, error %v", level(l), l.Err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if l := newWatcher(); l.Err != nil || level(l) != "info" {
		t.Errorf("no file is the default: %s, error %v", level(l), l.Err)
	}
	writeFile(t, path, "nonsense")
	writeFile(t, copyPath, "nonsense")
	if l := newWatcher(); l.Err == nil || level(l) != "info" {
		t.Errorf("bad file and a bad copy: %s, error %v", level(l), l.Err)
	}
}

func TestWatchUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, levelText("warn"))
	w := watch(t, WatcherConfig{Path: path})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if l := w.untilError("this is a folder"); level(l) != "warn" {
		t.Errorf("level %s", level(l))
	}
}

// The log tells of each change of state once.
func TestWatchLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, levelText("warn"))
	var log bytes.Buffer
	w, err := NewWatcher(WatcherConfig{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "log: {level: loud}\n")
	for range 3 {
		reload(t, w)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings in\n%s", n, &log)
	}
	if !strings.Contains(log.String(), fmt.Sprintf("path=%s", path)) || !strings.Contains(log.String(), "line 1") {
		t.Errorf("the log does not name file and line:\n%s", &log)
	}
}
