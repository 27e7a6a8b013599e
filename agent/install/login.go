package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/gravitational/teleport/api/utils/keypaths"
	"go.yaml.in/yaml/v3"
)

// Config says what Login installs, and where.
type Config struct {
	Staging   string       // the home that tsh has logged in to
	Home      string       // the home that gets the session; need not exist
	ProxyHost string       // the profile's name; empty means the staged home's only one
	User      string       // who must have logged in; empty means whoever has
	Logger    *slog.Logger // nil means no log

	// Before is called ahead of every single change to the disk with what it
	// is. An error from it keeps that change, and is how the installation then
	// ends. Nil means no call; it is for tests.
	Before func(step string) error
}

// UserError says that another user has logged in than the expected one.
type UserError struct{ Want, Got string }

// Error names both users.
func (e *UserError) Error() string {
	return fmt.Sprintf("%q has logged in, not %q; log in as %q, or log out first", e.Got, e.Want, e.Want)
}

// profileFile holds the keys of a profile that this package reads.
type profileFile struct {
	User    string `yaml:"user"`
	Cluster string `yaml:"cluster"`
}

func parseYAML(data []byte) (profileFile, error) {
	var f profileFile
	if err := yaml.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("profile: %w", err)
	}
	if !isUser(f.User) {
		return f, fmt.Errorf("profile: user %q cannot be a file name", f.User)
	}
	return f, nil
}

// isUser reports whether files can be named after a user.
func isUser(name string) bool { return isName(name) && name != casName && name != allCAsName }

// Login installs the session of a staged home: all of it, or nothing when it
// returns an error.
//
// The certificates that the old session had for single databases, Kubernetes
// clusters and applications go, as with a login by tsh. The profile becomes
// the current one only if the home had none of its name.
func Login(ctx context.Context, cfg Config) error {
	return login(ctx, cfg, &disk{before: cfg.Before})
}

func login(ctx context.Context, cfg Config, d *disk) error {
	in, err := staged(cfg)
	if err != nil {
		return fmt.Errorf("install session: %w", err)
	}
	in.disk = d
	if err := in.run(ctx); err != nil {
		return fmt.Errorf("install session of %q at %q: %w", in.user, in.profile, explain(in.home, err))
	}
	in.log.Info("session installed", "home", in.home, "profile", in.profile, "user", in.user)
	return nil
}

// staged reads the session to install and checks that it is whole.
func staged(cfg Config) (*installer, error) {
	home, err := realHome(cfg.Home)
	if err != nil {
		return nil, err
	}
	name := cfg.ProxyHost
	if name == "" {
		if name, err = onlyProfile(cfg.Staging); err != nil {
			return nil, err
		}
	}
	if !isName(name) {
		return nil, fmt.Errorf("profile name %q cannot be a file name", name)
	}
	in := &installer{log: orDiscard(cfg.Logger), home: home, profile: name, fresh: map[string][]byte{}}
	if in.yaml, err = os.ReadFile(keypaths.ProfileFilePath(cfg.Staging, name)); err != nil {
		return nil, fmt.Errorf("the login left no profile %q: %w", name, err)
	}
	profile, err := parseYAML(in.yaml)
	if err != nil {
		return nil, err
	}
	in.user, in.cluster = profile.User, profile.Cluster
	if cfg.User != "" && cfg.User != in.user {
		return nil, &UserError{Want: cfg.User, Got: in.user}
	}
	dir := keypaths.ProxyKeyDir(cfg.Staging, name)
	if err := in.checkStaged(dir); err != nil {
		return nil, fmt.Errorf("the login left no whole session: %w", err)
	}
	if err := in.readStaged(dir); err != nil {
		return nil, err
	}
	in.knownHosts, err = os.ReadFile(keypaths.KnownHostsPath(cfg.Staging))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	own := ownership{in.user}
	in.stays = func(path string, e entry) bool {
		return path != kubeLockName && (!own.session(path, e) || own.resourceFile(path) && !own.resource(path, e))
	}
	return in, nil
}

// onlyProfile returns the name of the one profile in a home.
func onlyProfile(home string) (string, error) {
	entries, err := os.ReadDir(home)
	if err != nil {
		return "", fmt.Errorf("staged home: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".yaml"); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("staged home %q holds %d profiles, want one: log in to one proxy there", home, len(names))
	}
	return names[0], nil
}

// checkStaged checks that the staged session is whole.
func (in *installer) checkStaged(dir string) error {
	s, err := readSession(dir, in.user)
	if err != nil {
		return err
	}
	if s.identity.User != in.user {
		return &UserError{Want: in.user, Got: s.identity.User}
	}
	if in.cluster == "" {
		in.cluster = s.identity.TeleportCluster
	}
	if s.sshCerts[in.cluster] == nil {
		return fmt.Errorf("there is no SSH certificate for cluster %q", in.cluster)
	}
	return nil
}

// readStaged reads all files of the staged session.
func (in *installer) readStaged(dir string) error {
	files, err := readFolder(dir)
	if err != nil {
		return err
	}
	for path, e := range files {
		if !e.mode.IsRegular() || isLock(path) {
			continue
		}
		if e.size > maxFile {
			return fmt.Errorf("staged file %q is larger than %d bytes", path, maxFile)
		}
		if in.fresh[path], err = os.ReadFile(filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	return nil
}
