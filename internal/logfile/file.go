package logfile

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Rotation: small enough to attach to a bug report, enough for weeks of one
// line per transition.
const (
	defaultSize = 5 << 20
	maxOld      = 3
)

// file is a file that is set aside when it is full: as NAME.1, which was
// before as NAME.2, and so on. It opens at the first write.
type file struct {
	path string
	max  *atomic.Int64 // bytes; a line that would make it larger goes into the next one
	keep int           // how many old ones stay

	mu   sync.Mutex
	f    *os.File // nil: not open; guarded by mu, as is size
	size int64
}

// Write appends a line.
func (l *file) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.readyLocked(int64(len(line))); err != nil {
		return 0, err
	}
	n, err := l.f.Write(line)
	l.size += int64(n)
	return n, err
}

// readyLocked opens the file if need be, and makes room for the next line.
func (l *file) readyLocked(next int64) error {
	if l.f != nil && !l.stillThereLocked() {
		l.closeLocked() // it was removed or moved: later lines must be found
	}
	if l.f == nil {
		if err := l.openLocked(); err != nil {
			return err
		}
	}
	if l.size == 0 || l.size+next <= l.max.Load() {
		return nil
	}
	l.closeLocked()
	l.rotate()
	if err := l.openLocked(); err != nil {
		return err
	}
	l.size = 0 // where it could not be set aside it may grow to twice its size, rather than be lost
	return nil
}

func (l *file) stillThereLocked() bool {
	mine, err := l.f.Stat()
	there, statErr := os.Stat(l.path)
	return err == nil && statErr == nil && os.SameFile(mine, there)
}

func (l *file) openLocked() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	// An existing file may be open to other users.
	err = f.Chmod(0o600)
	info, statErr := f.Stat()
	if err := errors.Join(err, statErr); err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

// rotate renames each file to the next number; the oldest is overwritten. A file
// that cannot be moved stays: there is no place to report that, and logging goes
// on.
func (l *file) rotate() {
	for n := l.keep; n > 0; n-- {
		_ = os.Rename(l.old(n-1), l.old(n))
	}
}

// old is the name of the nth file set aside; the 0th is the one in use.
func (l *file) old(n int) string {
	if n == 0 {
		return l.path
	}
	return fmt.Sprintf("%s.%d", l.path, n)
}

func (l *file) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked()
}

func (l *file) closeLocked() {
	if l.f != nil {
		_ = l.f.Close() // every line was written by itself; nothing waits in it
		l.f = nil
	}
}
