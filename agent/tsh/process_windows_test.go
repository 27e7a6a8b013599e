package tsh

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"berth/internal/testwait"
)

const stillActive = 259

// running reports whether pid is a process that has not ended.
func running(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing depends on it any more
	var code uint32
	return windows.GetExitCodeProcess(h, &code) == nil && code == stillActive
}

func TestChildDiesWithAKilledAgent(t *testing.T) {
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
