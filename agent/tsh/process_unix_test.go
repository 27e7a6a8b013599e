//go:build unix

package tsh

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// running reports whether pid is a process that has not ended; one that waits
// for its parent to notice has.
func running(pid int) bool {
	if raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")); err == nil {
		_, state, _ := strings.Cut(string(raw), ") ")
		return !strings.HasPrefix(state, "Z")
	}
	return syscall.Kill(pid, 0) == nil
}

func TestChildDiesWithAKilledAgent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		testneeds.Skip(t, "Linux", "no other system ends a child with its parent")
	}
	agent := exec.CommandContext(t.Context(), useFake(t, "agent"))
	agent.Stderr = os.Stderr
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the agent said nothing: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !running(pid) {
		t.Fatalf("the child %q does not run: %v", line, err)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	testwait.Eventually(t, "the child to die with its agent", func() bool { return !running(pid) })
}

// TestLoginOfAKilledTSH: what it asked last is no reason.
func TestLoginOfAKilledTSH(t *testing.T) {
	t.Parallel()
	for part, reason := range map[string]error{"asks_and_is_killed": errLoginFailed, "requests_and_is_killed": ErrNotApproved} {
		w := newLoginWorld(t, part, simcluster.Config{})
		err := w.answering(t.Context(), nil)
		if want := reason.Error() + ": tsh login was killed"; !errors.Is(err, reason) || err.Error() != want {
			t.Errorf("Login = %v, want %q", err, want)
		}
	}
}

// TestAbortSaysWhy: a program that aborts, as macOS has one do that lacks a library, has
// said why.
func TestAbortSaysWhy(t *testing.T) {
	t.Parallel()
	for part, want := range map[string]string{"aborts": "tsh version was killed: Library not loaded", "is_killed": "tsh version was killed"} {
		if _, err := Command(t.Context(), useFake(t, part), "", "version").Output(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %q", part, err, want)
		}
	}
}

// useConsole has nothing to make up for.
func useConsole() error { return nil }
