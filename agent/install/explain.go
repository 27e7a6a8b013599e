package install

import (
	"errors"
	"fmt"
	"io/fs"
)

// explain adds to an error what can be done about it.
func explain(home string, err error) error {
	switch {
	case err == nil:
		return nil
	case isDiskFull(err):
		return fmt.Errorf("%w: make room on the disk of %s; nothing there has changed", err, home)
	case isReadOnly(err), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: make %s writable for yourself; nothing there has changed", err, home)
	case errors.Is(err, errDisturbed), errors.Is(err, errBusy):
		return fmt.Errorf("%w: try again when no other tsh or berth is at work in %s", err, home)
	default:
		return err
	}
}
