package osservice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kardianos/service"
)

// launchctlWait bounds a question to launchd.
const launchctlWait = 10 * time.Second

// launchd starts the program as an agent of the user's login session. The file
// and its loading are kardianos/service's work.
type launchd struct {
	cfg  Config
	file string
	svc  service.Service
}

func newManager(cfg Config) (Manager, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("find the home folder: %w", err)
	}
	svc, err := service.New(program{}, &service.Config{
		Name: label(cfg.Name), Description: cfg.Description, Executable: cfg.Program, Arguments: cfg.Args,
		Option: service.KeyValue{
			"UserService": true, "RunAtLoad": true, "LogDirectory": cfg.LogDir, "LaunchdConfig": plistOf(cfg),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the service: %w", err)
	}
	return &launchd{cfg: cfg, file: filepath.Join(home, "Library", "LaunchAgents", label(cfg.Name)+".plist"), svc: svc}, nil
}

// program satisfies kardianos/service, which never runs it: berth runs itself.
type program struct{}

func (program) Start(service.Service) error { return nil }
func (program) Stop(service.Service) error  { return nil }

func (l *launchd) Kind() Kind { return KindLaunchd }

func (l *launchd) Install(ctx context.Context) (Change, error) {
	have, err := os.ReadFile(l.file)
	if err == nil && string(have) == plistOf(l.cfg) {
		return Unchanged, nil
	}
	change := Updated
	if errors.Is(err, fs.ErrNotExist) {
		change = Created
	}
	// What is loaded keeps its old plist until it is unloaded, whether it runs or fails.
	if _, loaded := l.list(ctx); loaded {
		if err := l.Stop(ctx); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(l.cfg.LogDir, 0o700); err != nil {
		return "", fmt.Errorf("create the log folder: %w", err)
	}
	if err := interruptible(ctx, func() error { return replacing(l.file, l.svc.Install) }); err != nil {
		return "", fmt.Errorf("install %s: %w", l.file, err)
	}
	return change, nil
}

func (l *launchd) Uninstall(ctx context.Context) error {
	if _, err := os.Lstat(l.file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := interruptible(ctx, l.svc.Uninstall); err != nil {
		return fmt.Errorf("uninstall %s: %w", l.file, err)
	}
	return nil
}

func (l *launchd) Start(ctx context.Context) error {
	// What failed stays loaded, and launchd loads nothing twice.
	if out, loaded := l.list(ctx); loaded {
		if pid, _ := launchdList(out); pid != 0 {
			return nil
		}
		if err := l.Stop(ctx); err != nil {
			return err
		}
	}
	return l.do(ctx, "start", l.svc.Start)
}

func (l *launchd) Stop(ctx context.Context) error { return l.do(ctx, "stop", l.svc.Stop) }

func (l *launchd) Restart(ctx context.Context) error { return l.do(ctx, "restart", l.svc.Restart) }

func (l *launchd) do(ctx context.Context, verb string, f func() error) error {
	if err := interruptible(ctx, f); err != nil {
		return fmt.Errorf("%s %s: %w", verb, label(l.cfg.Name), err)
	}
	return nil
}

func (l *launchd) Status(ctx context.Context) (Status, error) {
	st := Status{Kind: KindLaunchd, File: l.file}
	have, err := os.ReadFile(l.file)
	switch {
	case err == nil:
		st.Installed, st.Enabled, st.Program = true, true, plistProgram(have)
		st.ProgramMissing = missing(st.Program)
	case !errors.Is(err, fs.ErrNotExist):
		return st, fmt.Errorf("read the launchd agent: %w", err)
	}
	if out, loaded := l.list(ctx); loaded {
		st.PID, st.Trouble = launchdList(out)
		st.Running = st.PID != 0
	}
	return st, nil
}

// list is what launchd says of the service; false if it is not loaded.
func (l *launchd) list(ctx context.Context) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, launchctlWait)
	defer cancel()
	out, err := exec.CommandContext(ctx, "launchctl", "list", label(l.cfg.Name)).Output()
	return string(out), err == nil
}
