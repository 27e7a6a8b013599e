package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// tshVar names the folder with the real tsh, as for the end-to-end tests.
const tshVar = "BERTH_E2E_TELEPORT_BIN"

// lab is the real cluster of the end-to-end tests, kept up for the benchmarks,
// and a home that is logged in to it.
type lab struct {
	Home        string `json:"home"` // TELEPORT_HOME
	Proxy       string `json:"proxy"`
	CAFile      string `json:"ca_file"`
	Cluster     string `json:"cluster"`
	Database    string `json:"database"`
	DBUser      string `json:"db_user"`
	DBName      string `json:"db_name"`
	Kube        string `json:"kube"`
	TSH         string `json:"tsh"`
	PostgresBin string `json:"postgres_bin"`
	Version     string `json:"version"`
	// Of TestPatternsLab alone: the home of someone who decides, and the role
	// that may be asked for.
	Decider string `json:"decider"`
	Role    string `json:"role"`

	cmd   *exec.Cmd
	stdin io.Closer
}

// startLab builds the end-to-end tests and has one of them start its cluster. It
// needs the sources around it, as "go run" has them.
func (b *bench) startLab(ctx context.Context, test string) (*lab, error) {
	const pkg = "berth/internal/e2e"
	program := filepath.Join(b.dir, "lab.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "e2e,lab", "-o", program, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the end-to-end tests: %w\n%s", err, out)
	}
	l := &lab{cmd: exec.CommandContext(ctx, program, "-test.run=^"+test+"$", "-test.timeout=3h")}
	l.cmd.Env = append(os.Environ(), "BERTH_E2E_BERTH="+b.binary)
	var said strings.Builder
	l.cmd.Stderr = &said
	l.cmd.Cancel = func() error { return l.cmd.Process.Signal(syscall.SIGTERM) }
	l.cmd.WaitDelay = time.Minute
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "{") {
			err := json.Unmarshal(lines.Bytes(), l)
			go func() { _, _ = io.Copy(io.Discard, stdout) }() // what it says as it ends
			return l, err
		}
		said.WriteString(lines.Text() + "\n")
	}
	return nil, fmt.Errorf("start a real cluster: %w\n%s", errors.Join(lines.Err(), l.close()), &said)
}

// close ends the cluster.
func (l *lab) close() error { return errors.Join(l.stdin.Close(), l.cmd.Wait()) }
