// Package e2elab keeps the real cluster of the end-to-end tests up for another
// program, which has done there what only an administrator can.
package e2elab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// BinVar names the folder with the real teleport, tctl and tsh.
const BinVar = "BERTH_E2E_TELEPORT_BIN"

// Answer is what the laboratory says of a deed, as a line of JSON.
type Answer struct {
	Said  string `json:"said"`
	Error string `json:"error"`
}

// Lab is a cluster that is up.
type Lab struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  strings.Builder

	mu    sync.Mutex // held while something is done
	lines *bufio.Scanner
}

// Build builds the end-to-end tests. It needs the sources around it, as "go run"
// has them.
func Build(ctx context.Context, program string) error {
	build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "e2e,lab", "-o", program, "berth/internal/e2e")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the end-to-end tests: %w\n%s", err, out)
	}
	return nil
}

// Start has one of the tests start its cluster, with berth as the program that it
// would test, and reads into where what it says of it.
func Start(ctx context.Context, program, test, berth string, where any) (*Lab, error) {
	l := &Lab{cmd: exec.CommandContext(ctx, program, "-test.run=^"+test+"$", "-test.timeout=12h")}
	l.cmd.Env = append(os.Environ(), "BERTH_E2E_BERTH="+berth)
	l.cmd.Stderr = &l.said
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
	l.lines = bufio.NewScanner(stdout)
	var before []string
	for l.lines.Scan() {
		if strings.HasPrefix(l.lines.Text(), "{") {
			return l, json.Unmarshal(l.lines.Bytes(), where)
		}
		before = append(before, l.lines.Text())
	}
	err = errors.Join(l.lines.Err(), l.Close())
	return nil, fmt.Errorf("start a real cluster: %w\n%s\n%s", err, strings.Join(before, "\n"), l.said.String())
}

// Do has the laboratory do something that its test knows, and returns what came of
// it.
func (l *Lab) Do(what string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := io.WriteString(l.stdin, what+"\n"); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	for l.lines.Scan() {
		if !strings.HasPrefix(l.lines.Text(), "{") {
			continue
		}
		var a Answer
		if err := json.Unmarshal(l.lines.Bytes(), &a); err != nil {
			return "", fmt.Errorf("%s: %w", what, err)
		}
		if a.Error != "" {
			return "", fmt.Errorf("%s: %s", what, a.Error)
		}
		return a.Said, nil
	}
	return "", fmt.Errorf("%s: the laboratory has ended: %w", what, errors.Join(l.lines.Err(), io.ErrUnexpectedEOF))
}

// Close ends the cluster.
func (l *Lab) Close() error {
	err := l.stdin.Close()
	for l.lines.Scan() { // what it says as it ends
		continue
	}
	return errors.Join(err, l.cmd.Wait())
}
