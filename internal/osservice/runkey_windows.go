package osservice

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/windows/registry"
)

// The places in HKEY_CURRENT_USER.
const (
	runKeyPath      = `Software\Microsoft\Windows\CurrentVersion\Run`
	approvedKeyPath = `Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run`
)

// runKey starts the program at login through the user's part of the registry.
type runKey struct{ cfg Config }

func newManager(cfg Config) (Manager, error) { return &runKey{cfg: cfg}, nil }

func (r *runKey) Kind() Kind { return KindRunKey }

func (r *runKey) Status(context.Context) (Status, error) {
	st := Status{Kind: KindRunKey, File: `HKCU\` + runKeyPath + `\` + r.cfg.Name}
	command, err := r.read()
	if err != nil || command == "" {
		return st, err
	}
	st.Installed = true
	st.Enabled = !r.switchedOff()
	if !st.Enabled {
		st.Trouble = "it was switched off in the Task Manager"
	}
	st.Program = runKeyProgram(command)
	st.ProgramMissing = missing(st.Program)
	return st, nil
}

// read returns the command that is registered, or nothing.
func (r *runKey) read() (string, error) {
	key, err := registry.OpenKey(registry.CURRENT_USER, runKeyPath, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open the Run key: %w", err)
	}
	defer key.Close()
	command, _, err := key.GetStringValue(r.cfg.Name)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the Run key: %w", err)
	}
	return command, nil
}

func (r *runKey) switchedOff() bool {
	key, err := registry.OpenKey(registry.CURRENT_USER, approvedKeyPath, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	defer key.Close()
	value, _, err := key.GetBinaryValue(r.cfg.Name)
	return err == nil && switchedOff(value)
}

func (r *runKey) Install(context.Context) (Change, error) {
	have, err := r.read()
	if err != nil {
		return "", err
	}
	want := runKeyCommand(r.cfg)
	off := r.switchedOff()
	if have == want && !off {
		return Unchanged, nil
	}
	key, _, err := registry.CreateKey(registry.CURRENT_USER, runKeyPath, registry.SET_VALUE)
	if err != nil {
		return "", fmt.Errorf("open the Run key: %w", err)
	}
	defer key.Close()
	if err := key.SetStringValue(r.cfg.Name, want); err != nil {
		return "", fmt.Errorf("write the Run key: %w", err)
	}
	if off {
		if err := remove(approvedKeyPath, r.cfg.Name); err != nil {
			return "", err
		}
	}
	if have == "" {
		return Created, nil
	}
	return Updated, nil
}

func (r *runKey) Uninstall(context.Context) error {
	return errors.Join(remove(runKeyPath, r.cfg.Name), remove(approvedKeyPath, r.cfg.Name))
}

// remove removes a value, which need not be there.
func remove(path, name string) error {
	key, err := registry.OpenKey(registry.CURRENT_USER, path, registry.SET_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf(`open HKCU\%s: %w`, path, err)
	}
	defer key.Close()
	if err := key.DeleteValue(name); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return fmt.Errorf(`remove HKCU\%s\%s: %w`, path, name, err)
	}
	return nil
}

func (r *runKey) Start(ctx context.Context) error { return startDetached(ctx, r.cfg) }

func (r *runKey) Stop(context.Context) error { return errUnsupervised }

func (r *runKey) Restart(context.Context) error { return errUnsupervised }
