// Package paths knows where berth's files live.
//
// BERTH_HOME, when set, puts all of them under one folder: tests and second
// instances use it. Without it they live in the platform's own places: the XDG
// folders on Linux, Library on macOS, AppData on Windows. The same environment
// always gives the same paths, so the agent and its clients meet. Where these are
// read-only, the agent's socket and lock are among the temporary files; where that
// has changed since the agent started, its clients find it all the same.
package paths

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// HomeVar is the environment variable that puts everything under one folder.
const HomeVar = "BERTH_HOME"

// MaxSocket is the longest path of a Unix socket that every system takes:
// macOS has room for 104 bytes, the last a zero.
const MaxSocket = 103

// Paths says where the files of one berth are. Resolve makes it.
type Paths struct {
	Config    string // the config file
	StateDir  string // the folder of everything berth keeps for itself
	StateFile string // what the agent remembers across restarts
	LogFile   string // the agent's log
	Socket    string // the agent's control socket; on Windows the name of its pipe
	Lock      string // held by the running agent: one per user or BERTH_HOME
	Home      string // BERTH_HOME's folder, which has all of these; empty when they are in the platform's places
}

// Resolve returns the paths of the current user's berth, going by env, usually
// os.Getenv. It creates nothing: see MakeDirs.
func Resolve(env func(string) string) (Paths, error) {
	id, err := userID()
	if err != nil {
		return Paths{}, fmt.Errorf("find out who runs berth: %w", err)
	}
	return resolver{goos: runtime.GOOS, env: env, id: id, home: passwdHome, private: ownPrivate, fixed: readOnly, served: served}.resolve()
}

// resolver holds what the paths depend on.
type resolver struct {
	goos    string
	env     func(string) string
	id      string                  // uid or, on Windows, SID
	home    func() (string, error)  // the home folder when the environment names none
	private func(path string) error // nil when path is a folder that only this user can enter
	served  func(path string) bool  // a program of this user listens at the socket
	fixed   func(path string) bool  // the file cannot be made, nor its folder, since what is there is read-only
}

func (r resolver) resolve() (Paths, error) {
	if home := r.env(HomeVar); home != "" {
		return r.underOne(home)
	}
	switch r.goos {
	case "windows":
		return r.windows()
	case "darwin", "ios":
		return r.darwin()
	default:
		return r.xdg()
	}
}

// lock puts the lock beside the socket where the state's folder is read-only. A
// file that an agent has left there can be locked still.
func (r resolver) lock(p Paths) Paths {
	dir := p.SocketDir()
	if dir == "" {
		return p
	}
	if _, err := os.Lstat(p.Lock); err != nil && r.fixed(p.Lock) {
		p.Lock = filepath.Join(dir, filepath.Base(p.Lock))
	}
	return p
}

// underOne puts everything under one folder.
func (r resolver) underOne(dir string) (Paths, error) {
	if rest, ok := strings.CutPrefix(dir, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		home, err := r.homeDir() // a service manager's environment is not expanded
		if err != nil {
			return Paths{}, err
		}
		dir = filepath.Join(home, rest)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Paths{}, fmt.Errorf("%s: %w", HomeVar, err)
	}
	p := state(filepath.Join(dir, "state"))
	p.Home, p.Config = dir, filepath.Join(dir, "config.yaml")
	if r.goos == "windows" {
		p.Socket = r.pipe(strings.ToLower(dir))
	} else {
		p.Socket = r.socket(filepath.Join(dir, "run"))
	}
	return r.lock(p), nil
}

func (r resolver) xdg() (Paths, error) {
	config, err := r.xdgDir("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return Paths{}, err
	}
	stateHome, err := r.xdgDir("XDG_STATE_HOME", ".local", "state")
	if err != nil {
		return Paths{}, err
	}
	p := state(filepath.Join(stateHome, "berth"))
	p.Config = filepath.Join(config, "berth", "config.yaml")
	p.Socket = r.socket(r.runtimeDir(p.StateDir))
	return r.lock(p), nil
}

