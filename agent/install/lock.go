package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
)

const (
	// workName is the folder in a home in which this package works. tsh and
	// certwatch take no notice of it; "tsh logout" removes it with the rest.
	workName = ".berth"
	lockName = "lock"

	// homeWait is how long another installer of the same home is waited for.
	homeWait  = 10 * time.Second
	lockRetry = 10 * time.Millisecond

	// How long tsh's locks on a key and on the known hosts are waited for, and
	// how often they are looked at. tsh itself waits 200 ms for a key.
	keyWait   = 2 * time.Second
	hostsWait = 5 * time.Second
	keyRetry  = 50 * time.Millisecond

	// tshLockSuffix ends the name of the file that tsh locks on Windows in place
	// of another. It leaves it behind.
	tshLockSuffix = ".lock.tmp"
)

// errBusy says that another program is installing into the same home and does
// not come to an end.
var errBusy = errors.New("another program is installing a session there")

// workDir returns the folder in which installers of a home work.
func workDir(home string) string { return filepath.Join(home, workName) }

// lockHome makes this the only installer of a home, which is made if missing.
func lockHome(ctx context.Context, d *disk, home string) (unlock func(), err error) {
	dir := workDir(home)
	path := filepath.Join(dir, lockName)
	ctx, cancel := context.WithTimeoutCause(ctx, homeWait, errBusy)
	defer cancel()
	for {
		if err := d.mkdirAll(dir); err != nil {
			return nil, fmt.Errorf("prepare home %q: %w", home, err)
		}
		lock, err := lockFile(ctx, d, path, os.O_CREATE|os.O_RDWR, lockRetry) // NFS locks only what is open for writing
		if errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			continue // the one before has just cleaned up
		}
		if err != nil {
			return nil, fmt.Errorf("lock home %q: %w", home, err)
		}
		if current(lock, path) {
			return func() { unlockHome(d, lock, home) }, nil
		}
		_ = lock.Close() // it is of a file that was removed meanwhile
	}
}

// lockFile takes the lock on a file, which it opens with the flag.
func lockFile(ctx context.Context, d *disk, path string, flag int, retry time.Duration) (*flock.Flock, error) {
	if err := d.step("lock", path); err != nil {
		return nil, err
	}
	lock := flock.New(path, flock.SetFlag(flag), flock.SetPermissions(fileMode))
	if _, err := lock.TryLockContext(ctx, retry); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// current reports whether the locked file is still the one at path.
func current(lock *flock.Flock, path string) bool {
	locked, err := lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(locked, there)
}

// unlockHome lets the next installer in and leaves nothing behind. A file that
// cannot be removed does no harm.
func unlockHome(d *disk, lock *flock.Flock, home string) {
	if runtime.GOOS == "windows" { // where an open file cannot be removed
		_ = lock.Close()
	}
	_ = d.remove(lock.Path())
	_ = lock.Close()
	_ = d.remove(workDir(home)) // not when there is more in it
}

// lockKey takes tsh's own lock on a key, which v17 and later take to read or
// write a key and its certificate.
func lockKey(ctx context.Context, d *disk, key string) (unlock func(), err error) {
	return lockAsTSH(ctx, d, key, keyWait)
}

// lockAsTSH takes the lock that tsh takes on one of its files. Without the file
// there is nothing to lock.
func lockAsTSH(ctx context.Context, d *disk, path string, wait time.Duration) (unlock func(), err error) {
	if _, err := os.Stat(path); err != nil {
		return func() {}, nil //nolint:nilerr // no file, no lock
	}
	lockPath, flag := path, os.O_RDONLY
	if runtime.GOOS == "windows" { // where a locked file cannot be read
		lockPath, flag = path+tshLockSuffix, os.O_CREATE|os.O_RDWR
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errors.New("tsh keeps it locked"))
	defer cancel()
	lock, err := lockFile(ctx, d, lockPath, flag, keyRetry)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	return func() { _ = lock.Close() }, nil // a lock ends in any case
}
