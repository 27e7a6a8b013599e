package install

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchange swaps two folders in one step.
func exchange(a, b string) error { return unix.RenamexNp(a, b, unix.RENAME_SWAP) }

// cannotExchange reports whether err says that the file system has no
// exchange, or none for these folders.
func cannotExchange(err error) bool {
	for _, no := range []error{unix.EINVAL, unix.ENOSYS, unix.ENOTSUP, unix.EXDEV, unix.EBUSY} {
		if errors.Is(err, no) {
			return true
		}
	}
	return errors.Is(err, errors.ErrUnsupported)
}
