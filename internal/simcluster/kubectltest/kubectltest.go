// Package kubectltest runs the real kubectl in tests. It finds one, keeps it
// away from the user's own kubeconfig and cache, and ends it with the test.
package kubectltest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/plain"
	"berth/internal/testneeds"
)

// Var names a kubectl to use instead of searching for one.
const Var = "BERTH_TEST_KUBECTL"

// leastMinor is the oldest minor version of kubectl that loses nothing. Those
// from 1.30 to 1.33 read from a WebSocket before they have made the streams,
// and drop what comes first: the beginning of what "exec" prints or "cp"
// copies. Source: client-go, tools/remotecommand/websocket.go, where 0.34.0
// waits for readyChan (kubernetes/kubernetes#131203).
const leastMinor = 34

// patience bounds one run.
const patience = 60 * time.Second

// Kubectl is a kubectl with a kubeconfig.
type Kubectl struct {
	Path string
	env  []string
	dir  string
}

// New returns the real kubectl, to be used with a kubeconfig. Where there is
// none that is new enough the test is skipped, and fails in CI: "make
// test-deps" builds one.
func New(t testing.TB, kubeconfig string) *Kubectl {
	t.Helper()
	path, err := Path()
	testneeds.Tool(t, fmt.Sprintf("kubectl 1.%d or later", leastMinor), err)
	k := &Kubectl{Path: path, dir: t.TempDir()}
	k.env = []string{"KUBECONFIG=" + kubeconfig, "HOME=" + k.dir, "KUBECACHEDIR=" + k.dir}
	for _, name := range []string{"PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TELEPORT_HOME"} {
		if v, ok := os.LookupEnv(name); ok {
			k.env = append(k.env, name+"="+v)
		}
	}
	return k
}

// Path returns a kubectl that is new enough, or why there is none. It looks for
// one once in a test program's life.
func Path() (string, error) { return found() }

var found = sync.OnceValues(find)

// find returns the kubectl that Var names; without Var, the kubectl that "make
// test-deps" builds, or that on PATH.
func find() (string, error) {
	if path := os.Getenv(Var); path != "" {
		return path, usable(path)
	}
	built, err := Built()
	if err == nil {
		if err = usable(built); err == nil {
			return built, nil
		}
	}
	path, pathErr := exec.LookPath("kubectl")
	if pathErr == nil {
		pathErr = usable(path)
	}
	if pathErr == nil {
		return path, nil
	}
	return "", errors.Join(err, pathErr)
}

// usable returns why a kubectl will not do.
func usable(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version", "--client", "-o", "json").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var v struct{ ClientVersion struct{ Minor string } }
	if err := json.Unmarshal(out, &v); err != nil {
		return fmt.Errorf("%s: read its version: %w", path, err)
	}
	minor, err := strconv.Atoi(strings.TrimRight(v.ClientVersion.Minor, "+"))
	if err != nil {
		return fmt.Errorf("%s: read its version: %w", path, err)
	}
	if minor < leastMinor {
		return fmt.Errorf("%s is 1.%d", path, minor)
	}
	return nil
}

// Built returns where "make test-deps" puts the kubectl it builds.
func Built() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("the source folder is not known")
	}
	name := "kubectl"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "build", "tools", name), nil
}

// With returns the same kubectl with more variables, such as NAME=value.
func (k *Kubectl) With(env ...string) *Kubectl {
	c := *k
	c.env = append(append([]string(nil), k.env...), env...)
	return &c
}

// Env is the environment of its runs, for those who run it by other means.
func (k *Kubectl) Env() []string { return append([]string(nil), k.env...) }

// Transports returns a kubectl for each way that exec and port-forward can
// travel, by its name.
func (k *Kubectl) Transports() map[string]*Kubectl {
	set := func(v string) *Kubectl {
		return k.With("KUBECTL_REMOTE_COMMAND_WEBSOCKETS="+v, "KUBECTL_PORT_FORWARD_WEBSOCKETS="+v)
	}
	return map[string]*Kubectl{"spdy": set("false"), "websocket": set("true")}
}

// Result is how a run ended.
type Result struct {
	Out, Err string
	Code     int
}

// Run runs kubectl to its end.
func (k *Kubectl) Run(t testing.TB, args ...string) Result {
	t.Helper()
	return k.RunIn(t, nil, args...)
}

// RunIn is Run with something on stdin.
func (k *Kubectl) RunIn(t testing.TB, stdin []byte, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.Path, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = k.env, k.dir, bytes.NewReader(stdin)
	cmd.WaitDelay = patience // what it wrote may be read late on a busy machine
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("kubectl %q: %v\n%s%s", args, errors.Join(err, ctx.Err()), plain.Head(out.String(), 2<<10), errOut.String())
	}
	return Result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// Must runs kubectl, which has to succeed, and returns its stdout.
func (k *Kubectl) Must(t testing.TB, args ...string) string {
	t.Helper()
	return k.MustIn(t, nil, args...)
}

// MustIn is Must with something on stdin.
func (k *Kubectl) MustIn(t testing.TB, stdin []byte, args ...string) string {
	t.Helper()
	r := k.RunIn(t, stdin, args...)
	if r.Code != 0 {
		t.Fatalf("kubectl %q: exit code %d\n%s%s", args, r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Process is a kubectl that runs on.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// Write is where the process's output goes.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// Output returns what the process has printed so far, on both streams.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Start starts a kubectl that ends with the test at the latest.
func (k *Kubectl) Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{done: make(chan struct{})}
	p.cmd = exec.Command(k.Path, args...) //nolint:noctx // it outlives the call; Stop ends it
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = k.env, k.dir, p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("kubectl %q: %v", args, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its output
	}()
	t.Cleanup(p.Stop)
	return p
}

// Stop ends the process.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Ended reports whether the process has ended by itself.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Await waits until the output contains text, and returns it all.
func (p *Process) Await(t testing.TB, text string) string {
	t.Helper()
	return p.AwaitFunc(t, fmt.Sprintf("%q", text), func(out string) bool { return strings.Contains(out, text) })
}

// AwaitFunc waits until the output is as wanted, and returns it.
func (p *Process) AwaitFunc(t testing.TB, what string, ok func(string) bool) string {
	t.Helper()
	deadline := time.After(patience / 2)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := p.Ended()
		if out := p.Output(); ok(out) {
			return out
		} else if ended {
			t.Fatalf("kubectl ended before it printed %s:\n%s", what, out)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("kubectl did not print %s:\n%s", what, p.Output())
		}
	}
}
