package autostart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"berth/internal/atomicfile"
)

// Making an application takes a second or two; register is of the system's own.
const (
	appWait  = 30 * time.Second
	register = "/System/Library/Frameworks/CoreServices.framework/Frameworks/LaunchServices.framework/Support/lsregister"
)

// InstallLinks has the desktop hand berth links to the program at a path, for this
// user.
func InstallLinks(ctx context.Context, program string, env func(string) string) (Result, error) {
	if app := bundleOf(program); app != "" {
		ctx, cancel := context.WithTimeout(ctx, appWait)
		defer cancel()
		if err := exec.CommandContext(ctx, register, "-f", app).Run(); err != nil {
			return Result{Path: app}, fmt.Errorf("register the application for links: %w", err)
		}
		return Result{Path: app}, nil
	}
	app, err := linksPath(env)
	if err != nil {
		return Result{}, err
	}
	r, script := Result{Path: app}, linkScript(program)
	source := filepath.Join(app, "Contents", "Resources", "link.applescript")
	if old, err := os.ReadFile(source); err == nil && bytes.Equal(old, script) {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, appWait)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(app), 0o700); err != nil {
		return r, fmt.Errorf("make the folder of applications: %w", err)
	}
	if err := os.RemoveAll(app); err != nil {
		return r, fmt.Errorf("remove the application for links: %w", err)
	}
	compile := exec.CommandContext(ctx, "/usr/bin/osacompile", "-o", app, "-")
	compile.Stdin = bytes.NewReader(script)
	if out, err := compile.CombinedOutput(); err != nil {
		return r, fmt.Errorf("make the application for links: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := atomicfile.Write(filepath.Join(app, "Contents", "Info.plist"), linkPlist(), 0o644); err != nil {
		return r, fmt.Errorf("write the application for links: %w", err)
	}
	// The source is written last: it says that the application is whole.
	if err := atomicfile.Write(source, script, 0o644); err != nil {
		return r, fmt.Errorf("write the application for links: %w", err)
	}
	r.Changed = true
	if err := exec.CommandContext(ctx, register, "-f", app).Run(); err != nil {
		return r, fmt.Errorf("register the application for links: %w", err)
	}
	return r, nil
}

// UninstallLinks takes that back.
func UninstallLinks(ctx context.Context, env func(string) string) (Result, error) {
	app, err := linksPath(env)
	if err != nil {
		return Result{}, err
	}
	r := Result{Path: app}
	if _, err := os.Stat(app); errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, appWait)
	defer cancel()
	_ = exec.CommandContext(ctx, register, "-u", app).Run() // without its files it leads nowhere anyway
	if err := os.RemoveAll(app); err != nil {
		return r, fmt.Errorf("remove the application for links: %w", err)
	}
	r.Changed = true
	return r, nil
}

func linksPath(env func(string) string) (string, error) {
	home, err := homeDir(env)
	if err != nil {
		return "", err
	}
	return filepath.Join(home, "Applications", linksName+".app"), nil
}
