package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// oldSuffix ends the name of the copy of the old files, kept while the new
// ones are placed one by one.
const oldSuffix = "-old"

// placeFiles makes the old folder hold what the new one does, file by file.
func (in *installer) placeFiles(j *journal) error {
	old, err := readFolder(j.Dir)
	if err != nil {
		return err
	}
	if err := copyAll(in.disk, j.Dir, j.Build+oldSuffix, old); err != nil {
		return err
	}
	j.Placing, j.OldSums = true, map[string][]byte{}
	for path, e := range old {
		if e.mode.IsRegular() {
			j.OldSums[path] = e.sum[:]
		}
	}
	if err := j.write(in.disk, in.home); err != nil {
		return err
	}
	return mirror(in.disk, j.Build, j.Dir, j.User)
}

// copyAll makes a folder with copies of all files of another. Links would not
// do: they change with the file, and it is to be seen later who changed it.
func copyAll(d *disk, from, to string, files folder) error {
	if err := d.mkdir(to); err != nil {
		return err
	}
	for _, path := range files.paths() {
		e := files[path]
		if e.mode.IsDir() {
			if err := d.mkdir(filepath.Join(to, path)); err != nil {
				return err
			}
		}
		if !e.mode.IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, path))
		if errors.Is(err, fs.ErrNotExist) {
			return errDisturbed
		}
		if err == nil {
			err = d.create(filepath.Join(to, path), data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mirror makes the session's files in to those in from, each in one step. It
// can be done again after it was cut short. All are written beside their
// places before the first is placed: then there is room for them.
func mirror(d *disk, from, to, user string) error {
	own := ownership{user}
	src, err := readFolder(from)
	if err != nil {
		return err
	}
	dst, err := readFolder(to)
	if err != nil {
		return err
	}
	var differ []string
	for _, path := range own.ordered(src.paths()) {
		e := src[path]
		if have, ok := dst[path]; e.mode.IsRegular() && (!ok || !have.sameFile(e)) {
			differ = append(differ, path)
		}
	}
	for _, path := range differ {
		if err := writeBeside(d, filepath.Join(from, path), filepath.Join(to, path)); err != nil {
			return err
		}
	}
	for _, path := range differ {
		target := filepath.Join(to, path)
		if err := d.rename(target+tempSuffix, target); err != nil {
			return err
		}
		if path == user+keySuffix {
			unlock, err := lockKey(context.Background(), d, target) // until its certificate is there too
			if err != nil {
				return err
			}
			defer unlock()
		}
	}
	return removeOthers(d, to, dst, src, own)
}

// writeBeside writes what is at from beside target, for a rename.
func writeBeside(d *disk, from, target string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := d.mkdirAll(filepath.Dir(target)); err != nil {
		return err
	}
	if err := d.remove(target + tempSuffix); err != nil {
		return err
	}
	return d.create(target+tempSuffix, data)
}

// removeOthers removes the user's files in dir that are not in wanted.
func removeOthers(d *disk, dir string, have, wanted folder, own ownership) error {
	paths := have.paths()
	slices.Reverse(paths) // what is in a folder before the folder
	for _, path := range paths {
		_, stays := wanted[path]
		temp := strings.HasSuffix(path, tempSuffix)
		if stays || !temp && !own.session(path, have[path]) {
			continue
		}
		if err := d.remove(filepath.Join(dir, path)); err != nil && !have[path].mode.IsDir() {
			return err
		}
	}
	return nil
}

// putBack undoes placeFiles, by renames as far as can be: the disk may be full.
func putBack(d *disk, j *journal) error {
	from := j.Build + oldSuffix
	old, err := readFolder(from)
	if err != nil {
		return err
	}
	now, err := readFolder(j.Dir)
	if err != nil {
		return err
	}
	own := ownership{j.User}
	if err := removeOthers(d, j.Dir, now, old, own); err != nil {
		return err
	}
	for _, path := range own.ordered(old.paths()) {
		source, target := filepath.Join(from, path), filepath.Join(j.Dir, path)
		if e := old[path]; !e.mode.IsRegular() || now[path].sameFile(e) {
			continue
		}
		if err := d.mkdirAll(filepath.Dir(target)); err != nil {
			return err
		}
		if d.rename(source, target) == nil {
			continue
		}
		if err := writeBeside(d, source, target); err != nil { // another file system
			return err
		}
		if err := d.rename(target+tempSuffix, target); err != nil {
			return err
		}
	}
	return nil
}

// carry brings over what others wrote into the old folder between the last look
// at it and the exchange.
func (in *installer) carry(j *journal, before folder) error {
	after, err := readFolder(j.Build)
	if err != nil || j.Placing || len(after) == 0 {
		return err
	}
	own := ownership{in.user}
	for _, path := range after.paths() {
		e := after[path]
		if have, ok := before[path]; ok && have.sum == e.sum || !e.mode.IsRegular() || own.session(path, e) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(j.Build, path))
		if err != nil {
			return err
		}
		target := filepath.Join(j.Dir, path)
		if err := in.disk.mkdirAll(filepath.Dir(target)); err != nil {
			return err
		}
		if err := in.disk.replace(target, target+tempSuffix, data); err != nil {
			return err
		}
	}
	for path, e := range before {
		if _, ok := after[path]; ok || e.mode.IsDir() || own.session(path, e) {
			continue
		}
		if err := in.disk.remove(filepath.Join(j.Dir, path)); err != nil {
			return err
		}
	}
	return nil
}

// back undoes what commit has done, after it could not be completed.
func (in *installer) back(j *journal) error {
	var err error
	switch _, gone := os.Lstat(j.Build); {
	case j.Placing:
		err = putBack(in.disk, j)
	case j.New != j.Old && digest(j.Dir, j.User) != j.New: // nothing was placed
	case errors.Is(gone, fs.ErrNotExist):
		err = in.disk.rename(j.Dir, j.Build)
	case digest(j.Build, j.User) == j.Old:
		err = in.disk.exchange(j.Build, j.Dir)
	}
	if err == nil {
		err = undoYAML(in.disk, in.home, j)
	}
	if err != nil {
		return fmt.Errorf("undo: %w", err) // the journal stays, for Recover
	}
	return clean(in.disk, in.home, j)
}

// clean removes everything that was only needed on the way. The journal goes
// before the folders, which must be whole for as long as it speaks of them.
func clean(d *disk, home string, j *journal) error {
	paths := []string{
		keypaths.ProfileFilePath(home, j.Profile) + tempSuffix,
		keypaths.CurrentProfileFilePath(home) + tempSuffix,
		keypaths.KnownHostsPath(home) + tempSuffix,
		journalPath(home) + tempSuffix,
	}
	if now, err := readFolder(j.Dir); err == nil {
		for path := range now {
			if strings.HasSuffix(path, tempSuffix) {
				paths = append(paths, filepath.Join(j.Dir, path))
			}
		}
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, d.removeAll(path))
	}
	if err := d.remove(journalPath(home)); err != nil {
		return fmt.Errorf("clean up: %w", errors.Join(append(errs, err)...))
	}
	errs = append(errs, d.removeAll(j.Build), d.removeAll(j.Build+oldSuffix))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// stageProfile writes the profile and the name of the current one beside those
// that they will replace, so that there is room on the disk for them.
func (in *installer) stageProfile(j *journal) error {
	if j.YAML != nil {
		temp := keypaths.ProfileFilePath(in.home, j.Profile) + tempSuffix
		if err := in.disk.create(temp, j.YAML); err != nil {
			return err
		}
	}
	if !j.Current {
		return nil
	}
	return in.disk.create(keypaths.CurrentProfileFilePath(in.home)+tempSuffix, currentLine(j))
}

func currentLine(j *journal) []byte { return []byte(j.Profile + "\n") }

// placeYAML puts the new profile in its place.
func placeYAML(d *disk, home string, j *journal) error {
	if j.YAML == nil {
		return nil
	}
	return placeFile(d, keypaths.ProfileFilePath(home, j.Profile), j.YAML)
}

// placeCurrent makes the profile the current one, if it is to be.
func placeCurrent(d *disk, home string, j *journal) error {
	if !j.Current {
		return nil
	}
	return placeFile(d, keypaths.CurrentProfileFilePath(home), currentLine(j))
}

// placeFile makes data the content of a file in the home, using what
// stageProfile wrote if it is there.
func placeFile(d *disk, path string, data []byte) error {
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, data) {
		return nil
	}
	temp := path + tempSuffix
	target, err := resolve(path)
	if err != nil {
		return err
	}
	if target != path { // a link to a file that may be on another file system
		return d.replace(target, target+tempSuffix, data)
	}
	if there, err := os.ReadFile(temp); err == nil && bytes.Equal(there, data) {
		return d.rename(temp, path)
	}
	return d.replace(path, temp, data)
}

