//go:build !windows && !darwin

package osservice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"berth/internal/atomicfile"
)

// autostart is the desktop's own list of what to start at login.
type autostart struct {
	cfg  Config
	file string
}

func newAutostart(cfg Config) (*autostart, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the config folder: %w", err)
	}
	return &autostart{cfg: cfg, file: filepath.Join(dir, "autostart", cfg.Name+"-agent.desktop")}, nil
}

func (a *autostart) Kind() Kind { return KindAutostart }

func (a *autostart) Status(context.Context) (Status, error) {
	st := Status{Kind: KindAutostart, File: a.file}
	have, err := os.ReadFile(a.file)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("read the autostart entry: %w", err)
	}
	st.Installed = true
	st.Enabled = !desktopDisabled(string(have))
	st.Program = desktopProgram(string(have))
	st.ProgramMissing = missing(st.Program)
	return st, nil
}

func (a *autostart) Install(context.Context) (Change, error) {
	want := desktopEntry(a.cfg)
	change := Created
	if have, err := os.ReadFile(a.file); err == nil {
		if string(have) == want {
			return Unchanged, nil
		}
		change = Updated
	}
	if err := os.MkdirAll(filepath.Dir(a.file), 0o700); err != nil {
		return "", fmt.Errorf("create the autostart folder: %w", err)
	}
	if err := atomicfile.Write(a.file, []byte(want), 0o644); err != nil {
		return "", err
	}
	return change, nil
}

func (a *autostart) Uninstall(context.Context) error {
	if err := os.Remove(a.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the autostart entry: %w", err)
	}
	return nil
}

func (a *autostart) Start(ctx context.Context) error { return startDetached(ctx, a.cfg) }

func (a *autostart) Stop(context.Context) error { return errUnsupervised }

func (a *autostart) Restart(context.Context) error { return errUnsupervised }
