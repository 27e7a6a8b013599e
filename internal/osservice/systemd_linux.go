package osservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kardianos/service"
)

// systemctlWait bounds a question to the user manager.
const systemctlWait = 10 * time.Second

// packagedUnits are the folders in which packages put user units.
var packagedUnits = []string{"/usr/lib/systemd/user", "/usr/local/lib/systemd/user", "/etc/systemd/user"}

// newManager returns the user's systemd where systemd runs, else the
// desktop's autostart.
func newManager(cfg Config) (Manager, error) {
	if info, err := os.Stat("/run/systemd/system"); err != nil || !info.IsDir() {
		return newAutostart(cfg)
	}
	return newSystemd(cfg)
}

// systemd is the user's own service manager. Files, links and starts are
// kardianos/service's work; what it cannot tell is asked for here.
type systemd struct {
	cfg  Config
	unit string // the unit's name
	file string // the user's own unit file
	svc  service.Service
}

func newSystemd(cfg Config) (*systemd, error) {
	if strings.ContainsAny(cfg.Program, "\"'\\") {
		return nil, fmt.Errorf("systemd starts no program with quotes or backslashes in its path: move %s", cfg.Program)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("find the home folder: %w", err)
	}
	findRuntimeDir()
	svc, err := service.New(program{}, &service.Config{
		Name: cfg.Name, Description: cfg.Description, Executable: cfg.Program, Arguments: cfg.Args,
		Option: service.KeyValue{"UserService": true, "SystemdScript": Unit(cfg)},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the service: %w", err)
	}
	unit := cfg.Name + ".service"
	return &systemd{cfg: cfg, unit: unit, file: filepath.Join(home, ".config", "systemd", "user", unit), svc: svc}, nil
}

// findRuntimeDir mends the environment of shells that su or cron started:
// systemctl finds the user's manager through this variable alone.
func findRuntimeDir() {
	const name = "XDG_RUNTIME_DIR"
	dir := "/run/user/" + strconv.Itoa(os.Getuid())
	if os.Getenv(name) != "" {
		return
	}
	if _, err := os.Stat(filepath.Join(dir, "systemd")); err == nil {
		_ = os.Setenv(name, dir) // it can fail for bad names only
	}
}

// program satisfies kardianos/service, which never runs it: berth runs itself.
type program struct{}

func (program) Start(service.Service) error { return nil }
func (program) Stop(service.Service) error  { return nil }

func (s *systemd) Kind() Kind { return KindSystemd }

// packaged is the unit a package brought, if it is just the one wanted.
func (s *systemd) packaged() string {
	want := []byte(Unit(s.cfg))
	for _, dir := range packagedUnits {
		file := filepath.Join(dir, s.unit)
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, want) {
			return file
		}
	}
	return ""
}

func (s *systemd) Install(ctx context.Context) (Change, error) {
	before, err := s.Status(ctx)
	if err != nil {
		return "", err
	}
	have, err := os.ReadFile(s.file)
	switch {
	case err == nil && string(have) == Unit(s.cfg):
		return s.enable(ctx, before, Unchanged)
	case err == nil:
		return Updated, s.write(ctx)
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the unit: %w", err)
	case s.packaged() != "":
		return s.enable(ctx, before, Unchanged)
	default:
		return Created, s.write(ctx)
	}
}

// write puts the user's unit in place, enables it and has the manager read it.
func (s *systemd) write(ctx context.Context) error {
	err := interruptible(ctx, func() error { return replacing(s.file, s.svc.Install) })
	if err != nil {
		return fmt.Errorf("install unit %s: %w", s.file, err)
	}
	return nil
}

// enable makes a unit that is there start at login.
func (s *systemd) enable(ctx context.Context, before Status, change Change) (Change, error) {
	if before.Enabled {
		return change, nil
	}
	if _, err := s.systemctl(ctx, "enable", s.unit); err != nil {
		return "", fmt.Errorf("enable unit %s: %w", s.unit, err)
	}
	return Created, nil
}

func (s *systemd) Uninstall(ctx context.Context) error {
	if _, err := os.Lstat(s.file); err == nil {
		if err := interruptible(ctx, s.svc.Uninstall); err != nil {
			return fmt.Errorf("uninstall unit %s: %w", s.file, err)
		}
	} else if _, err := s.systemctl(ctx, "disable", s.unit); err != nil {
		return fmt.Errorf("disable unit %s: %w", s.unit, err)
	}
	_, _ = s.systemctl(ctx, "reset-failed", s.unit) // it fails if nothing had failed
	return nil
}

func (s *systemd) Start(ctx context.Context) error { return s.do(ctx, "start", s.svc.Start) }

func (s *systemd) Stop(ctx context.Context) error { return s.do(ctx, "stop", s.svc.Stop) }

func (s *systemd) Restart(ctx context.Context) error { return s.do(ctx, "restart", s.svc.Restart) }

func (s *systemd) do(ctx context.Context, verb string, f func() error) error {
	if err := interruptible(ctx, f); err != nil {
		return fmt.Errorf("%s unit %s: %w", verb, s.unit, err)
	}
	return nil
}

func (s *systemd) Status(ctx context.Context) (Status, error) {
	out, err := s.systemctl(ctx, "show", s.unit, "--property="+strings.Join([]string{
		"LoadState", "ActiveState", "SubState", "Result", "MainPID", "UnitFileState", "FragmentPath", "ExecStart",
		"ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic",
	}, ","))
	if err != nil {
		return Status{}, err
	}
	st := unitStatus(properties(out))
	st.ProgramMissing = missing(st.Program)
	st.CanLinger, st.Lingers = true, lingers()
	return st, nil
}

// lingers reports whether the user's manager runs without a login.
func lingers() bool {
	u, err := user.Current()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join("/var/lib/systemd/linger", u.Username))
	return err == nil
}

// systemctl asks the user's manager.
func (s *systemd) systemctl(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, systemctlWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	said := lastLine(complaint.String())
	if errors.Is(err, exec.ErrNotFound) {
		return "", &NoManagerError{Reason: "systemctl is not in the PATH"}
	}
	if strings.Contains(said, "connect to bus") || strings.Contains(said, "connect to user scope bus") {
		return "", &NoManagerError{Reason: said}
	}
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return "", fmt.Errorf("systemctl --user %s: %w", args[0], err)
}