// xdgDir is a folder of the XDG base directory specification, which says that
// a relative path in the variable is to be ignored.
func (r resolver) xdgDir(name string, fallback ...string) (string, error) {
	if dir := r.env(name); filepath.IsAbs(dir) {
		return filepath.Clean(dir), nil
	}
	home, err := r.homeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(append([]string{home}, fallback...)...), nil
}

// runtimeDir is where the socket goes: the user's runtime folder, if it is
// the user's indeed (su keeps the variable of another one), else under
// stateDir. The folder is looked for in its usual place as well, so that a
// client started without the variable, as by cron, finds the agent.
func (r resolver) runtimeDir(stateDir string) string {
	for _, dir := range []string{r.env("XDG_RUNTIME_DIR"), "/run/user/" + r.id} {
		if filepath.IsAbs(dir) && r.private(dir) == nil {
			return filepath.Join(dir, "berth")
		}
	}
	return filepath.Join(stateDir, "run")
}

func (r resolver) darwin() (Paths, error) {
	home, err := r.homeDir()
	if err != nil {
		return Paths{}, err
	}
	base := filepath.Join(home, "Library", "Application Support", "berth")
	p := state(filepath.Join(base, "state"))
	p.Config = filepath.Join(base, "config.yaml")
	p.LogFile = filepath.Join(home, "Library", "Logs", "berth", "agent.log")
	p.Socket = r.socket(filepath.Join(base, "run"))
	return r.lock(p), nil
}

func (r resolver) windows() (Paths, error) {
	roaming, local := r.env("APPDATA"), r.env("LOCALAPPDATA")
	if roaming == "" || local == "" {
		home, err := r.homeDir()
		if err != nil {
			return Paths{}, err
		}
		if roaming == "" {
			roaming = filepath.Join(home, "AppData", "Roaming")
		}
		if local == "" {
			local = filepath.Join(home, "AppData", "Local")
		}
	}
	p := state(filepath.Join(local, "berth"))
	p.Config = filepath.Join(roaming, "berth", "config.yaml")
	p.Socket = r.pipe("")
	return p, nil
}

// state is the paths of what lies in the state folder.
func state(dir string) Paths {
	return Paths{
		StateDir:  dir,
		StateFile: filepath.Join(dir, "state.json"),
		LogFile:   filepath.Join(dir, "agent.log"),
		Lock:      filepath.Join(dir, "agent.lock"),
	}
}

func (r resolver) homeDir() (string, error) {
	name := "HOME"
	if r.goos == "windows" {
		name = "USERPROFILE"
	}
	if dir := r.env(name); filepath.IsAbs(dir) {
		return filepath.Clean(dir), nil
	}
	dir, err := r.home()
	if err != nil || !filepath.IsAbs(dir) {
		return "", errors.Join(fmt.Errorf("no home folder: set %s to an absolute path", name), err)
	}
	return dir, nil
}

// socket is the path of the socket in dir. Where that would be longer than a
// socket's path can be, or is read-only, it is a short one in the folder of
// temporary files, named after the user and dir. An agent is found where it listens,
// though dir may have become read-only, or writable, since it started.
func (r resolver) socket(dir string) string {
	path, short := filepath.Join(dir, "agent.sock"), r.shortSocket(dir)
	switch {
	case len(path) > MaxSocket:
		return short
	case r.fixed(path) && !r.served(path), r.served(short) && !r.served(path):
		return short
	default:
		return path
	}
}

func (r resolver) shortSocket(dir string) (path string) {
	name := "berth-" + r.id + "-" + shortHash(dir)
	for _, tmp := range []string{r.env("TMPDIR"), "/tmp"} {
		if !filepath.IsAbs(tmp) {
			continue
		}
		if path = filepath.Join(tmp, name, "agent.sock"); len(path) <= MaxSocket {
			break
		}
	}
	return path
}

