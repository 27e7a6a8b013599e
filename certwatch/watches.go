package certwatch

import (
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/gravitational/teleport/api/utils/keypaths"
)

// pollInterval is how often to look at what cannot be watched.
const pollInterval = 2 * time.Second

// watches keeps the watches on the folders of homes. Folders come and go with
// each login, so they are all added again at every reading: adding a folder
// that is watched does nothing.
type watches struct {
	log    *slog.Logger
	fs     *fsnotify.Watcher // nil means that the system gives none
	errs   <-chan error      // fs.Errors, which are always taken; nil without fs
	failed bool              // a folder could not be watched: everything is polled

	// homes that cannot be watched by themselves, being absent or behind a
	// symlink, with what was last found there; nil for nothing.
	unwatched map[string]os.FileInfo
}

// openWatches asks the system for file notifications. If it gives none, the
// homes are polled.
func openWatches(log *slog.Logger) *watches {
	ws := &watches{log: log, unwatched: map[string]os.FileInfo{}}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("no file notifications; homes are polled", "interval", pollInterval, "err", err)
		return ws
	}
	ws.fs, ws.errs = watcher, taken(watcher.Errors)
	return ws
}

// taken returns what comes from errs, of which one is kept at a time. fsnotify
// sends some while it holds the lock that Add and Remove need: of a folder that was
// moved and then removed, for one.
func taken(errs <-chan error) <-chan error {
	kept := make(chan error, 1)
	go func() {
		for err := range errs { // until the watcher is closed
			select {
			case kept <- err:
			default: // one says that everything must be read
			}
		}
	}()
	return kept
}

func (ws *watches) close() {
	if ws.fs != nil {
		_ = ws.fs.Close() // read-only: nothing is lost
	}
}

// events returns the notifications; nil when there are none to come.
func (ws *watches) events() <-chan fsnotify.Event {
	if ws.fs == nil {
		return nil
	}
	return ws.fs.Events
}

// errors returns the notifications' failures.
func (ws *watches) errors() <-chan error { return ws.errs }

// lost notes that notifications were lost, so that everything must be read.
func (ws *watches) lost(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		ws.log.Debug("file notifications overflowed; reading everything")
		return
	}
	ws.log.Warn("file notifications failed; reading everything", "err", err)
}

// concerns reports whether a change at path can matter to one of the homes: it
// is in the home, or above it.
func concerns(path string, homes []*home) bool {
	for _, h := range homes {
		if path == h.path || within(path, h.path) || within(h.path, path) {
			return true
		}
	}
	return false
}

// within reports whether path is below dir.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator)))
	return ok && len(rest) > 1 && os.IsPathSeparator(rest[0])
}

// sync watches exactly the folders that the homes now consist of.
func (ws *watches) sync(homes []*home) {
	ws.unwatched = map[string]os.FileInfo{}
	wanted := map[string]bool{}
	for _, h := range homes {
		for _, dir := range ws.folders(h.path) {
			wanted[dir] = true
		}
	}
	if ws.fs == nil {
		return
	}
	// First, since the system knows a folder that has another name now by its watch:
	// fsnotify would keep that under the old name, and it would end with it.
	for _, dir := range ws.fs.WatchList() {
		if !wanted[dir] {
			ws.unwatch(dir)
		}
	}
	failed := false
	for dir := range wanted {
		err := ws.fs.Add(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) { // gone again: its parent tells
			continue
		}
		failed = true
		if !ws.failed {
			ws.log.Warn("folder cannot be watched; homes are polled", "folder", dir,
				"interval", pollInterval, "err", err)
		}
	}
	ws.failed = failed
}

// unwatch stops watching a folder. When two watched folders were exchanged, as a
// login does, and added again before the watcher heard of it, fsnotify 1.10.1
// forgets one of them and panics here.
func (ws *watches) unwatch(dir string) {
	defer func() {
		if p := recover(); p != nil {
			ws.log.Debug("folder was watched by another name", "folder", dir, "panic", p)
		}
	}()
	_ = ws.fs.Remove(dir) // fails when the folder is gone, and the watch with it
}

// folders returns the folders to watch for a home.
func (ws *watches) folders(path string) []string {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		ws.unwatched[path] = info
		return parents(path)
	}
	folders := []string{path}
	if link, err := os.Lstat(path); err == nil && link.Mode()&fs.ModeSymlink != 0 {
		ws.unwatched[path] = info
		folders = append(folders, parents(path)...)
	}
	keys := keypaths.KeyDir(path)
	if info, err := os.Stat(keys); err != nil || !info.IsDir() {
		return folders
	}
	folders = append(folders, keys)
	for _, proxy := range subfolders(keys) {
		folders = append(folders, proxy)
		for _, dir := range subfolders(proxy) {
			if base := filepath.Base(dir); base == "cas" || strings.HasSuffix(base, "-ssh") && watchSSH {
				folders = append(folders, dir)
			}
		}
	}
	return folders
}

// watchSSH says whether to watch the folders of SSH certificates. tsh removes
// and recreates them at once, which on Windows a watch would hinder; there
// the files written just before tell enough.
const watchSSH = runtime.GOOS != "windows"

// watchParents says whether a folder can be watched without opening all that
// is in it, as kqueue does: the home's parent is the user's own folder.
const watchParents = runtime.GOOS == "linux" || runtime.GOOS == "windows"

// parents returns the nearest existing folder above path.
func parents(path string) []string {
	if !watchParents {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return []string{dir}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// subfolders returns the paths of the folders in dir, symlinked ones included.
func subfolders(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // gone again, or not to be read: which the reading tells
	}
	var folders []string
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.Type()&fs.ModeSymlink != 0 {
			if info, err := os.Stat(path); err != nil || !info.IsDir() {
				continue
			}
		} else if !entry.IsDir() {
			continue
		}
		if folders = append(folders, path); len(folders) == maxProfiles {
			break
		}
	}
	return folders
}

// interval returns how often to look whether moved.
func (ws *watches) interval() time.Duration {
	if ws.fs == nil || ws.failed || len(ws.unwatched) > 0 {
		return pollInterval
	}
	return math.MaxInt64
}

// moved reports whether something that is not watched may have changed.
func (ws *watches) moved() bool {
	if ws.fs == nil || ws.failed {
		return true
	}
	for path, before := range ws.unwatched {
		now, _ := os.Stat(path) // nil when there is nothing
		if (before == nil) != (now == nil) || before != nil && !os.SameFile(before, now) {
			return true
		}
	}
	return false
}
