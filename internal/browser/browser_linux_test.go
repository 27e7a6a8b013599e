package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenOutlives: a browser has a session of its own, which no terminal's Ctrl-C and
// no terminal's end reaches.
func TestOpenOutlives(t *testing.T) {
	opened, script := standIn(t, "browser", `read -r pid _ _ _ group session _ </proc/$$/stat; echo $pid $group $session`)
	if err := Open(t.Context(), "http://127.0.0.1:1/x", []string{script}, os.Getenv); err != nil {
		t.Fatal(err)
	}
	var pid, group, session int
	if _, err := fmt.Sscan(opened(), &pid, &group, &session); err != nil || session != pid || group != pid {
		t.Errorf("process %d in group %d and session %d, %v", pid, group, session, err)
	}
	if own, err := unix.Getsid(0); err != nil || own == session {
		t.Errorf("our session is %d, %v", own, err)
	}
}

// TestOpenFromService: the user's manager opens the page, and where it does not, the
// program itself does. TestUserManager has a real one.
func TestOpenFromService(t *testing.T) {
	const raw, want = "http://127.0.0.1:1/$HOME", "http://127.0.0.1:1/$HOME\n"
	opened, script := standIn(t, "browser", `echo "$1"`)
	asked, manager := standIn(t, "systemd-run", `echo "$@"; exit 1`)
	for _, path := range []string{filepath.Dir(manager), t.TempDir()} {
		t.Setenv("PATH", path)
		if err := OpenFromService(t.Context(), raw, []string{script}, os.Getenv); err != nil {
			t.Fatal(err)
		}
		if got := opened(); got != want {
			t.Errorf("with PATH %s opened %q, want %q", path, got, want)
		}
	}
	if got, want := asked(), "--user --collect --quiet --wait --property=KillMode=process -- "+script+" http://127.0.0.1:1/$$HOME\n"; got != want {
		t.Errorf("the manager was asked for %q, want %q", got, want)
	}
	if err := OpenFromService(t.Context(), "http://evil.com:1/x", []string{script}, os.Getenv); err == nil {
		t.Error("a strange address was opened")
	}
}

// standIn is a program that writes what body prints to a file; opened returns that, and
// clears it.
func standIn(t *testing.T, name, body string) (opened func() string, script string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "opened")
	script = filepath.Join(dir, name)
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec >>"+file+"\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return func() string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}, script
}
