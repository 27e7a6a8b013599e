//go:build unix

package process

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockFile opens the file at path and locks it. errLocked: another process has.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EDQUOT) {
		f, err = os.Open(path) // a lock needs no room; there was an agent here before
	}
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var locking error
	err = raw.Control(func(fd uintptr) { locking = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(locking, unix.EWOULDBLOCK) {
		locking = errLocked
	}
	if err = errors.Join(err, locking); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unlock ends the lock now. Closing the file alone ends it later when a child is
// just being started: until it runs its own program it has the file open, too.
func unlock(file io.Closer) {
	if f, ok := file.(syscall.Conn); ok {
		if raw, err := f.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = unix.Flock(int(fd), unix.LOCK_UN) }) // it is closed next
		}
	}
}
