package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"berth/agent/state"
	"berth/internal/atomicfile"
)

const (
	// lockFor is how long an edit waits for another one to end, lockEvery
	// how often it looks.
	lockFor   = 10 * time.Second
	lockEvery = 5 * time.Millisecond
	// staleAge is the age at which the temporary file of a writer that was
	// killed is removed.
	staleAge = time.Minute
	// editTries is how often an edit starts over because an editor, which
	// knows nothing of berth's lock, wrote the file meanwhile.
	editTries = 5
)

// Errors of edits that a caller may want to tell apart. A file that has
// mistakes is not edited: that error is an *Error.
var (
	ErrTunnelExists = errors.New("there is a tunnel of that name already")
	errNoTunnel     = errors.New("there is no tunnel of that name")
	errBusy         = errors.New("another berth has been editing the file for some time")
	ErrPortTaken    = errors.New("another tunnel has that port")
)

// Edit changes the config file at path by change, which is handed what the
// file says now. Nothing is written when it returns an error or changes
// nothing, and the file is replaced whole, so that a reader or a crash finds
// the old or the new one. Other edits wait meanwhile; change may be called
// again when an editor wrote the file in between. A file that is not there is
// made, and a symbolic link is written through.
func Edit(path string, change func(*Document) error) error {
	return edit(path, lockFor, change)
}

func edit(path string, wait time.Duration, change func(*Document) error) error {
	target, err := atomicfile.Resolve(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("edit config: %w", err)
	}
	unlock, err := lock(target, wait)
	if err != nil {
		return err
	}
	defer unlock()
	// Left behind by a writer that was killed: not needed, and not in the way.
	_ = atomicfile.Clean(target, staleAge)
	for range editTries {
		done, err := editOnce(path, target, change)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("edit %q: another program keeps writing it; try again", path)
}

// editOnce reads, changes and writes. It reports false when the file changed
// in between.
func editOnce(path, target string, change func(*Document) error) (bool, error) {
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	there := err == nil
	doc, err := newDocument(path, data)
	if err != nil {
		return false, err
	}
	doc.there = there
	if err := change(doc); err != nil {
		return false, err
	}
	out := doc.bytes()
	if bytes.Equal(out, data) {
		return true, nil
	}
	if len(out) > maxSize {
		return false, tooLarge(path, int64(len(out)))
	}
	again, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !bytes.Equal(again, data) {
		return false, nil
	}
	return true, atomicfile.Write(target, out, 0o600)
}

// AddTunnel adds a tunnel to the config file at path, after those it has.
func AddTunnel(path string, t state.TunnelSpec) error {
	return Edit(path, func(d *Document) error { return d.AddTunnel(t) })
}

// editKept is Edit for those who do not know what is in force: a file that is gone or was
// emptied, while the copy at lastGood says something, is not made anew. What would be
// written then is read as all that is wanted, and replaces the copy.
func editKept(path, lastGood string, change func(*Document) error) error {
	return Edit(path, func(d *Document) error {
		if err := CheckLost(path, lastGood); err != nil {
			return err
		}
		return change(d)
	})
}

// Init makes a config file to begin with at path, unless there is one. The error is a
// *LostError if there was one, of which the copy at lastGood is left.
func Init(path, lastGood string) error {
	return editKept(path, lastGood, func(d *Document) error {
		if !d.there {
			d.text = []byte(header + starter)
		}
		return nil
	})
}

// lock keeps other edits of target away until unlock is called. The lock is on
// a file beside target, so that whoever edits the same file meets there; it
// ends with the process, however that ends.
func lock(target string, wait time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	dir, base := filepath.Split(target)
	path := filepath.Join(dir, "."+base+".lock")
	for {
		l := flock.New(path)
		if _, err := l.TryLockContext(ctx, lockEvery); err != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("edit %q: %w", target, errBusy)
			}
			return nil, fmt.Errorf("edit %q: lock: %w", target, err)
		}
		// The holder before may have removed the file that this lock is on:
		// then others can lock a new one, and so must this.
		if stands(l) {
			return func() {
				_ = os.Remove(path) // Windows keeps it while it is open
				_ = l.Unlock()      // closing it unlocks in any case
			}, nil
		}
		if err := l.Unlock(); err != nil {
			return nil, fmt.Errorf("edit %q: unlock: %w", target, err)
		}
	}
}

// stands reports whether the file that l has locked is still the one at its
// path.
func stands(l *flock.Flock) bool {
	held, err := l.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.Path())
	return err == nil && os.SameFile(held, there)
}
