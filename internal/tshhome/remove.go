package tshhome

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gravitational/teleport/api/utils/keypaths"
)

// Logout writes what "tsh logout --proxy --user" leaves: the user's keys and
// certificates go, the profile and the CAs stay.
func (h Home) Logout(name, user string) error {
	if err := h.removeUser(name, user); err != nil {
		return fmt.Errorf("log out of %q: %w", name, err)
	}
	return nil
}

// LogoutAll writes what "tsh logout" leaves: of all profiles nothing.
func (h Home) LogoutAll() error {
	profiles, err := filepath.Glob(filepath.Join(h.Dir, "*.yaml"))
	if err != nil {
		return fmt.Errorf("log out of all: %w", err)
	}
	if err := h.removeTree(keypaths.KeyDir(h.Dir)); err != nil {
		return fmt.Errorf("log out of all: %w", err)
	}
	rest := append(profiles, keypaths.CurrentProfileFilePath(h.Dir), keypaths.KnownHostsPath(h.Dir))
	for _, path := range rest {
		if err := h.remove(path); err != nil {
			return fmt.Errorf("log out of all: %w", err)
		}
	}
	return nil
}

// removeUser removes a user's keys and certificates, of both layouts.
func (h Home) removeUser(name, user string) error {
	files := []string{
		keypaths.UserTLSKeyPath(h.Dir, name, user),
		keypaths.TLSCertPath(h.Dir, name, user),
		keypaths.UserSSHKeyPath(h.Dir, name, user),
		keypaths.PublicKeyPath(h.Dir, name, user),
		keypaths.TLSCertPathLegacy(h.Dir, name, user),
	}
	for _, path := range files {
		if err := h.remove(path); err != nil {
			return err
		}
	}
	for _, dir := range h.userDirs(name, user) {
		if err := h.removeTree(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeTree removes a folder, its files securely.
func (h Home) removeTree(dir string) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return h.remove(path)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// remove deletes a file the way tsh does: the name goes first, then the
// content of the still open file is overwritten. A missing file is no error.
func (h Home) remove(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if h.Before != nil {
		if err := h.Before(path); err != nil {
			_ = f.Close() // nothing was written
			return err
		}
	}
	removeErr := os.Remove(path)
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write([]byte(strings.Repeat("\x00", int(info.Size()))))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if removeErr != nil { // Windows removes no open file
		return os.Remove(path)
	}
	return nil
}
