//go:build !windows

package atomicfile

import (
	"errors"
	"os"
	"syscall"
)

// replace renames from to to, taking its place.
func replace(from, to string) error { return os.Rename(from, to) }

// syncDir makes the entries of dir durable. Some file systems cannot sync a
// folder and say so: then there is nothing more to be done.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
