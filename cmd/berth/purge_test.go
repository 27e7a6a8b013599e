package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/agent/secrets"
	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/tray/autostart"
)

// fakeKeychain notes what is taken out of it.
type fakeKeychain struct {
	err     error
	deleted []secrets.Key
	all     bool
}

func (f *fakeKeychain) Delete(_ context.Context, k secrets.Key) error {
	if f.err == nil {
		f.deleted = append(f.deleted, k)
	}
	return f.err
}

func (f *fakeKeychain) DeleteAll(context.Context) error {
	f.all = f.err == nil
	return f.err
}

// TestPurgeAsks: a config is asked about, and so are passwords without one.
func TestPurgeAsks(t *testing.T) {
	for name, tt := range map[string]struct {
		config bool
		state  string
		asks   string // empty: it does not
	}{
		"config":           {config: true, asks: "--purge deletes your config, "},
		"stored":           {state: `{"version":1,"stored":{"alice@tele.example.com:443":["password"]}}`, asks: "--purge deletes the passwords that berth has stored, "},
		"perhaps_stored":   {state: "{", asks: "--purge deletes the passwords that berth has stored, "},
		"nothing":          {},
		"nothing_in_state": {state: `{"version":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "berth")
			p, err := paths.Resolve(func(name string) string { return map[string]string{paths.HomeVar: home}[name] })
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{p.StateFile: tt.state}
			if tt.config {
				files[p.Config] = "tunnels: []\n"
			}
			for file, text := range files {
				if text == "" {
					continue
				}
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			a, _, _ := testApp()
			err = (&agentService{app: a, paths: p}).agreesToPurge(t.Context())
			if tt.asks == "" && err != nil {
				t.Errorf("agreesToPurge() = %v", err)
			}
			if tt.asks != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.asks) || hintOf(err) != "give --yes") {
				t.Errorf("agreesToPurge() = %v, want %q and a hint", err, tt.asks)
			}
		})
	}
}

// TestPurge: what berth keeps goes from disk and keychain, and it is said what
// that was; a keychain that is locked keeps no file.
func TestPurge(t *testing.T) {
	const twoSecrets = `{"version":1,"stored":{"alice@tele.example.com:443":["password","totp"]}}`
	both := []secrets.Key{
		{Proxy: "tele.example.com:443", User: "alice", Kind: secrets.Password},
		{Proxy: "tele.example.com:443", User: "alice", Kind: secrets.TOTP},
	}
	for name, c := range map[string]struct {
		ownHome  bool // BERTH_HOME is set
		state    string
		keychain fakeKeychain
		deleted  []secrets.Key
		all      bool
		err      string
		says     []string
	}{
		"usual": {state: twoSecrets, all: true, says: []string{
			"Config, state and logs are gone too.",
			"The password of alice at tele.example.com:443 is no longer in the keychain.",
			"The seed of one-time codes of alice at tele.example.com:443 is no longer in the keychain.",
		}},
		"second_berth":         {ownHome: true, state: twoSecrets, deleted: both, says: []string{"The password of alice"}},
		"nothing_stored":       {state: `{"version":1}`, all: true, says: []string{"Config, state and logs are gone too."}},
		"broken_state":         {state: `{`, all: true, says: []string{"Config, state and logs are gone too."}},
		"no_keychain":          {state: `{"version":1}`, keychain: fakeKeychain{err: &secrets.NoKeychainError{Err: errors.New("no bus")}}},
		"no_keychain_any_more": {state: twoSecrets, keychain: fakeKeychain{err: &secrets.NoKeychainError{Err: errors.New("no bus")}}, err: "still has what berth stored"},
		"locked_and_nothing_stored": {state: `{"version":1}`, keychain: fakeKeychain{err: &secrets.LockedError{}}, says: []string{
			"Config, state and logs are gone too.", "The keychain could not be read: the keychain is locked.",
		}},
		"locked": {state: twoSecrets, keychain: fakeKeychain{err: &secrets.LockedError{}}, err: "the keychain still has what berth stored in it: the keychain is locked"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			env := map[string]string{"HOME": dir, "XDG_CONFIG_HOME": filepath.Join(dir, "config"), "XDG_STATE_HOME": filepath.Join(dir, "state"), "AppData": dir, "LocalAppData": dir}
			p, err := paths.Resolve(func(name string) string { return map[string]string{paths.HomeVar: filepath.Join(dir, "berth")}[name] })
			if err != nil {
				t.Fatal(err)
			}
			if c.ownHome {
				env[paths.HomeVar] = filepath.Join(dir, "berth")
			}
			logs := filepath.Join(dir, "logs") // on macOS they are elsewhere than the state
			p.LogFile = filepath.Join(logs, "agent.log")
			files := []string{
				p.Config, p.StateFile, p.LogFile, p.LogFile + ".1", filepath.Join(logs, "tray.log"), filepath.Join(logs, "tray.log.3"),
				filepath.Join(logs, "agent.output.log"),
			}
			for _, file := range files {
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(c.state), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			tray := ""
			if runtime.GOOS != "windows" { // there it is in the registry, whose tests are elsewhere
				r, err := autostart.Install(autostart.Entry{Program: "/usr/bin/berth"}, func(name string) string { return env[name] })
				if err != nil {
					t.Fatal(err)
				}
				tray = r.Path
			}
			var out bytes.Buffer
			a := &app{out: &out, err: &out, env: func(name string) string { return env[name] }}
			s := &agentService{app: a, paths: p, cfg: osservice.Config{LogDir: logs}}
			err = s.purge(t.Context(), &c.keychain)
			if (err != nil) != (c.err != "") || err != nil && (!strings.Contains(err.Error(), c.err) || hintOf(err) == "") {
				t.Errorf("purge() = %v, want %q and a hint", err, c.err)
			}
			if c.keychain.all != c.all {
				t.Errorf("all of the keychain is gone: %v, want %v", c.keychain.all, c.all)
			}
			if diff := cmp.Diff(c.deleted, c.keychain.deleted); diff != "" {
				t.Errorf("deleted (-want +got):\n%s", diff)
			}
			for _, line := range c.says {
				if !strings.Contains(out.String(), line) {
					t.Errorf("it does not say %q:\n%s", line, &out)
				}
			}
			for _, file := range files {
				if _, err := os.Lstat(file); err == nil {
					t.Errorf("%s is there still", file)
				}
			}
			if _, err := os.Lstat(tray); tray != "" && (err == nil) != c.ownHome {
				t.Errorf("the tray's autostart entry: %v", err)
			}
			if _, err := os.Lstat(logs); err == nil {
				t.Error("the folder of the logs is there still")
			}
		})
	}
}
