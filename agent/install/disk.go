package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"berth/internal/atomicfile"
)

// Modes of what is written; tsh's own for keys and folders.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// disk makes all changes of this package to the disk.
type disk struct {
	// before is called ahead of every single change. Its error is what the
	// change then ends with, undone. Nil means no call.
	before func(step string) error
	// swap exchanges two folders; nil means exchange.
	swap func(a, b string) error
}

func (d *disk) step(what, path string) error {
	atomicfile.Step(what, path)
	if d.before == nil {
		return nil
	}
	return d.before(what + " " + path)
}

// mkdir makes one folder, which must not exist.
func (d *disk) mkdir(path string) error {
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	return os.Mkdir(path, dirMode)
}

// mkdirAll makes a folder and those above it that are missing.
func (d *disk) mkdirAll(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := d.step("mkdir", path); err != nil {
		return err
	}
	return os.MkdirAll(path, dirMode)
}

// create writes a new file and syncs it.
func (d *disk) create(path string, data []byte) (err error) {
	if err := d.step("create", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := d.step("write", path); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(fileMode); err != nil { // whatever the umask
		return err
	}
	if err := d.step("sync", path); err != nil {
		return err
	}
	return f.Sync()
}

// link makes to another name of the file from; where the file system has no
// links, a copy.
func (d *disk) link(from, to string) error {
	if err := d.step("link", to); err != nil {
		return err
	}
	linkErr := os.Link(from, to)
	if linkErr == nil || errors.Is(linkErr, fs.ErrNotExist) || errors.Is(linkErr, fs.ErrExist) {
		return linkErr
	}
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case !info.Mode().IsRegular():
		return linkErr
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return d.create(to, data)
}

// replace makes data the content of path in one step, through the temporary
// name temp beside it.
func (d *disk) replace(path, temp string, data []byte) error {
	if err := d.remove(temp); err != nil {
		return err
	}
	if err := d.create(temp, data); err != nil {
		return err
	}
	return d.rename(temp, path)
}

// rename moves a file or a folder, over a file that is there, and syncs the
// folder it is in then.
func (d *disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	if err := atomicfile.Rename(from, to); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(to))
}

// exchange swaps two folders in one step and syncs the folder they are in.
func (d *disk) exchange(a, b string) error {
	if err := d.step("exchange", b); err != nil {
		return err
	}
	swap := d.swap
	if swap == nil {
		swap = exchange
	}
	if err := swap(a, b); err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return d.syncDir(filepath.Dir(b))
}

// syncDir makes the names in a folder durable.
func (d *disk) syncDir(path string) error {
	if err := d.step("sync", path); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(path); err != nil {
		return fmt.Errorf("sync %q: %w", path, err)
	}
	return nil
}

// remove removes a file or an empty folder; that there is none is no error.
func (d *disk) remove(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.step("remove", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeAll removes a folder with all that is in it, one by one.
func (d *disk) removeAll(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		if info.Mode().Perm()&dirMode != dirMode { // then nothing could be removed from it
			_ = os.Chmod(path, dirMode)
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := d.removeAll(filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	return d.remove(path)
}
