package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// Recover finishes or undoes what an installer that was killed left behind in
// a home, and removes staged homes of programs that have ended. A home where
// nothing was left is not touched. A nil logger means no log.
func Recover(ctx context.Context, home string, log *slog.Logger) error {
	return recoverWith(ctx, &disk{}, home, log)
}

func recoverWith(ctx context.Context, d *disk, home string, log *slog.Logger) error {
	home, err := realHome(home)
	if err != nil {
		return err
	}
	left, err := orphans(home)
	if err != nil {
		return fmt.Errorf("recover home %q: %w", home, err)
	}
	if _, err := os.Lstat(workDir(home)); errors.Is(err, fs.ErrNotExist) && len(left) == 0 {
		return nil
	}
	unlock, err := lockHome(ctx, d, home)
	if err != nil {
		return err
	}
	defer unlock()
	return recoverHome(d, home, orDiscard(log))
}

// recoverHome is Recover for a caller that has the home locked.
func recoverHome(d *disk, home string, log *slog.Logger) error {
	j, err := readJournal(home)
	if err != nil {
		log.Warn("journal of an installation is no good; removed", "home", home, "err", err)
		if err := d.remove(journalPath(home)); err != nil {
			return fmt.Errorf("recover home %q: %w", home, err)
		}
	}
	if j != nil {
		finished, err := finish(d, home, j)
		if err == nil {
			err = clean(d, home, j)
		}
		if err != nil {
			return fmt.Errorf("recover home %q: %w", home, err)
		}
		log.Info("recovered from an interrupted installation", "home", home, "profile", j.Profile,
			"user", j.User, "finished", finished)
	}
	if err := errors.Join(d.remove(journalPath(home)+tempSuffix), removeOrphans(d, home), removeStagings(d, home)); err != nil {
		return fmt.Errorf("recover home %q: %w", home, err)
	}
	return nil
}

// finish makes the home hold all of the new session or all of the old one,
// and reports which. What others have done since then stays.
func finish(d *disk, home string, j *journal) (finished bool, err error) {
	if j.Placing {
		if err := finishPlacing(d, j); err != nil {
			return false, err
		}
	}
	switch digest(j.Dir, j.User) {
	case j.New:
		return true, finishProfile(d, home, j)
	case j.Old:
		return false, undoYAML(d, home, j)
	default:
		return false, nil
	}
}

// finishPlacing places the files that are not in place yet, unless there has
// been another login since.
func finishPlacing(d *disk, j *journal) error {
	now, err := readFolder(j.Dir)
	if err != nil {
		return err
	}
	fresh, err := readFolder(j.Build)
	if err != nil {
		return err
	}
	if (ownership{j.User}).judge(now, j.old(), fresh) == foreign {
		return nil
	}
	return mirror(d, j.Build, j.Dir, j.User)
}

// finishProfile places the profile and the current one's name, unless another
// program has changed them since.
func finishProfile(d *disk, home string, j *journal) error {
	there, err := os.ReadFile(keypaths.ProfileFilePath(home, j.Profile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(there) == string(j.OldYAML) {
		if err := placeYAML(d, home, j); err != nil {
			return err
		}
	}
	there, err = os.ReadFile(keypaths.CurrentProfileFilePath(home))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(there) != string(j.OldCurrent) {
		return nil
	}
	return placeCurrent(d, home, j)
}

// removeOrphans removes new folders without a journal.
func removeOrphans(d *disk, home string) error {
	left, err := orphans(home)
	errs := []error{err}
	for _, dir := range left {
		errs = append(errs, d.removeAll(dir))
	}
	return errors.Join(errs...)
}

// orphans returns the folders that installers have made, and copies of old
// ones. They are beside those they were to replace.
func orphans(home string) ([]string, error) {
	keys := keypaths.KeyDir(home)
	entries, err := os.ReadDir(keys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	beside := map[string]bool{keys: true}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if dir, err := resolve(filepath.Join(keys, e.Name())); err == nil {
			beside[filepath.Dir(dir)] = true
		}
	}
	var found []string
	for dir := range beside {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && isBuild(e.Name()) {
				found = append(found, filepath.Join(dir, e.Name()))
			}
		}
	}
	return found, nil
}

// realHome returns a home's own path, behind symbolic links.
func realHome(home string) (string, error) {
	if home == "" {
		return "", errors.New("install: no home is given")
	}
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("home %q: %w", home, err)
	}
	resolved, err := resolve(abs)
	if err != nil {
		return "", fmt.Errorf("home %q: %w", home, err)
	}
	return resolved, nil
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log.With("component", "install")
}
