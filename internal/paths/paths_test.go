package paths

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/internal/testneeds"
)

// fake is a resolver with an environment, and the folders that are private.
func fake(goos string, env map[string]string, private ...string) resolver {
	return resolver{
		goos: goos,
		env:  func(name string) string { return env[name] },
		id:   "1000",
		home: func() (string, error) { return "/home/db", nil },
		private: func(path string) error {
			if slices.Contains(private, path) {
				return nil
			}
			return fs.ErrNotExist
		},
		fixed:  func(path string) bool { return strings.HasPrefix(path, "/readonly/") },
		served: func(string) bool { return false },
	}
}

func TestResolve(t *testing.T) {
	testneeds.Unix(t, "the wanted paths are written with slashes and roots of Unix")
	long := "/home/" + strings.Repeat("x", 100)
	tests := map[string]struct {
		r    resolver
		want Paths
	}{
		"linux": {
			fake("linux", map[string]string{"HOME": "/home/alice", "XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000"),
			Paths{
				Config:    "/home/alice/.config/berth/config.yaml",
				StateDir:  "/home/alice/.local/state/berth",
				StateFile: "/home/alice/.local/state/berth/state.json",
				LogFile:   "/home/alice/.local/state/berth/agent.log",
				Socket:    "/run/user/1000/berth/agent.sock",
				Lock:      "/home/alice/.local/state/berth/agent.lock",
			},
		},
		"linux_own_folders": {
			fake("linux", map[string]string{"HOME": "/home/alice", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}),
			Paths{
				Config:    "/c/berth/config.yaml",
				StateDir:  "/s/berth",
				StateFile: "/s/berth/state.json",
				LogFile:   "/s/berth/agent.log",
				Socket:    "/s/berth/run/agent.sock",
				Lock:      "/s/berth/agent.lock",
			},
		},
		"linux_state_is_read_only": {
			fake("linux", map[string]string{"HOME": "/readonly/alice", "XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000"),
			Paths{
				Config:    "/readonly/alice/.config/berth/config.yaml",
				StateDir:  "/readonly/alice/.local/state/berth",
				StateFile: "/readonly/alice/.local/state/berth/state.json",
				LogFile:   "/readonly/alice/.local/state/berth/agent.log",
				Socket:    "/run/user/1000/berth/agent.sock",
				Lock:      "/run/user/1000/berth/agent.lock",
			},
		},
		"linux_all_is_read_only": {
			fake("linux", map[string]string{"BERTH_HOME": "/readonly/b", "TMPDIR": "/t"}),
			Paths{
				Config:    "/readonly/b/config.yaml",
				StateDir:  "/readonly/b/state",
				StateFile: "/readonly/b/state/state.json",
				LogFile:   "/readonly/b/state/agent.log",
				Socket:    "/t/berth-1000-" + shortHash("/readonly/b/run") + "/agent.sock",
				Lock:      "/t/berth-1000-" + shortHash("/readonly/b/run") + "/agent.lock",
				Home:      "/readonly/b",
			},
		},
		"linux_relative_folders_are_ignored": {
			fake("linux", map[string]string{"XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "./s", "XDG_RUNTIME_DIR": "r"}, "r"),
			Paths{
				Config:    "/home/db/.config/berth/config.yaml",
				StateDir:  "/home/db/.local/state/berth",
				StateFile: "/home/db/.local/state/berth/state.json",
				LogFile:   "/home/db/.local/state/berth/agent.log",
				Socket:    "/home/db/.local/state/berth/run/agent.sock",
				Lock:      "/home/db/.local/state/berth/agent.lock",
			},
		},
		"darwin": {
			fake("darwin", map[string]string{"HOME": "/Users/alice"}),
			Paths{
				Config:    "/Users/alice/Library/Application Support/berth/config.yaml",
				StateDir:  "/Users/alice/Library/Application Support/berth/state",
				StateFile: "/Users/alice/Library/Application Support/berth/state/state.json",
				LogFile:   "/Users/alice/Library/Logs/berth/agent.log",
				Socket:    "/Users/alice/Library/Application Support/berth/run/agent.sock",
				Lock:      "/Users/alice/Library/Application Support/berth/state/agent.lock",
			},
		},
		"windows": {
			fake("windows", map[string]string{"APPDATA": "/u/Roaming", "LOCALAPPDATA": "/u/Local"}),
			Paths{
				Config:    "/u/Roaming/berth/config.yaml",
				StateDir:  "/u/Local/berth",
				StateFile: "/u/Local/berth/state.json",
				LogFile:   "/u/Local/berth/agent.log",
				Socket:    `\\.\pipe\berth-1000`,
				Lock:      "/u/Local/berth/agent.lock",
			},
		},
		"windows_without_variables": {
			fake("windows", map[string]string{"USERPROFILE": "/u/alice"}),
			Paths{
				Config:    "/u/alice/AppData/Roaming/berth/config.yaml",
				StateDir:  "/u/alice/AppData/Local/berth",
				StateFile: "/u/alice/AppData/Local/berth/state.json",
				LogFile:   "/u/alice/AppData/Local/berth/agent.log",
				Socket:    `\\.\pipe\berth-1000`,
				Lock:      "/u/alice/AppData/Local/berth/agent.lock",
			},
		},
		"berth_home": {
			fake("linux", map[string]string{HomeVar: "/b/", "HOME": "/home/alice", "XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000"),
			Paths{
				Config:    "/b/config.yaml",
				StateDir:  "/b/state",
				StateFile: "/b/state/state.json",
				LogFile:   "/b/state/agent.log",
				Socket:    "/b/run/agent.sock",
				Lock:      "/b/state/agent.lock",
				Home:      "/b",
			},
		},
		"berth_home_with_tilde": {
			fake("darwin", map[string]string{HomeVar: "~/b", "HOME": "/Users/alice"}),
			Paths{
				Config:    "/Users/alice/b/config.yaml",
				StateDir:  "/Users/alice/b/state",
				StateFile: "/Users/alice/b/state/state.json",
				LogFile:   "/Users/alice/b/state/agent.log",
				Socket:    "/Users/alice/b/run/agent.sock",
				Lock:      "/Users/alice/b/state/agent.lock",
				Home:      "/Users/alice/b",
			},
		},
		"berth_home_on_windows": {
			fake("windows", map[string]string{HomeVar: "/b"}),
			Paths{
				Config:    "/b/config.yaml",
				StateDir:  "/b/state",
				StateFile: "/b/state/state.json",
				LogFile:   "/b/state/agent.log",
				Socket:    `\\.\pipe\berth-1000-` + shortHash("/b"),
				Lock:      "/b/state/agent.lock",
				Home:      "/b",
			},
		},
		"long_berth_home": {
			fake("linux", map[string]string{HomeVar: long, "TMPDIR": "/var/tmp"}),
			Paths{
				Config:    long + "/config.yaml",
				StateDir:  long + "/state",
				StateFile: long + "/state/state.json",
				LogFile:   long + "/state/agent.log",
				Socket:    "/var/tmp/berth-1000-" + shortHash(long+"/run") + "/agent.sock",
				Lock:      long + "/state/agent.lock",
				Home:      long,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.r.resolve()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("paths differ (-want +got):\n%s", diff)
			}
			if got.SocketDir() != "" && len(got.Socket) > MaxSocket {
				t.Errorf("socket path of %d bytes", len(got.Socket))
			}
		})
	}
}

// su and sudo may keep XDG_RUNTIME_DIR of another user; cron has none.
func TestRuntimeDir(t *testing.T) {
	tests := map[string]struct {
		env     string
		private []string
		want    string
	}{
		"named_and_ours":      {"/run/mine", []string{"/run/mine", "/run/user/1000"}, "/run/mine/berth"},
		"named_but_not_ours":  {"/run/user/0", []string{"/run/user/1000"}, "/run/user/1000/berth"},
		"not_named_but_there": {"", []string{"/run/user/1000"}, "/run/user/1000/berth"},
		"none":                {"", nil, "/state/run"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := fake("linux", map[string]string{"XDG_RUNTIME_DIR": tt.env}, tt.private...)
			if got := filepath.ToSlash(r.runtimeDir("/state")); got != tt.want {
				t.Errorf("runtimeDir = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSocketTooLongEverywhere(t *testing.T) {
	long := "/" + strings.Repeat("x", 120)
	got := fake("linux", map[string]string{"TMPDIR": long}).socket(long)
	if filepath.ToSlash(filepath.Dir(filepath.Dir(got))) != "/tmp" || len(got) > MaxSocket {
		t.Errorf("socket = %q, want a short one in /tmp", got)
	}
	if other := fake("linux", nil).socket(long + "y"); other == got {
		t.Errorf("two instances share the socket %q", got)
	}
}

// TestSocketOfARunningAgent: whether a folder can be written says where an agent's
// socket would be made, and not where that of one is which runs already.
func TestSocketOfARunningAgent(t *testing.T) {
	testneeds.Unix(t, "the wanted paths are written with slashes and roots of Unix")
	for name, test := range map[string]struct {
		home   string
		served func(usual, short string) []string
		short  bool // wanted
	}{
		"writable":         {"/b", func(string, string) []string { return nil }, false},
		"readonly":         {"/readonly/b", func(string, string) []string { return nil }, true},
		"readonly_since":   {"/readonly/b", func(usual, _ string) []string { return []string{usual} }, false},
		"writable_since":   {"/b", func(_, short string) []string { return []string{short} }, true},
		"another_at_short": {"/b", func(usual, short string) []string { return []string{usual, short} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := fake("linux", map[string]string{HomeVar: test.home})
			dir := filepath.Join(test.home, "run")
			usual, short := filepath.Join(dir, "agent.sock"), r.shortSocket(dir)
			r.served = func(path string) bool { return slices.Contains(test.served(usual, short), path) }
			p, err := r.resolve()
			if want := map[bool]string{true: short, false: usual}[test.short]; err != nil || p.Socket != want {
				t.Errorf("the socket is %s, %v; want %s", p.Socket, err, want)
			}
		})
	}
}

// TestServed: a socket counts as served while a program listens at it, in a folder that
// others cannot enter.
func TestServed(t *testing.T) {
	testneeds.Unix(t, "on Windows the agent has a named pipe")
	dir, err := os.MkdirTemp("", "served") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	if served(path) {
		t.Error("a socket that is not there is served")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if !served(path) {
		t.Error("a socket with a listener is not served")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if served(path) {
		t.Error("a socket is believed that others could have made")
	}
	if err := errors.Join(os.Chmod(dir, 0o700), l.Close()); err != nil {
		t.Fatal(err)
	}
	if served(path) {
		t.Error("a socket without a listener is served")
	}
}

func TestTraySocket(t *testing.T) {
	for socket, want := range map[string]string{
		filepath.Join("run", "berth", "agent.sock"): filepath.Join("run", "berth", "tray.sock"),
		`\\.\pipe\berth-1000-abcd`:                  `\\.\pipe\berth-1000-abcd-tray`,
	} {
		if got := (Paths{Socket: socket}).TraySocket(); got != want {
			t.Errorf("beside %s: %s, want %s", socket, got, want)
		}
	}
}

func TestNoHome(t *testing.T) {
	r := fake("linux", nil)
	r.home = func() (string, error) { return "", errors.New("no such user") }
	_, err := r.resolve()
	if err == nil || !strings.Contains(err.Error(), "set HOME") {
		t.Errorf("error %v does not say what to do", err)
	}
}

func TestMakeDirs(t *testing.T) {
	dir := t.TempDir()
	p, err := Resolve(func(name string) string {
		if name == HomeVar {
			return dir
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.SocketDir() != "" {
		if err := p.CheckSocketDir(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("before MakeDirs: %v, want a not-exist error", err)
		}
	}
	for range 2 { // the second time all is there
		if err := p.MakeDirs(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.CheckSocketDir(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{p.Config, p.StateFile, p.LogFile, p.Lock} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

func TestSocketDirIsChecked(t *testing.T) {
	testneeds.Unix(t, "a pipe has no folder")
	newPaths := func(t *testing.T) Paths {
		dir := t.TempDir()
		return Paths{
			Config:   filepath.Join(dir, "config.yaml"),
			StateDir: filepath.Join(dir, "state"),
			LogFile:  filepath.Join(dir, "state", "agent.log"),
			Socket:   filepath.Join(dir, "run", "agent.sock"),
		}
	}
	t.Run("open_folder_is_closed", func(t *testing.T) {
		p := newPaths(t)
		if err := os.Mkdir(p.SocketDir(), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := p.CheckSocketDir(); err == nil {
			t.Error("a folder others can enter passed")
		}
		if err := p.MakeDirs(); err != nil {
			t.Fatal(err)
		}
		if err := p.CheckSocketDir(); err != nil {
			t.Error(err)
		}
	})
	t.Run("link", func(t *testing.T) {
		p := newPaths(t)
		if err := os.Symlink(t.TempDir(), p.SocketDir()); err != nil {
			t.Fatal(err)
		}
		if err := p.MakeDirs(); err == nil || !strings.Contains(err.Error(), "not a folder") {
			t.Errorf("a link in the folder's place: error %v", err)
		}
	})
	t.Run("file", func(t *testing.T) {
		p := newPaths(t)
		if err := os.WriteFile(p.SocketDir(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.MakeDirs(); err == nil {
			t.Error("a file in the folder's place passed")
		}
	})
	t.Run("another_user", func(t *testing.T) {
		testneeds.Root(t, "it gives a folder away")
		p := newPaths(t)
		if err := os.Mkdir(p.SocketDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(p.SocketDir(), 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if err := p.MakeDirs(); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("another user's folder: error %v", err)
		}
	})
}
