package install

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange swaps two folders in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// cannotExchange reports whether err says that the file system has no
// exchange, or none for these folders.
func cannotExchange(err error) bool {
	for _, no := range []error{unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EXDEV, unix.EBUSY} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.Is(err, errors.ErrUnsupported)
}
