//go:build unix

package selftest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSweep: what a killed self-test left is removed, with its service; nothing else
// is, and what could not be removed stays for the next time.
func TestSweep(t *testing.T) {
	temp, bin := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", temp)
	said := filepath.Join(bin, "said")
	program := filepath.Join(bin, "berth")
	script := fmt.Sprintf("#!/bin/sh\necho \"$BERTH_HOME $*\" >>%s\ncase $BERTH_HOME in *stuck*) exit 1;; esac\n", said)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	over := exec.CommandContext(t.Context(), "true")
	if err := over.Run(); err != nil {
		t.Fatal(err)
	}
	dead, alive := over.Process.Pid, os.Getpid()
	leave := func(name, record string) string {
		dir := filepath.Join(temp, folderName+name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if record != "" {
			if err := os.WriteFile(filepath.Join(dir, recordName), []byte(record), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	of := func(pid int, home string) string { return fmt.Sprintf(`{"pid": %d, "home": %q}`, pid, home) }
	killed, stuck := leave("killed", of(dead, "demo/berth")), leave("stuck", of(dead, "berth"))
	reused := leave("reused", of(alive, "berth"))
	long := time.Now().Add(-2 * MaxTime)
	if err := os.Chtimes(filepath.Join(reused, recordName), long, long); err != nil {
		t.Fatal(err)
	}
	stay := []string{
		stuck, leave("runs", of(alive, "berth")), leave("strange", of(dead, "../berth")), leave("broken", "{"), leave("bare", ""),
	}
	if err := os.Symlink(stay[1], filepath.Join(temp, folderName+"link")); err != nil {
		t.Fatal(err)
	}
	swept, err := sweep(t.Context(), Config{Program: program, Environ: os.Environ()})
	if swept != 3 || err == nil || !strings.Contains(err.Error(), stuck) {
		t.Errorf("%d swept, %v; want 3, of which one is stuck", swept, err)
	}
	for _, dir := range []string{killed, reused} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	for _, dir := range stay {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	got, err := os.ReadFile(said)
	want := fmt.Sprintf("%s/demo/berth agent uninstall\n%s/berth agent uninstall\n%s/berth agent uninstall\n", killed, reused, stuck)
	if err != nil || string(got) != want {
		t.Errorf("berth was run as\n%s, %v; want\n%s", got, err, want)
	}
}
