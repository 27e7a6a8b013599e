//go:build unix

package faketsh

import (
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/identityfile"

	"berth/internal/pty/ptytest"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// typed runs the test binary as tsh on a terminal, and answers prompts: pairs
// of what to wait for and what to type.
func (w *world) typed(t *testing.T, dialogue []string, args ...string) (int, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(append(os.Environ(), w.env...), "BERTH_FAKE_TSH=1")
	terminal, err := ptytest.Start(cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	var screen simworld.Log
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&screen, terminal) // ends with an error when the process does
	}()
	for i := 0; i+1 < len(dialogue); i += 2 {
		testwait.Eventually(t, dialogue[i], func() bool { return strings.Contains(screen.String(), dialogue[i]) })
		if _, err := io.WriteString(terminal, dialogue[i+1]+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // the exit code says it
	<-read
	_ = terminal.Close()
	return cmd.ProcessState.ExitCode(), screen.String()
}

func TestPasswordLogin(t *testing.T) {
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		w := newWorld(t, simcluster.Config{Version: version})
		prompt := "Enter password for Teleport user alice:"
		code, screen := w.typed(t, []string{prompt, "wrong"}, "login", "--proxy="+w.ProxyAddr(), "--user=alice")
		if want := prompt + "\r\n\x1b[31mERROR: \x1b[0minvalid username or password\r\n\r\n"; code != 1 || runtime.GOOS == "linux" && screen != want {
			t.Errorf("wrong password: exit %d, %q, want %q", code, screen, want)
		}
		if _, err := os.Stat(w.home); err == nil {
			t.Error("a wrong password left files")
		}
		code, screen = w.typed(t, []string{prompt, "alice-password"}, "login", "--proxy="+w.ProxyAddr(), "--user=alice", "--ttl=60", "--add-keys-to-agent=no")
		if code != 0 || !strings.Contains(screen, "Logged in as:       alice") || !strings.Contains(screen, "[valid for 1h0m]") {
			t.Fatalf("exit %d, %s", code, screen)
		}
		if strings.Contains(screen, "alice-password") {
			t.Error("the password was echoed")
		}
		w.tsh(t, "db", "ls").want(t, 0, "pg", "")
	}
}

func TestOneTimeCode(t *testing.T) {
	w := newWorld(t, simcluster.Config{Users: []simcluster.User{{Name: "alice", Password: "pw", OTP: "123456"}}})
	code, screen := w.typed(t, []string{"Enter password for Teleport user alice:", "pw", "Enter your OTP token:", "123456"},
		"login", "--proxy="+w.ProxyAddr())
	if code != 0 || !strings.Contains(screen, "Logged in as:       alice") {
		t.Errorf("exit %d, %s", code, screen)
	}
}

func TestLoginOverAnExpiredProfile(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "db", "login", "pg").want(t, 0, "", "")
	if err := w.Login(w.home, "alice", simcluster.WithTTL(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	dbDir := filepath.Join(w.home, "keys", "localhost", "alice-db", w.Name())
	if err := os.MkdirAll(dbDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dbDir, "pg-x509.pem"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := w.files(t)
	prompt := "Enter password for Teleport user alice:"
	if code, screen := w.typed(t, []string{prompt, "wrong"}, "login"); code != 1 || !maps.Equal(before, w.files(t)) {
		t.Errorf("a wrong password must leave everything as it was: exit %d, %s", code, screen)
	}
	if code, screen := w.typed(t, []string{prompt, "alice-password"}, "login"); code != 0 {
		t.Fatalf("exit %d, %s", code, screen)
	}
	if _, err := os.Stat(filepath.Join(dbDir, "pg-x509.pem")); err == nil {
		t.Error("the database cert of the old login is still there")
	}
	w.tsh(t, "status").want(t, 0, "[valid for", "")
}

func TestLoginToAnIdentityFile(t *testing.T) {
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		w := newWorld(t, simcluster.Config{Version: version})
		if err := w.Login(w.home, "alice"); err != nil {
			t.Fatal(err)
		}
		before := w.files(t)
		out := filepath.Join(t.TempDir(), "id")
		prompt := "Enter password for Teleport user alice:"
		if code, screen := w.typed(t, []string{prompt, "alice-password"}, "login", "--proxy="+w.ProxyAddr(), "--out="+out); code != 0 {
			t.Fatalf("exit %d, %s", code, screen)
		}
		if !maps.Equal(before, w.files(t)) {
			t.Error("--out touched the home")
		}
		id, err := identityfile.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := id.TLSConfig(); err != nil {
			t.Errorf("TLS part: %v", err)
		}
		if n := w.Counters().Logins; n != 2 {
			t.Errorf("%d logins, want a second one", n)
		}
		code, screen := w.typed(t, []string{prompt, "alice-password", "Overwrite? [y/N]:", "n"}, "login", "--proxy="+w.ProxyAddr(), "--out="+out)
		if code != 1 || !strings.Contains(screen, "not overwriting destination files") {
			t.Errorf("exit %d, %s", code, screen)
		}
		if code, screen := w.typed(t, []string{prompt, "alice-password"}, "login", "--proxy="+w.ProxyAddr(), "--overwrite", "--out="+out); code != 0 {
			t.Errorf("exit %d, %s", code, screen)
		}
	}
}