// undoYAML brings the old profile back, if the new one is there.
func undoYAML(d *disk, home string, j *journal) error {
	path := keypaths.ProfileFilePath(home, j.Profile)
	there, err := os.ReadFile(path)
	switch {
	case j.YAML == nil || errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !bytes.Equal(there, j.YAML):
		return nil
	case j.OldYAML == nil:
		return d.remove(path)
	default:
		return placeFile(d, path, j.OldYAML)
	}
}

// mergeKnownHosts adds the lines that the home does not have. Others' lines
// stay: the file is of all profiles.
func (in *installer) mergeKnownHosts(ctx context.Context) error {
	path, err := resolve(keypaths.KnownHostsPath(in.home))
	if err != nil {
		return err
	}
	unlock, err := lockAsTSH(ctx, in.disk, path, hostsWait)
	if err != nil {
		return err
	}
	defer unlock()
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	merged := mergeLines(have, in.knownHosts)
	if bytes.Equal(have, merged) {
		return nil
	}
	return in.disk.replace(path, path+tempSuffix, merged)
}

// mergeLines returns have with the lines of more that it lacks.
func mergeLines(have, more []byte) []byte {
	known := map[string]bool{"": true}
	for line := range bytes.Lines(have) {
		known[string(bytes.TrimSpace(line))] = true
	}
	merged := bytes.Clone(have)
	for line := range bytes.Lines(more) {
		text := string(bytes.TrimSpace(line))
		if known[text] {
			continue
		}
		known[text] = true
		if len(merged) > 0 && merged[len(merged)-1] != '\n' {
			merged = append(merged, '\n')
		}
		merged = append(append(merged, text...), '\n')
	}
	return merged
}