// served reports whether a program listens at the socket, in a folder that no other
// user can enter.
func served(path string) bool {
	if ownPrivate(filepath.Dir(path)) != nil {
		return false
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// pipe is the name of the control pipe. It holds the user's SID, so that no
// other user's agent has it by chance, and what tells instances apart.
func (r resolver) pipe(instance string) string {
	name := `\\.\pipe\berth-` + r.id
	if instance != "" {
		name += "-" + shortHash(instance)
	}
	return name
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// SocketDir is the folder of the socket, or empty for a pipe.
func (p Paths) SocketDir() string {
	if strings.HasPrefix(p.Socket, `\\`) {
		return ""
	}
	return filepath.Dir(p.Socket)
}

// TraySocket is where the running tray hears of a second one: a socket beside
// the agent's, or a pipe named like it.
func (p Paths) TraySocket() string {
	if dir := p.SocketDir(); dir != "" {
		return filepath.Join(dir, "tray.sock")
	}
	return p.Socket + "-tray"
}

// MetricsSocket is where the agent serves metrics unless the config says it: a socket
// beside its own, or a pipe named like it.
func (p Paths) MetricsSocket() string {
	if dir := p.SocketDir(); dir != "" {
		return filepath.Join(dir, "metrics.sock")
	}
	return p.Socket + "-metrics"
}

// LockPID is the file in which the holder of Lock notes its process id. It is
// not Lock itself, since Windows lets no program read a locked file.
func (p Paths) LockPID() string { return p.Lock + ".pid" }

// LastGoodConfig is a copy of the config file as it was last without mistakes.
func (p Paths) LastGoodConfig() string { return filepath.Join(p.StateDir, "config.last-good.yaml") }

// Demo is a file that berth-demo makes: it starts and ends the agent of these paths.
func (p Paths) Demo() string { return filepath.Join(p.StateDir, "demo") }

// Crashes is the file that notes when agents ended unexpectedly.
func (p Paths) Crashes() string { return p.Lock + ".crashes" }

// MakeDirs makes the folders of all paths, for the current user alone. It
// fails when the socket's folder is there but belongs to someone else.
func (p Paths) MakeDirs() error {
	if err := p.MakeFileDirs(); err != nil {
		return err
	}
	return p.MakeSocketDir()
}

// MakeFileDirs makes the folders of the config, the state and the log. An agent
// can serve without them.
func (p Paths) MakeFileDirs() error {
	for _, dir := range []string{filepath.Dir(p.Config), p.StateDir, filepath.Dir(p.LogFile)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create berth's folder: %w", err)
		}
	}
	// The state holds what only its user should read. The config's folder may
	// be part of a person's own collection and stays as it is.
	if err := os.Chmod(p.StateDir, 0o700); err != nil { //nolint:gosec // G302: it is a folder
		return fmt.Errorf("create berth's folder: %w", err)
	}
	return nil
}

// MakeSocketDir makes the folder of the socket, where it has one. It fails when the folder is there but belongs to someone else.
func (p Paths) MakeSocketDir() error {
	dir := p.SocketDir()
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the socket's folder: %w", err)
	}
	return p.secureSocketDir(dir)
}

// secureSocketDir closes the socket's folder to others, if it is ours.
func (p Paths) secureSocketDir(dir string) error {
	err := ownPrivate(dir)
	if !errors.Is(err, errOpen) {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // G302: it is a folder
		return fmt.Errorf("close the socket's folder to others: %w", err)
	}
	return ownPrivate(dir)
}

// CheckSocketDir says what is wrong with the socket's folder: a client that
// connects through a folder which someone else could have prepared might talk
// to an impostor. It returns nil for a pipe, which has its own protection, and
// an error that is fs.ErrNotExist when no agent has run yet.
func (p Paths) CheckSocketDir() error {
	dir := p.SocketDir()
	if dir == "" {
		return nil
	}
	return ownPrivate(dir)
}

// errOpen says that a folder is ours, but others may enter it.
var errOpen = errors.New("other users can enter it")

// ownPrivate returns nil when path is a folder, not a link to one, that
// belongs to the current user and that no other user can enter.
func ownPrivate(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch {
	case !info.IsDir():
		return &fs.PathError{Op: "use", Path: path, Err: errors.New("it is not a folder")}
	case !owned(info):
		return &fs.PathError{Op: "use", Path: path, Err: errors.New("it belongs to another user")}
	case open(info):
		return &fs.PathError{Op: "use", Path: path, Err: errOpen}
	}
	return nil
}
