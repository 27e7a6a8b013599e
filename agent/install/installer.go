package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/utils/keypaths"

	"berth/internal/wake"
)

const (
	// attempts is how often an installation starts over because something else
	// changed the folder meanwhile.
	attempts = 5
	// After the new session is in place it is looked at a moment later: tsh,
	// when it was just writing, would have mixed an old file into it.
	settleTime   = 30 * time.Millisecond
	settleRounds = 20
	stillRounds  = 4 // after which what does not change is what it stays
)

// errDisturbed says that something else changed the folder meanwhile.
var errDisturbed = errors.New("another program keeps changing the session's files")

// An installer replaces a user's session in a home.
type installer struct {
	disk *disk
	log  *slog.Logger

	home    string // symbolic links resolved
	profile string
	user    string

	// fresh is what is written, by path below keys/PROXY.
	fresh map[string][]byte
	// stays says which entries of the old folder are also in the new one.
	stays func(path string, e entry) bool
	// check refuses what is about to be replaced; nil means that all is well.
	check func(dir string) error

	yaml       []byte // the profile's new content; nil means that it stays
	cluster    string // that it selects
	knownHosts []byte // what the home must know; nil means nothing

	written folder // a picture of the new folder
}

// run installs. It is all or nothing.
func (in *installer) run(ctx context.Context) error {
	unlock, err := lockHome(ctx, in.disk, in.home)
	if err != nil {
		return err
	}
	defer unlock()
	if err := recoverHome(in.disk, in.home, in.log); err != nil {
		return err
	}
	for range attempts {
		err = in.attempt(ctx)
		if !errors.Is(err, errDisturbed) || ctx.Err() != nil {
			break
		}
		in.log.Info("session's files changed while they were replaced; once more", "home", in.home)
	}
	return err
}

// attempt installs, unless it is disturbed.
func (in *installer) attempt(ctx context.Context) error {
	j, err := in.plan()
	if err != nil {
		return err
	}
	before, err := readFolder(j.Dir)
	if err != nil {
		return err
	}
	if in.check != nil {
		if err := in.check(j.Dir); err != nil {
			return err
		}
	}
	if err := in.prepare(ctx, j, before); err != nil {
		return errors.Join(err, clean(in.disk, in.home, j))
	}
	if err := in.commit(ctx, j, before); err != nil {
		return errors.Join(err, in.back(j)) // which cleans up
	}
	err = in.settle(ctx, j, before)
	if left := clean(in.disk, in.home, j); left != nil {
		in.log.Warn("something is left behind; the next installation removes it", "home", in.home, "err", left)
	}
	return err
}

