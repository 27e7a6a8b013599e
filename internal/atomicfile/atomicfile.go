// Package atomicfile replaces files whole: whoever reads a path it wrote finds
// the old content or the new one, never a part, even after kill -9 or a power
// cut.
//
// The new content goes to a temporary file in the same folder, is synced, and
// takes the path's place by rename; then the folder is synced. The file that
// stands there in the end has the mode asked for, whatever the umask. A writer
// killed half-way leaves a temporary file behind, which Clean removes.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tempSuffix ends the name of every temporary file.
const tempSuffix = ".tmp"

// maxLinks is how many symbolic links Resolve follows, as Linux does.
const maxLinks = 40

// Before is called ahead of every change of the disk with what comes next, where a
// test has set it: those are the moments at which a kill leaves something else
// behind. It must be set before the first change.
var Before func(step string)

// Step says that a change of the disk comes next, for whoever makes one that is not
// made here.
func Step(what, path string) {
	if Before != nil {
		Before(what + " " + path)
	}
}

// Write replaces the file at path with data and the mode perm. The folder must
// exist. A symbolic link at path is replaced too: pass the result of Resolve to
// write through it.
func Write(path string, data []byte, perm fs.FileMode) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	Step("create beside", path)
	tmp, err := os.CreateTemp(dir, tempPattern(base))
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	Step("fill beside", path)
	if err := fill(tmp, data, perm); err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path, err), os.Remove(tmp.Name()))
	}
	Step("replace", path)
	if err := replace(tmp.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path, err), os.Remove(tmp.Name()))
	}
	Step("sync the folder of", path)
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("write %q: sync its folder: %w", path, err)
	}
	return nil
}

// Rename moves from to to, in the place of a file that is there. On Windows it
// waits a moment for programs that hold either.
func Rename(from, to string) error { return replace(from, to) }

// SyncDir makes the names in dir durable, where the file system can.
func SyncDir(dir string) error { return syncDir(dir) }

// fill writes data to f, makes it durable and closes f.
func fill(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// tempPattern is the pattern of temporary names for a file called base; a
// leading dot hides them, and the base keeps those of two files apart.
func tempPattern(base string) string {
	return "." + base + ".*" + tempSuffix
}

// Resolve follows the symbolic links at path and returns the file they lead
// to, which need not exist.
func Resolve(path string) (string, error) {
	at := path
	for range maxLinks {
		info, err := os.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return at, nil
		case err != nil:
			return "", fmt.Errorf("resolve %q: %w", path, err)
		case info.Mode()&fs.ModeSymlink == 0:
			return at, nil
		}
		to, err := os.Readlink(at)
		if err != nil {
			return "", fmt.Errorf("resolve %q: %w", path, err)
		}
		if !filepath.IsAbs(to) {
			// Only the kernel's way through a linked folder is right: "..",
			// taken textually, could lead elsewhere.
			dir, err := filepath.EvalSymlinks(filepath.Dir(at))
			if err != nil {
				return "", fmt.Errorf("resolve %q: %w", path, err)
			}
			to = filepath.Join(dir, to)
		}
		at = to
	}
	return "", fmt.Errorf("resolve %q: more than %d symbolic links, probably a loop", path, maxLinks)
}

// Clean removes the temporary files that writers of path left behind at least
// age ago. The age protects writers that are at work now.
func Clean(path string, age time.Duration) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean beside %q: %w", path, err)
	}
	var errs []error
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "."+base+".")
		if !ok || !isTempTail(rest) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < age {
			continue // gone meanwhile, or fresh
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// isTempTail reports whether s is what CreateTemp makes of "*.tmp": digits,
// then the suffix. Anything else beside the file is not ours to remove.
func isTempTail(s string) bool {
	digits, ok := strings.CutSuffix(s, tempSuffix)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}
