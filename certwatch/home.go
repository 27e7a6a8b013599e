package certwatch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// A home is one TELEPORT_HOME and what was last believed about it.
type home struct {
	path     string
	patience patience
	profiles map[string]*belief
	current  string // the current profile's name

	known   bool  // whether the home was ever read
	problem error // why it cannot be read; nil also when it does not exist
	badAt   time.Time
}

func newHome(path string, p patience) *home {
	return &home{path: path, patience: p, profiles: map[string]*belief{}}
}

// Load reads a home once, without waiting. Files that are being written at
// that moment make a profile that is Settling. A home that does not exist
// holds no profiles.
func Load(path string) ([]*Profile, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("home %q: %w", path, err)
	}
	h := newHome(abs, patience{broken: defaultPatience, gone: defaultGonePatience})
	h.read()
	return h.shown(), h.problem
}

// read re-reads the whole home. It returns after how long to read again
// because something is in doubt; zero means nothing is. What is believed stands while
// files cannot be opened because too many are.
func (h *home) read() time.Duration {
	names, err := listProfiles(h.path)
	if exhausted(err) {
		if !h.known {
			h.problem = err
		}
		return lastRetry
	}
	wait := h.judge(err)
	found := map[string]bool{}
	for _, name := range names {
		found[name] = true
		b := h.profiles[name]
		if b == nil {
			b = &belief{}
			h.profiles[name] = b
		}
		r, whole := h.readProfile(name, b)
		if !whole {
			wait = sooner(wait, lastRetry)
		}
		if whole || !b.known {
			wait = sooner(wait, b.take(r))
		}
	}
	for name, b := range h.profiles {
		if !found[name] {
			gone := sha256.Sum256([]byte("gone"))
			wait = sooner(wait, b.take(reading{
				what: gone, when: gone, doubt: errGone, patience: h.patience.gone,
			}))
		}
		if b.known && b.shown == nil {
			delete(h.profiles, name)
		}
	}
	if err == nil {
		wait = sooner(wait, h.readCurrent())
	}
	h.known = true
	return wait
}

// readProfile reads a profile, twice if there is news, so as not to take the
// middle of a change for the news. whole is false where the system did not let all
// of it be read.
func (h *home) readProfile(name string, b *belief) (r reading, whole bool) {
	files := readProfile(h.path, name)
	if what, when := files.digests(); b.known && what == b.what {
		return reading{what: what, when: when}, !files.exhausted
	}
	first := assemble(files, h.patience)
	again := readProfile(h.path, name)
	whole = !files.exhausted && !again.exhausted
	if what, when := again.digests(); when != first.when {
		r := assemble(again, h.patience)
		r.what, r.when = what, when
		r.doubt = errors.Join(errChanging, r.doubt)
		return r, whole
	}
	return first, whole
}

// listProfiles returns the names of the profiles in a home. The error is
// fs.ErrNotExist when there is no home, and else a sentence about it.
func listProfiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("home %q is a file, not a folder", path)
	}
	var entries []fs.DirEntry
	if err == nil {
		entries, err = os.ReadDir(path)
	}
	if err != nil {
		return nil, fmt.Errorf("home %q: %w", path, err)
	}
	var names []string
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".yaml")
		if !ok || entry.IsDir() || name == "" || name[0] == '.' || len(names) == maxProfiles {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// judge notes whether the home can be read. A home that could be read before
// is given some time: it may be in the middle of being replaced.
func (h *home) judge(err error) time.Duration {
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	switch {
	case err == nil:
		h.problem, h.badAt = nil, time.Time{}
		return 0
	case h.problem != nil || !h.known:
		h.problem = err
		return 0
	case h.badAt.IsZero():
		h.badAt = time.Now()
	}
	left := h.patience.gone - time.Since(h.badAt)
	if left <= 0 {
		h.problem = err
		return 0
	}
	return left
}

// readCurrent reads the current profile's name. A file without a whole line
// counts as being written, unless it has been like that for long.
func (h *home) readCurrent() time.Duration {
	c := readFile(keypaths.CurrentProfileFilePath(h.path))
	if exhausted(c.err) {
		return lastRetry
	}
	line, _, whole := strings.Cut(string(c.data), "\n")
	if left := h.patience.broken - time.Since(c.mod); !whole && !c.missing() && left > 0 {
		return min(left, lastRetry)
	}
	h.current = strings.TrimSpace(line)
	return 0
}

// shown returns the profiles to show, by name.
func (h *home) shown() []*Profile {
	var profiles []*Profile
	for _, name := range sortedNames(h.profiles) {
		b := h.profiles[name]
		if b.shown == nil {
			continue
		}
		if current := name == h.current; current != b.shown.Current {
			changed := *b.shown
			changed.Current = current
			b.shown = &changed
		}
		profiles = append(profiles, b.shown)
	}
	return profiles
}

// sooner returns the shorter of two waits, where zero means none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
