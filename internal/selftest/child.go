package selftest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"berth/internal/paths"
	"berth/internal/plain"
)

// stopTime is how long a child may take to end before it is killed.
const stopTime = 5 * time.Second

// child is a program that runs beside the test, and ends before it.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	home  string // the BERTH_HOME that a berth-demo has lent
	done  chan struct{}
	err   error // how it ended; set when done is closed
	said  tail  // on standard error
}

// environ is what programs of the test are started with: what would lead them to
// the user's own berth, or to the manager of this process, is left out.
func (r *run) environ() []string {
	var env []string
	for _, kv := range r.Environ {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=")
		switch {
		case strings.HasPrefix(name, "BERTH_"), strings.HasPrefix(name, "TELEPORT_"), strings.HasPrefix(name, "LISTEN_"):
		case name == "NOTIFY_SOCKET", name == "WATCHDOG_USEC", name == "WATCHDOG_PID":
		default:
			env = append(env, kv)
		}
	}
	if r.ownConfig {
		env = append(env, "XDG_CONFIG_HOME="+filepath.Join(r.dir, "config"))
	}
	return append(env, paths.HomeVar+"="+r.home())
}

// start starts a program; with out, its standard output goes there.
func (r *run) start(out io.Writer, program string, env []string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(context.Background(), program, args...), done: make(chan struct{})} // it ends by stop
	c.cmd.Env, c.cmd.Dir = env, r.dir
	c.cmd.Stdout, c.cmd.Stderr = out, &c.said
	c.cmd.WaitDelay, c.cmd.SysProcAttr = stopTime, endWithParent()
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	r.undo = append(r.undo, func(context.Context) error { c.stop(); return nil })
	return c, nil
}

// stop asks the child to end, and then makes it.
func (c *child) stop() {
	_ = c.stdin.Close() // which ends a berth-demo
	if c.home == "" {
		interrupt(c.cmd.Process)
	}
	kill := time.AfterFunc(stopTime, func() { _ = c.cmd.Process.Kill() })
	<-c.done
	kill.Stop()
}

// ended reports whether the child has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// death says how a child ended that should not have.
func (c *child) death() error {
	if last := c.said.last(); last != "" {
		return errors.New(last)
	}
	if c.err != nil {
		return c.err
	}
	return errors.New("it ended")
}

// berth runs berth to its end and returns what it printed. The error is what it
// said on standard error.
func (r *run) berth(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.Program, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = r.environ(), r.dir, stopTime
	var complaint tail
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil && complaint.text() != "" {
		err = complaint.error()
	}
	if err != nil {
		return string(out), fmt.Errorf("berth %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// complaint is an error of the command line, with its next step.
type complaint struct{ text, hint string }

func (c complaint) Error() string { return c.text }

// Hint is the next step.
func (c complaint) Hint() string { return c.hint }

// tail keeps the end of what a program says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailSize):]
	return len(p), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}

func (t *tail) last() string {
	text := t.text()
	return plain.Line(text[strings.LastIndexByte(text, '\n')+1:])
}

// error takes apart what berth says when a command fails.
func (t *tail) error() error {
	var c complaint
	for line := range strings.Lines(t.text()) {
		line = strings.TrimSpace(line)
		line = strings.TrimPrefix(line, "berth: ")
		if hint, ok := strings.CutPrefix(line, "hint: "); ok {
			c.hint = hint
		} else if c.text == "" {
			c.text = line
		}
	}
	return c
}

// firstLine waits for a child's first line.
func firstLine(ctx context.Context, from io.Reader) (string, error) {
	type line struct {
		text string
		err  error
	}
	got := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(from).ReadString('\n')
		got <- line{strings.TrimRight(text, "\r\n"), err}
		_, _ = io.Copy(io.Discard, from) // else the child waits for a reader
	}()
	select {
	case l := <-got:
		return l.text, l.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
