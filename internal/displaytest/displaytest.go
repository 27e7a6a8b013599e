// Package displaytest starts X servers without a screen for tests.
package displaytest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"berth/internal/testneeds"
)

// Start starts an X server of a size (WIDTHxHEIGHTxDEPTH) that ends with the
// test, and returns its display. It chooses a display that is free, and stays
// when its last client goes. Where there is no Xvfb the test is skipped, or
// fails where the environment says CI.
func Start(t testing.TB, size string) (display string) {
	t.Helper()
	testneeds.Program(t, "Xvfb")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	cmd := exec.CommandContext(context.Background(), "Xvfb", "-displayfd", "3", "-screen", "0", size, "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{write}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	number, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb named no display: %v", err)
	}
	return ":" + strings.TrimSpace(number)
}
