package tsh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	// killGrace is how long a tsh that was asked to end may take.
	killGrace = 2 * time.Second
	// maxOutput bounds what is kept of a command's stdout.
	maxOutput = 32 << 20
)

// ExitError is a tsh that did not do what it was asked.
type ExitError struct {
	Command string // such as "tsh proxy db"
	Code    int    // the exit code; -1 when a signal ended it
	Text    string // the last it said on stderr, redacted; may be empty
}

// Error names the command, how it ended and what it said last.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exited with code %d", e.Code)
	if e.Code < 0 {
		how = "was killed"
	}
	if e.Text == "" {
		return e.Command + " " + how
	}
	return fmt.Sprintf("%s %s: %s", e.Command, how, e.Text)
}

// Cmd is one run of tsh.
type Cmd struct {
	cmd      *exec.Cmd
	name     string
	ctxErr   func() error
	onCancel func(f func()) (stop func() bool) // calls f when the context ends
	terminal *terminal                         // nil: none
}

// Command returns the run of the tsh at path with args. home is its
// TELEPORT_HOME; empty means tsh's own default.
//
// A path where no program is makes the run fail with a [*NotFoundError].
//
// The child gets the environment without TELEPORT_ variables, an empty stdin
// and a process group of its own, which ends with ctx and with the agent.
func Command(ctx context.Context, path, home string, args ...string) *Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environment(os.Environ(), home)
	cmd.WaitDelay = killGrace
	name := []string{"tsh"}
	for _, a := range args {
		if strings.HasPrefix(a, "-") || len(name) == 3 {
			break
		}
		name = append(name, a)
	}
	return &Cmd{
		cmd: cmd, name: strings.Join(name, " "), ctxErr: ctx.Err,
		onCancel: func(f func()) func() bool { return context.AfterFunc(ctx, f) },
	}
}

// TrustCA makes tsh verify the proxy's web certificate with the CAs in a PEM
// file instead of the system's.
func (c *Cmd) TrustCA(file string) { c.setenv("SSL_CERT_FILE", file) }

// setenv sets a variable of the child's environment.
func (c *Cmd) setenv(key, value string) { c.cmd.Env = append(c.cmd.Env, key+"="+value) }

// Output runs the command and returns its stdout. When it exits with another
// code than 0 the error is an [*ExitError] and stdout is returned all the same:
// "tsh status" prints its JSON and exits 1 when the session has expired.
func (c *Cmd) Output() ([]byte, error) {
	stdout, stderr := &limitedBuffer{limit: maxOutput}, &lineWriter{}
	p, err := c.start(stdout, stderr)
	if err != nil {
		return nil, err
	}
	<-p.done
	return stdout.Bytes(), c.exitError(p, stderr.lines())
}

// start runs the command; stdout and stderr get what it prints.
func (c *Cmd) start(stdout, stderr writer) (*process, error) {
	p, err := startProcess(c, stdout, stderr)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) { // Windows has the latter
		err = &NotFoundError{Looked: []string{c.cmd.Path}}
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, scarce(err))
	}
	return p, nil
}

// scarce says in plain words what this machine lacks for another program to start.
func scarce(err error) error {
	for lack, words := range map[syscall.Errno]string{
		syscall.EAGAIN: `berth may start no more programs here; raise the limit of processes ("ulimit -u", TasksMax= of a service)`,
		syscall.ENOMEM: "there is no memory left to start a program; end others",
		syscall.EMFILE: `too many open files here; raise the limit ("ulimit -n")`,
		syscall.ENFILE: "too many open files on this machine; end other programs",
	} {
		if errors.Is(err, lack) {
			return fmt.Errorf("%s (%w)", words, err)
		}
	}
	return err
}

// exitError says how p, which is done, has ended; nil means well.
func (c *Cmd) exitError(p *process, stderr []string) error {
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return nil
	case p.cut != nil: // it did not fail, it was ended
		return fmt.Errorf("%s: %w", c.name, p.cut)
	case errors.As(p.err, &exit):
		e := &ExitError{Command: c.name, Code: exit.ExitCode(), Text: lastError(stderr)}
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && !slices.ContainsFunc(stderr, isError) &&
			(status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM) {
			e.Text = "" // it did not come to say why, as one that aborts does
		}
		return e
	default:
		return fmt.Errorf("%s: %w", c.name, p.err)
	}
}

// environment returns a tsh child's environment: env without the TELEPORT_
// variables, which redirect tsh silently, and with berth's own. It hides the
// user's kubeconfig, because a logout, for one, would rewrite it.
func environment(env []string, home string) []string {
	out := make([]string, 0, len(env)+4)
	for _, kv := range env {
		if len(kv) >= 9 && strings.EqualFold(kv[:9], "TELEPORT_") { // Windows ignores case
			continue
		}
		if name, _, _ := strings.Cut(kv, "="); strings.EqualFold(name, "KUBECONFIG") {
			continue
		}
		out = append(out, kv)
	}
	if home != "" {
		out = append(out, "TELEPORT_HOME="+home)
	}
	return append(out,
		"TELEPORT_LOGIN_BROWSER=none", // an automatic relogin opens no browser
		"TELEPORT_TOOLS_VERSION=off",  // no other tsh is downloaded and run instead
		"KUBECONFIG="+os.DevNull,
	)
}

// limitedBuffer keeps the first limit bytes and takes the rest in silence.
type limitedBuffer struct {
	bytes.Buffer

	limit int
}

// Write keeps what there is room for.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, b.limit-b.Len()))])
	return len(p), nil
}
