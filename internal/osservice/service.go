package osservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Kind is a way to start the program.
type Kind string

// The kinds.
const (
	KindSystemd   Kind = "systemd"
	KindLaunchd   Kind = "launchd"
	KindAutostart Kind = "autostart"
	KindRunKey    Kind = "run_key"
)

// Supervises reports whether the manager knows if the program runs, restarts
// it when it fails, and can stop it.
func (k Kind) Supervises() bool { return k == KindSystemd || k == KindLaunchd }

// Config says what to make a service of.
type Config struct {
	// Name tells services of one user apart: letters, digits and hyphens.
	Name string
	// Description is shown by the system's tools.
	Description string
	// Program is the absolute path of the program, Args are its arguments.
	Program string
	Args    []string
	// Env are the variables that the program needs besides those that the
	// system sets. The Run key has no place for them.
	Env []EnvVar
	// LogDir is where launchd puts what the program prints. The folder must
	// exist when the service starts.
	LogDir string
}

// EnvVar is a variable of the environment.
type EnvVar struct{ Name, Value string }

// Status describes the service as the system knows it.
type Status struct {
	Kind      Kind
	Installed bool
	// Enabled says whether it starts at the next login.
	Enabled bool
	// File is the unit, plist or desktop entry, or the registry's value.
	File string
	// Program is the file that the installed service starts; empty if unknown.
	Program string
	// ProgramMissing says that Program is not there any more.
	ProgramMissing bool
	// Running and PID are set by managers that supervise.
	Running bool
	PID     int
	// Trouble is the manager's word for what is wrong; empty if nothing is.
	Trouble string
	// ReadyAfter is how long the running program took from its start to
	// saying that it is ready. Zero means unknown.
	ReadyAfter time.Duration
	// Lingers says whether it runs while the user is not logged in.
	Lingers bool
	// CanLinger says whether the system could do that.
	CanLinger bool
}

// Change says what an installation did.
type Change string

// The changes.
const (
	Created   Change = "created"
	Updated   Change = "updated"
	Unchanged Change = "unchanged"
)

// Manager is one system's way to look after the service.
type Manager interface {
	// Kind says which way.
	Kind() Kind
	// Status asks the system. It is no error if nothing is installed.
	Status(ctx context.Context) (Status, error)
	// Install makes the service start at every login; it does not start it.
	Install(ctx context.Context) (Change, error)
	// Uninstall undoes Install. It does not stop what a manager that does
	// not supervise has started.
	Uninstall(ctx context.Context) error
	// Start starts the installed service. Where the program reports to the
	// manager that it is ready, Start waits for that.
	Start(ctx context.Context) error
	// Stop stops it. It is errUnsupervised where the manager cannot.
	Stop(ctx context.Context) error
	// Restart is Stop and Start.
	Restart(ctx context.Context) error
}

var (
	// errUnsupervised says that the manager only starts the program.
	errUnsupervised = errors.New("the system does not look after the program once it runs")
	// ErrNotInstalled says that there is no such service.
	ErrNotInstalled = errors.New("the service is not installed")
)

// NoManagerError says that the system has a manager for users' services, and
// that this user's cannot be reached.
type NoManagerError struct{ Reason string }

func (e *NoManagerError) Error() string {
	return "the user's service manager cannot be reached: " + e.Reason
}

// New returns the manager of this system.
func New(cfg Config) (Manager, error) {
	if !filepath.IsAbs(cfg.Program) {
		return nil, fmt.Errorf("the service's program %q is no absolute path", cfg.Program)
	}
	if !plainName(cfg.Name) {
		return nil, fmt.Errorf("the service's name %q has more than letters, digits and hyphens", cfg.Name)
	}
	return newManager(cfg)
}

func plainName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return s != ""
}

// interruptible calls f, which knows nothing of contexts, and returns when it
// is done or ctx ends, whichever comes first.
func interruptible(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// replacing moves the file at path away while install writes a new one, and
// back if that fails.
func replacing(path string, install func() error) error {
	old := path + ".berth-old"
	err := os.Rename(path, old)
	if errors.Is(err, os.ErrNotExist) {
		return install()
	}
	if err != nil {
		return err
	}
	if err := install(); err != nil {
		return errors.Join(err, os.Rename(old, path))
	}
	return os.Remove(old)
}

func missing(program string) bool {
	if program == "" {
		return false
	}
	_, err := os.Stat(program)
	return errors.Is(err, os.ErrNotExist)
}
