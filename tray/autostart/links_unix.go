//go:build !windows && !darwin

package autostart

import (
	"context"
	"os/exec"
	"path/filepath"
	"time"
)

// cacheWait is how long the desktop's own index of entries may take.
const cacheWait = 10 * time.Second

// InstallLinks has the desktop hand berth links to the program at a path, for this
// user.
func InstallLinks(ctx context.Context, program string, env func(string) string) (Result, error) {
	path, err := linksPath(env)
	if err != nil {
		return Result{}, err
	}
	r, err := writeEntry(path, linkEntry(program))
	if err == nil {
		reindex(ctx, filepath.Dir(path))
	}
	return r, err
}

// UninstallLinks takes that back.
func UninstallLinks(ctx context.Context, env func(string) string) (Result, error) {
	path, err := linksPath(env)
	if err != nil {
		return Result{}, err
	}
	r, err := removeEntry(path)
	if err == nil && r.Changed {
		reindex(ctx, filepath.Dir(path))
	}
	return r, err
}

// linksPath is where desktops look for a user's applications.
func linksPath(env func(string) string) (string, error) {
	data := env("XDG_DATA_HOME")
	if !filepath.IsAbs(data) {
		home, err := homeDir(env)
		if err != nil {
			return "", err
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "applications", linksName+".desktop"), nil
}

// reindex has the desktop look at its entries again. Where there is no such program
// the desktop reads the entries themselves, or does so at the next login.
func reindex(ctx context.Context, folder string) {
	ctx, cancel := context.WithTimeout(ctx, cacheWait)
	defer cancel()
	_ = exec.CommandContext(ctx, "update-desktop-database", folder).Run()
}
