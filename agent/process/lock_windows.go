package process

import (
	"io"

	"github.com/gofrs/flock"
)

// lockFile locks the file at path. errLocked: another process has.
func lockFile(path string) (io.Closer, error) {
	l := flock.New(path)
	ok, err := l.TryLock()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errLocked
	}
	return l, nil
}

// unlock has nothing to do: closing the file ends the lock.
func unlock(io.Closer) {}
