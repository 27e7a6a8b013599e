package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/utils/keypaths"

	"berth/internal/wake"
)

const (
	// copyTries is how often berth copies a session that another program
	// rewrites meanwhile, and copyPause is the pause in between.
	copyTries = 5
	copyPause = 100 * time.Millisecond
)

// CopySession makes a private home that holds one session of the real one: its
// profile, its keys and its certificates, but none for single resources. What
// is installed there, or done there by tsh, changes the real one in nothing.
// Close removes it; after a crash, Recover does.
func CopySession(ctx context.Context, home, proxyHost, user string) (*Staging, error) {
	if !isName(proxyHost) || !isUser(user) {
		return nil, fmt.Errorf("copy a session: profile %q or user %q cannot be a file name", proxyHost, user)
	}
	for try := 1; ; try++ {
		s, err := NewStaging(ctx, home)
		if err != nil {
			return nil, err
		}
		err = s.copySession(proxyHost, user)
		if err == nil {
			return s, nil
		}
		if closeErr := s.Close(); try == copyTries || closeErr != nil {
			return nil, errors.Join(fmt.Errorf("copy the session of %q at %q: %w", user, proxyHost, err), closeErr)
		}
		if !wake.Sleep(ctx, copyPause) { // it is being written
			return nil, ctx.Err()
		}
	}
}

// copySession copies the session's files, and checks that they belong together.
func (s *Staging) copySession(proxyHost, user string) error {
	from, err := resolve(keypaths.ProxyKeyDir(s.home, proxyHost))
	if err != nil {
		return err
	}
	files, err := readFolder(from)
	if err != nil {
		return err
	}
	own := ownership{user}
	for path, e := range files {
		top, _, _ := strings.Cut(path, string(filepath.Separator))
		if resource := own.resourceFile(filepath.Join(path, "file")); resource || !own.session(path, e) && top != casName && top != allCAsName {
			delete(files, path)
		}
	}
	to := keypaths.ProxyKeyDir(s.Dir, proxyHost)
	if err := s.disk.mkdirAll(to); err != nil {
		return err
	}
	if err := copyFiles(s.disk, files, from, to); err != nil {
		return err
	}
	if _, err := readSession(to, user); err != nil {
		return err
	}
	profile, err := os.ReadFile(keypaths.ProfileFilePath(s.home, proxyHost))
	if err != nil {
		return err
	}
	knownHosts, err := os.ReadFile(keypaths.KnownHostsPath(s.home))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(
		s.disk.create(keypaths.ProfileFilePath(s.Dir, proxyHost), profile),
		s.disk.create(keypaths.KnownHostsPath(s.Dir), knownHosts),
		s.disk.create(keypaths.CurrentProfileFilePath(s.Dir), []byte(proxyHost+"\n")),
	)
}
