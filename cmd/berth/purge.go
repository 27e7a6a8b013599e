package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/internal/logfile"
	"berth/internal/paths"
	"berth/tray/autostart"
)

// keychain is the part of *secrets.Store that purge uses.
type keychain interface {
	Delete(ctx context.Context, k secrets.Key) error
	DeleteAll(ctx context.Context) error
}

// agreesToPurge asks before what a person wrote or typed is deleted: a config, which may
// be the only copy, or passwords.
func (s *agentService) agreesToPurge(ctx context.Context) error {
	own := s.paths.Config
	if !there(own) {
		own = s.paths.LastGoodConfig() // all that is left of it
	}
	what, rest := "your config, "+own, ", and berth's state, logs and stored passwords"
	if !there(own) {
		stored, err := memory.StoredSecrets(s.paths.StateFile)
		if err == nil && len(stored) == 0 {
			return nil
		}
		what, rest = "the passwords that berth has stored", ", and berth's state and logs"
	}
	if !s.app.canAsk() {
		return usageError{withHint(fmt.Errorf("--purge deletes %s, and there is no terminal to ask", what), "give --yes")}
	}
	if !s.app.confirm(ctx, "Delete "+what+rest+"?") {
		return errors.New("nothing was deleted")
	}
	return nil
}

// purge removes what is berth's own, and says what that was.
func (s *agentService) purge(ctx context.Context, kc keychain) error {
	forgotten, kcErr := s.forget(ctx, kc) // by what the state says, so it comes first
	if err := s.removeFiles(); err != nil {
		return errors.Join(err, kcErr)
	}
	if err := s.app.say("Config, state and logs are gone too."); err != nil {
		return err
	}
	if err := s.forgetTray(ctx); err != nil {
		return errors.Join(err, kcErr)
	}
	for _, k := range forgotten {
		if err := s.app.say("The %s of %s at %s is no longer in the keychain.", secretWord(k.Kind), k.User, k.Proxy); err != nil {
			return err
		}
	}
	return kcErr
}

// forgetTray stops the tray from starting at login, and links from being followed.
// Both belong to the user's usual berth, so a second one leaves them alone.
func (s *agentService) forgetTray(ctx context.Context) error {
	if s.app.env(paths.HomeVar) != "" {
		return nil
	}
	r, err := autostart.Uninstall(s.app.env)
	links, linksErr := autostart.UninstallLinks(ctx, s.app.env)
	if r.Changed {
		err = errors.Join(err, s.app.say("The tray no longer starts when you log in: %s", r.Path))
	}
	if links.Changed {
		linksErr = errors.Join(linksErr, s.app.say("berth:// links are no longer followed: %s", links.Path))
	}
	return errors.Join(err, linksErr)
}

// forget takes what berth keeps out of the keychain, and returns which people's
// secrets those were. A berth with a BERTH_HOME of its own takes its own only:
// the rest is that of the user's usual one.
func (s *agentService) forget(ctx context.Context, kc keychain) ([]secrets.Key, error) {
	known, err := memory.StoredSecrets(s.paths.StateFile)
	if err != nil {
		known = nil // it is going to be removed anyway
	}
	if s.app.env(paths.HomeVar) == "" {
		err = kc.DeleteAll(ctx)
	} else {
		err = nil
		for _, k := range known {
			if err = kc.Delete(ctx, k); err != nil {
				break
			}
		}
	}
	_, none := errors.AsType[*secrets.NoKeychainError](err)
	switch {
	case err == nil:
		return known, nil
	case none && len(known) == 0: // where there is no keychain, nothing is in it
		return nil, nil
	case len(known) == 0: // most likely nothing: many a keychain is locked for good
		return nil, s.app.say("berth's state lists no stored password. The keychain could not be read: %v.", err)
	default:
		return nil, withHint(fmt.Errorf("the keychain still has what berth stored in it: %w", err),
			`unlock the keychain and remove the entries named "berth" there`)
	}
}

// secretWord names a kind of secret in plain words.
func secretWord(k secrets.Kind) string {
	if k == secrets.TOTP {
		return "seed of one-time codes"
	}
	return "password"
}

// removeFiles removes config, state and logs; of the config's folder only the
// config, since it may be part of a person's own collection.
func (s *agentService) removeFiles() error {
	errs := []error{os.RemoveAll(s.paths.StateDir)}
	dir := filepath.Dir(s.paths.LogFile)
	files := slices.Concat(logfile.Files(s.paths.LogFile), logfile.Files(filepath.Join(dir, "tray.log")),
		[]string{s.paths.Config, filepath.Join(s.cfg.LogDir, "agent.output.log")})
	for _, file := range files {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, dir := range []string{s.paths.SocketDir(), filepath.Dir(s.paths.Config), s.cfg.LogDir} {
		_ = os.Remove(dir) // what is not empty is not berth's alone
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove berth's files: %w", err)
	}
	return nil
}
