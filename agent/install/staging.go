package install

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	stagingPrefix = "staging-"
	aliveSuffix   = ".alive" // a file that is locked for as long as its staged home is in use
	configName    = "config" // tsh's own settings, in a home
)

// Staging is a private home for tsh to log in to.
type Staging struct {
	Dir string // to be tsh's TELEPORT_HOME

	home    string
	created bool // whether the real home did not exist before
	alive   *flock.Flock
	disk    *disk
}

// NewStaging makes a staged home in the real one, which need not exist. tsh
// finds the user's own settings (the config folder) in it, but no profile.
func NewStaging(ctx context.Context, home string) (*Staging, error) {
	s, err := newStaging(ctx, &disk{}, home)
	if err != nil {
		return nil, fmt.Errorf("stage a login: %w", err)
	}
	return s, nil
}

func newStaging(ctx context.Context, d *disk, home string) (*Staging, error) {
	home, err := realHome(home)
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(home)
	created := errors.Is(err, fs.ErrNotExist)
	unlock, err := lockHome(ctx, d, home)
	if err != nil {
		return nil, explain(home, err)
	}
	defer unlock() // until then, Recover takes the new home for a stale one
	s := &Staging{
		Dir:  filepath.Join(workDir(home), stagingPrefix+rand.Text()[:12]),
		home: home, created: created, disk: d,
	}
	if s.alive, err = lockFile(ctx, d, s.Dir+aliveSuffix, os.O_CREATE|os.O_RDWR, lockRetry); err != nil {
		return nil, explain(home, err)
	}
	err = d.mkdir(s.Dir)
	if err == nil {
		err = copyFolder(d, filepath.Join(home, configName), filepath.Join(s.Dir, configName))
	}
	if err != nil {
		return nil, errors.Join(explain(home, err), s.remove())
	}
	return s, nil
}

// Close removes the staged home with all secrets in it. It may be called more
// than once.
func (s *Staging) Close() error {
	if s.alive == nil {
		return nil
	}
	err := s.remove()
	s.alive = nil
	_ = s.disk.remove(workDir(s.home)) // not while others work there
	if s.created {
		_ = s.disk.remove(s.home) // not if it holds something now
	}
	if err != nil {
		return fmt.Errorf("remove staged home %q: %w", s.Dir, err)
	}
	return nil
}

func (s *Staging) remove() error {
	err := s.disk.removeAll(s.Dir)
	err = errors.Join(err, s.alive.Close())
	return errors.Join(err, s.disk.remove(s.Dir+aliveSuffix))
}

// copyFolder copies the files of a folder, which need not exist. They are
// copied, not linked: "tsh logout" overwrites what it removes, links' targets
// too.
func copyFolder(d *disk, from, to string) error {
	from, err := resolve(from)
	if err != nil {
		return err
	}
	files, err := readFolder(from)
	if err != nil || len(files) == 0 {
		return err
	}
	if err := d.mkdir(to); err != nil {
		return err
	}
	return copyFiles(d, files, from, to)
}

// copyFiles copies the files of a picture of a folder.
func copyFiles(d *disk, files folder, from, to string) error {
	for _, path := range files.paths() {
		e := files[path]
		if e.mode.IsDir() {
			if err := d.mkdir(filepath.Join(to, path)); err != nil {
				return err
			}
			continue
		}
		info, err := os.Stat(filepath.Join(from, path))
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
			continue // nothing that tsh could read either, or wants
		}
		data, err := os.ReadFile(filepath.Join(from, path))
		if err != nil {
			return err
		}
		if err := d.create(filepath.Join(to, path), data); err != nil {
			return err
		}
	}
	return nil
}

// aliveWait is how long to try whether a staged home is still in use.
const aliveWait = 20 * time.Millisecond

// removeStagings removes the staged homes whose makers have ended.
func removeStagings(d *disk, home string) error {
	entries, err := os.ReadDir(workDir(home))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name, isAlive := strings.CutSuffix(e.Name(), aliveSuffix)
		if !strings.HasPrefix(name, stagingPrefix) || !isAlive && !e.IsDir() {
			continue
		}
		errs = append(errs, removeStaging(d, filepath.Join(workDir(home), name)))
	}
	return errors.Join(errs...)
}

func removeStaging(d *disk, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), aliveWait)
	defer cancel()
	lock, err := lockFile(ctx, d, dir+aliveSuffix, os.O_CREATE|os.O_RDWR, lockRetry)
	if ctx.Err() != nil {
		return nil // in use
	}
	if err != nil {
		return err
	}
	return (&Staging{Dir: dir, alive: lock, disk: d}).remove()
}