// plan finds out what is to be replaced. It changes nothing.
func (in *installer) plan() (*journal, error) {
	dir, err := resolve(keypaths.ProxyKeyDir(in.home, in.profile))
	if err != nil {
		return nil, err
	}
	j := &journal{
		Profile: in.profile, User: in.user, Dir: dir,
		Build: filepath.Join(filepath.Dir(dir), newBuild()),
		Old:   digest(dir, in.user),
	}
	j.OldYAML, err = os.ReadFile(keypaths.ProfileFilePath(in.home, in.profile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if in.yaml == nil {
		return j, nil
	}
	j.Current = err != nil // no such profile yet
	j.OldCurrent, err = os.ReadFile(keypaths.CurrentProfileFilePath(in.home))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !bytes.Equal(j.OldYAML, in.yaml) {
		j.YAML = in.yaml
		j.YAMLFirst = in.yamlFirst(j)
	}
	return j, nil
}

// yamlFirst reports whether the home is at no moment broken if the profile is
// written first. With another user that is never so: the old user's files stay,
// and the profile decides who is logged in. Else both must have a certificate
// for the cluster that is selected in between.
func (in *installer) yamlFirst(j *journal) bool {
	old, err := parseYAML(j.OldYAML)
	if err != nil || old.User != in.user || old.Cluster == in.cluster {
		return false
	}
	name := func(cluster string) string { return filepath.Join(in.user+sshSuffix, cluster+sshCertTail) }
	if _, ok := in.fresh[name(old.Cluster)]; ok {
		return false
	}
	_, err = os.Stat(filepath.Join(j.Dir, name(in.cluster)))
	return err == nil
}

// prepare writes all new files where no program looks for them.
func (in *installer) prepare(ctx context.Context, j *journal, before folder) error {
	if err := j.write(in.disk, in.home); err != nil {
		return err
	}
	if err := in.disk.mkdirAll(filepath.Dir(j.Build)); err != nil {
		return err
	}
	if err := in.build(j.Build, j.Dir, before); err != nil {
		return err
	}
	j.New = digest(j.Build, in.user)
	var err error
	if in.written, err = readFolder(j.Build); err != nil {
		return err
	}
	if _, err := readSession(j.Build, in.user); err != nil {
		return fmt.Errorf("check the new session: %w", err)
	}
	if err := j.write(in.disk, in.home); err != nil {
		return err
	}
	if err := in.stageProfile(j); err != nil {
		return err
	}
	return in.mergeKnownHosts(ctx)
}

// build makes the new folder, complete and synced.
func (in *installer) build(build, dir string, before folder) error {
	if err := in.disk.mkdir(build); err != nil {
		return err
	}
	made := map[string]bool{build: true}
	for _, path := range before.paths() {
		e := before[path]
		if !in.stays(path, e) || in.fresh[path] != nil || e.mode.IsDir() {
			continue
		}
		to := filepath.Join(build, path)
		if err := in.parents(build, path, made); err != nil {
			return err
		}
		err := in.disk.link(filepath.Join(dir, path), to)
		if errors.Is(err, fs.ErrNotExist) {
			return errDisturbed
		}
		if err != nil {
			return err
		}
	}
	fresh := make([]string, 0, len(in.fresh))
	for path := range in.fresh {
		fresh = append(fresh, path)
	}
	for _, path := range (ownership{in.user}).ordered(fresh) {
		if err := in.parents(build, path, made); err != nil {
			return err
		}
		if err := in.disk.create(filepath.Join(build, path), in.fresh[path]); err != nil {
			return err
		}
	}
	for path := range made {
		if err := in.disk.syncDir(path); err != nil {
			return err
		}
	}
	return nil
}

// parents makes the folders above path in build.
func (in *installer) parents(build, path string, made map[string]bool) error {
	at := build
	names := strings.Split(path, string(filepath.Separator))
	for _, name := range names[:len(names)-1] {
		at = filepath.Join(at, name)
		if made[at] {
			continue
		}
		if err := in.disk.mkdir(at); err != nil {
			return err
		}
		made[at] = true
	}
	return nil
}

// commit puts what was prepared in its place, if nothing has changed since.
func (in *installer) commit(ctx context.Context, j *journal, before folder) error {
	unlock, err := lockKey(ctx, in.disk, filepath.Join(j.Dir, in.user+keySuffix))
	if err != nil {
		return err
	}
	defer unlock()
	now, err := readFolder(j.Dir)
	if err != nil {
		return err
	}
	if !before.same(now) {
		return errDisturbed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.YAMLFirst {
		if err := placeYAML(in.disk, in.home, j); err != nil {
			return err
		}
	}
	if err := in.place(j); err != nil {
		return err
	}
	if err := in.carry(j, before); err != nil {
		return err
	}
	if err := placeYAML(in.disk, in.home, j); err != nil {
		return err
	}
	return placeCurrent(in.disk, in.home, j)
}

// place puts the new folder where the old one is: in one step if that can be.
func (in *installer) place(j *journal) error {
	if _, err := os.Lstat(j.Dir); errors.Is(err, fs.ErrNotExist) {
		return in.disk.rename(j.Build, j.Dir)
	}
	err := in.disk.exchange(j.Build, j.Dir)
	if !cannotExchange(err) {
		return err
	}
	in.log.Debug("no exchange of folders here; files are replaced one by one", "home", in.home, "err", err)
	return in.placeFiles(j)
}

// settle looks whether the new session stays in place. When another program
// was just writing its own, the two may have been mixed.
func (in *installer) settle(ctx context.Context, j *journal, before folder) error {
	var last folder
	for awake, round, still := true, 0, 0; awake && round < settleRounds && still < stillRounds; round++ {
		awake = wake.Sleep(ctx, settleTime) // once ctx has ended, one look must do
		now, err := readFolder(j.Dir)
		if err != nil {
			continue // it is changing
		}
		if still++; !now.same(last) {
			still, last = 0, now
		}
		switch (ownership{in.user}).judge(now, before, in.written) {
		case isNew:
			return nil
		case foreign:
			if _, err := readSession(j.Dir, in.user); err == nil {
				in.log.Info("another session has replaced the one just installed", "home", in.home)
				return nil
			}
		case isOurs: // perhaps the other is not done yet
		}
	}
	return errDisturbed
}

// resolve follows the symbolic links in path, whose end need not exist.
func resolve(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return resolved, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%q is a symbolic link that leads nowhere", path)
	}
	parent, err := resolve(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}
