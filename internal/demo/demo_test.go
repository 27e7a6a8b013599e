package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	ServeAsTSH()
	testwait.NoLeaks(m,
		// Kept by gRPC's package state for the process's life.
		goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
	)
}

const wait = 30 * time.Second

// transcript is what the demo prints, readable while it goes on.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// ownTemp gives the demo a folder for temporary files of its own, and checks
// in the end that nothing is left in it.
func ownTemp(t *testing.T, dir string) {
	t.Helper()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // Windows
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind in the temporary folder: %v, %v", left, err)
		}
	})
}

// start runs a demo, and returns when it has printed what marks the end of
// its start.
func start(t *testing.T, ttl time.Duration) (out *transcript, stop func() error) {
	t.Helper()
	out = &transcript{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Out: out, Version: "test", StandIns: true, SessionTTL: ttl}) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(wait):
			return errors.New("the demo does not stop")
		}
	})
	t.Cleanup(func() { _ = stop() }) // the test looks at it
	await(t, out, "Ctrl-C ends the demo")
	return out, stop
}

func await(t *testing.T, out *transcript, text string) {
	t.Helper()
	if !testwait.Until(func() bool { return strings.Contains(out.String(), text) }) {
		t.Fatalf("the demo never says %q:\n%s", text, out)
	}
}

func TestCheck(t *testing.T) {
	ownTemp(t, t.TempDir())
	var out bytes.Buffer
	if err := Run(t.Context(), Options{Out: &out, Version: "test", Check: true, StandIns: true, SessionTTL: 6 * time.Second}); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := strings.Count(out.String(), "ok    "); got != 6 || strings.Contains(out.String(), "FAIL") {
		t.Errorf("the tour went so:\n%s", &out)
	}
}

// What is printed must be true: the home, the addresses, the renewals.
func TestWhatItPrints(t *testing.T) {
	ownTemp(t, shortTemp(t))
	out, stop := start(t, minSessionTTL)
	text := out.String()
	home := regexp.MustCompile(`(?:export BERTH_HOME=|BERTH_HOME = ')([^\n']+)`).FindStringSubmatch(text)
	if home == nil {
		t.Fatalf("no BERTH_HOME in\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(home[1], "config.yaml")); err != nil {
		t.Errorf("the home it names: %v", err)
	}
	ports := regexp.MustCompile(`(?:127\.0\.0\.1:|-P |-p )(\d+)`).FindAllStringSubmatch(text, -1)
	if len(ports) != 3 {
		t.Fatalf("%d ports in\n%s", len(ports), text)
	}
	for _, m := range ports {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+m[1])
		if err != nil {
			t.Errorf("an address it prints: %v", err)
			continue
		}
		conn.Close()
	}
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 100 {
			t.Errorf("line %d is %d columns wide: %q", i+1, len(line), line)
		}
	}
	await(t, out, "session renewed, until ")
	if err := stop(); err != nil {
		t.Errorf("Run after Ctrl-C: %v", err)
	}
}

// A port that another berth, or anything else, holds is passed over, and two
// demos that start at once choose different ones.
func TestPortsThatAreTaken(t *testing.T) {
	spec := state.TunnelSpec{Kind: state.KindDB, Resource: "orders"}
	one, other := &demo{dir: "/tmp/berth-demo-1"}, &demo{dir: "/tmp/berth-demo-2"}
	used := make(map[int]bool)
	first, second := one.freePort(spec, used), one.freePort(spec, used)
	if first == second {
		t.Errorf("two tunnels on port %d", first)
	}
	if port := other.freePort(spec, make(map[int]bool)); port == first {
		t.Errorf("two demos chose port %d", port)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(first))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if port := one.freePort(spec, make(map[int]bool)); port == first {
		t.Errorf("the demo chose port %d, which is taken", port)
	}
}

// Ctrl-C at any moment of the start leaves nothing behind, and is no error.
func TestInterruptedStart(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			ownTemp(t, t.TempDir())
			ctx, cancel := context.WithCancel(t.Context()) // Ctrl-C is no deadline
			defer cancel()
			defer time.AfterFunc(after, cancel).Stop()
			if err := Run(ctx, Options{Out: io.Discard, Version: "test", StandIns: true, SessionTTL: time.Minute}); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// A tour that was cut short has checked nothing.
func TestInterruptedCheck(t *testing.T) {
	ownTemp(t, t.TempDir())
	cause := errors.New("stopped by the test")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &transcript{}
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Out: out, Version: "test", Check: true, StandIns: true, SessionTTL: time.Minute})
	}()
	await(t, out, "ok    Redis")
	cancel(cause)
	if err := <-ended; !errors.Is(err, cause) {
		t.Errorf("Run: %v, want the cause of the interruption", err)
	}
	if strings.Contains(out.String(), "FAIL") {
		t.Errorf("the interruption is called a failure:\n%s", out)
	}
}

// In a long temporary folder the socket lives elsewhere; it goes too.
func TestLongTemporaryFolder(t *testing.T) {
	testneeds.Unix(t, "Windows has a pipe, whose name is short anyway")
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 20))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ownTemp(t, dir)
	d := &demo{Options: Options{SessionTTL: time.Minute, StandIns: true}, dir: filepath.Join(dir, "demo"), servers: make(map[string]*server)}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.tshHome = filepath.Join(d.dir, "tsh")
	if err := d.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.paths.SocketDir()); err != nil || strings.HasPrefix(d.paths.SocketDir(), d.dir) {
		t.Errorf("the socket's folder is %s, %v; the test is pointless", d.paths.SocketDir(), err)
	}
	c := client.Dial(d.paths.Socket)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.runAgent(ctx) }()
	for range c.Follow(ctx) {
		if _, err := c.Info(ctx); err == nil {
			break
		}
	}
	cancel()
	if err := errors.Join(<-ended, d.clean()); err != nil {
		t.Errorf("clean: %v", err)
	}
	if _, err := os.Stat(d.paths.SocketDir()); err == nil {
		t.Errorf("%s is left", d.paths.SocketDir())
	}
}

func TestShortSessionIsRefused(t *testing.T) {
	ownTemp(t, t.TempDir())
	for _, ttl := range []time.Duration{0, -time.Second, minSessionTTL - 1} {
		if err := Run(t.Context(), Options{Out: io.Discard, SessionTTL: ttl}); err == nil || !strings.Contains(err.Error(), "too short") {
			t.Errorf("Run with a session of %s: %v, want a refusal", ttl, err)
		}
	}
}

// shortTemp is a temporary folder in which the socket's path fits.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bd") // t.TempDir is too long for it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestPolicyIsNamed: a machine's policy does not bind the demo's agent, which is said
// where there is one.
func TestPolicyIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	d := demo{Options: Options{Policy: config.PolicyFile{Path: path, Trusted: func(*os.File) error { return nil }}}}
	if got := d.advice(); got != "" {
		t.Errorf("without a policy the demo says %q", got)
	}
	if err := os.WriteFile(path, []byte("links: off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.advice(); !strings.Contains(got, path+" does not bind the demo's agent") {
		t.Errorf("with a policy the demo says %q", got)
	}
}
