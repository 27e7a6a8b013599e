//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// proc is a child that runs until it is stopped; what it prints goes to a file.
type proc struct {
	name string
	log  string // its output
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; read after done
}

// startProc starts cmd. The kernel ends it should the test die: the goroutine
// keeps its thread, whose end is what the kernel looks at.
func startProc(name, logFile string, cmd *exec.Cmd) (*proc, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &proc{name: name, log: logFile, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *proc) pid() int { return p.cmd.Process.Pid }

func (p *proc) signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

func (p *proc) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends the process with sig, and by force if that takes too long.
func (p *proc) stop(sig os.Signal, patience time.Duration) error {
	if !p.running() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Kill() // it may just have ended
	<-p.done
	return fmt.Errorf("%s (pid %d) did not end within %s after %s", p.name, p.pid(), patience, sig)
}

// tail is the end of the process's output, for a failed test.
func (p *proc) tail() string { return fileTail(p.log, 40) }

func fileTail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// result is how a command that has ended ended.
type result struct {
	out, err string
	code     int
}

// run runs a command to its end.
func run(ctx context.Context, env []string, stdin, path string, args ...string) (result, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	cmd.WaitDelay = 2 * time.Second
	cmd.Stdin = bytes.NewReader([]byte(stdin))
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	r := result{out: out.String(), err: errOut.String(), code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		err = nil // the code says it
	}
	return r, err
}

// mustRun runs a command that has to exit 0, and returns its stdout.
func mustRun(ctx context.Context, env []string, stdin, path string, args ...string) (string, error) {
	r, err := run(ctx, env, stdin, path, args...)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("exit code %d", r.code)
	}
	if err != nil {
		return r.out, fmt.Errorf("%s %q: %w\n%s%s", path, args, err, r.out, r.err)
	}
	return r.out, nil
}

// lastPort is the last port that freePort gave: it goes on from there, so that no two
// of one test are the same before they are bound.
var lastPort atomic.Int64

// freePort finds a free port. It lies below the range the system
// takes for outgoing connections, so that it stays free while a server that
// owns it restarts, and above the range berth derives ports from.
func freePort() (int, error) {
	const low, high = 30000, 32700
	lastPort.CompareAndSwap(0, int64(os.Getpid()))
	for range high - low {
		port := low + int(lastPort.Add(1))%(high-low)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", low, high)
}

// until polls cond until it is nil or time is up; then it returns cond's error.
func until(ctx context.Context, limit, every time.Duration, cond func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := cond()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
