package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"berth/internal/atomicfile"
)

// How often links may ask: linkBurst times within linkSpan. A page can follow
// links as fast as it likes.
const (
	linkBurst = 4
	linkSpan  = time.Minute
)

// Why a link is not followed although it is one.
var (
	errLinkAsks  = errors.New("another link waits for an answer")
	errLinkFlood = errors.New("too many links within a minute")
)

// linkGate lets one link ask at a time, and few within a minute, whichever process
// follows them.
type linkGate struct {
	folder string
}

// enter lets a link ask until leave is called.
func (g linkGate) enter(now time.Time) (leave func(), err error) {
	lock := flock.New(filepath.Join(g.folder, "link.lock"), flock.SetPermissions(0o600))
	mine, err := lock.TryLock()
	if err != nil {
		return nil, err
	}
	if !mine {
		return nil, errLinkAsks
	}
	leave = func() { _ = lock.Unlock() } // it ends with the process in any case
	if err := g.count(now); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// count notes a question; the lock is held. What was noted in the future, by
// another clock, does not count.
func (g linkGate) count(now time.Time) error {
	asked := slices.DeleteFunc(g.asked(), func(at time.Time) bool { return at.After(now) || now.Sub(at) >= linkSpan })
	if len(asked) >= linkBurst {
		return errLinkFlood
	}
	return g.write(append(asked, now.UTC()))
}

// forget takes back the question of a link that no person could be asked; the lock is
// held.
func (g linkGate) forget(at time.Time) error {
	return g.write(slices.DeleteFunc(g.asked(), at.Equal))
}

// asked are the times of the last questions.
func (g linkGate) asked() []time.Time {
	var asked []time.Time
	if raw, err := os.ReadFile(g.path()); err == nil && json.Unmarshal(raw, &asked) != nil {
		return nil // it is berth's own, and was damaged
	}
	return asked
}

func (g linkGate) write(asked []time.Time) error {
	raw, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	return atomicfile.Write(g.path(), raw, 0o600)
}

func (g linkGate) path() string { return filepath.Join(g.folder, "links.json") }
