package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"berth/internal/atomicfile"
	"berth/internal/pseudonym"
)

// lockEvery is how often a change that waits for another one looks; tempAge is how old
// a killed writer's temporary file is when it is removed.
const (
	lockEvery = 20 * time.Millisecond
	tempAge   = time.Minute
)

// lockTime is how long a change waits for another one.
var lockTime = 2 * time.Second

// errBroken says that a file is none of this berth's.
var errBroken = errors.New("it is not what berth has written")

// Path is the file in the folder of berth's state.
func Path(stateDir string) string { return filepath.Join(stateDir, "telemetry.json") }

// KeyPath is the file of the key that pseudonyms are made with.
func KeyPath(stateDir string) string { return filepath.Join(stateDir, "telemetry.key") }

// BrokenKey is the damaged key that was set aside last; empty when none was since
// pseudonyms were begun anew.
func BrokenKey(stateDir string) string {
	path := pseudonym.BrokenPath(KeyPath(stateDir))
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// CheckKey returns why nothing can be written down for want of the key. One that is
// damaged is set aside at the next write.
func CheckKey(stateDir string) error {
	_, err := pseudonym.Read(KeyPath(stateDir))
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func brokenPath(stateDir string) string { return Path(stateDir) + ".broken" }

// Read returns what is kept in the folder of berth's state: no days when there is no
// file.
func Read(stateDir string) (Kept, error) {
	empty := Kept{Format: format, Days: []Day{}}
	f, err := os.Open(Path(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("telemetry: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return empty, fmt.Errorf("telemetry: %w", err)
	}
	var k Kept
	if err := json.Unmarshal(data, &k); err != nil || len(data) > maxSize || k.Format != format || !k.plausible() {
		return empty, fmt.Errorf("telemetry: %s: %w", f.Name(), errBroken)
	}
	return k, nil
}

// Reset forgets everything that is kept, and the key.
func Reset(stateDir string) error {
	if none(stateDir) {
		return nil // and no lock is left where nothing was kept
	}
	return locked(stateDir, func() error {
		var errs []error
		for _, path := range []string{
			Path(stateDir), brokenPath(stateDir), KeyPath(stateDir), pseudonym.BrokenPath(KeyPath(stateDir)),
		} {
			errs = append(errs, os.RemoveAll(path)) // a folder in a file's place goes too
		}
		return errors.Join(append(errs, atomicfile.Clean(Path(stateDir), 0), atomicfile.Clean(KeyPath(stateDir), 0))...)
	})
}

// none reports whether nothing was ever kept in a folder, or all was forgotten.
func none(stateDir string) bool {
	files, err := os.ReadDir(stateDir)
	return errors.Is(err, fs.ErrNotExist) || err == nil &&
		!slices.ContainsFunc(files, func(f fs.DirEntry) bool { return strings.Contains(f.Name(), "telemetry") })
}

// Rotate replaces the key: from now on clusters and users have other pseudonyms.
func Rotate(stateDir string) error {
	return locked(stateDir, func() error {
		if err := os.RemoveAll(pseudonym.BrokenPath(KeyPath(stateDir))); err != nil {
			return fmt.Errorf("telemetry: %w", err)
		}
		_, err := pseudonym.Rotate(KeyPath(stateDir))
		return err
	})
}

// update adds to what is kept. What berth cannot have written is set aside; newKey
// says that the key was.
func update(stateDir string, now time.Time, counted Kept) (newKey bool, err error) {
	err = locked(stateDir, func() error {
		k, err := Read(stateDir)
		if errors.Is(err, errBroken) {
			err = os.Rename(Path(stateDir), brokenPath(stateDir))
		}
		if err != nil {
			return err
		}
		key, anew, err := pseudonym.Load(KeyPath(stateDir))
		if err != nil {
			return err
		}
		newKey = anew
		k.add(counted, key.Of)
		k.forget(now)
		data, err := json.Marshal(k)
		if err != nil {
			return err
		}
		return atomicfile.Write(Path(stateDir), append(data, '\n'), 0o600)
	})
	return newKey, err
}

// locked calls change while no other process changes the files.
func locked(stateDir string, change func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), lockTime)
	defer cancel()
	l := flock.New(filepath.Join(stateDir, "telemetry.lock"), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, lockEvery); err != nil {
		return fmt.Errorf("telemetry: lock: %w", err)
	}
	defer l.Unlock() //nolint:errcheck // it ends with the process at the latest
	// What a killed writer left behind; the folder is there, or change says why not.
	_ = atomicfile.Clean(Path(stateDir), tempAge)
	return change()
}
