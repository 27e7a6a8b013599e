package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/status"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }

// fakeAgent is a backend that records what it is asked.
type fakeAgent struct {
	mu       sync.Mutex
	cur      state.Snapshot
	watchers map[chan struct{}]struct{}
	calls    []string
	err      error // what commands return
	block    chan struct{}
	blocked  atomic.Int32 // calls
	// onSubscribe is called after each subscription; nil: nothing is.
	onSubscribe func()
}

func (a *fakeAgent) publish(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cur.Agent.PID = n
	for ch := range a.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (a *fakeAgent) Snapshot() *state.Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	return new(a.cur)
}

func (a *fakeAgent) Subscribe() (<-chan struct{}, func()) {
	if a.onSubscribe != nil {
		defer a.onSubscribe()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	ch := make(chan struct{}, 1)
	if a.watchers == nil {
		a.watchers = map[chan struct{}]struct{}{}
	}
	a.watchers[ch] = struct{}{}
	return ch, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.watchers, ch)
	}
}

func (a *fakeAgent) record(ctx context.Context, format string, args ...any) error {
	if a.block != nil {
		a.blocked.Add(1)
		select {
		case <-a.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p, ok := ipc.PeerFrom(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !ok || p.PID != os.Getpid() || p.UID == "" {
		return fmt.Errorf("peer is %+v, want this process", p)
	}
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
	return a.err
}

func (a *fakeAgent) ListResources(ctx context.Context, q ipc.ResourceQuery) ([]ipc.Resource, []string, error) {
	return []ipc.Resource{{Name: "pg", Kind: state.KindDB, Labels: map[string]string{"env": "prod"},
		DBUsers: []string{"alice"}, DBNames: []string{"*"}}}, nil, a.record(ctx, "list %s %s", q.Kind, q.Cluster)
}

func (a *fakeAgent) AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	err := a.record(ctx, "add %s", spec.Name)
	spec.Port = 15432
	return spec, err
}

func (a *fakeAgent) ChangeTunnel(ctx context.Context, name string, spec state.TunnelSpec) (state.TunnelSpec, error) {
	err := a.record(ctx, "change %s to %s", name, spec.Name)
	spec.Port = 15433
	return spec, err
}

func (a *fakeAgent) RemoveTunnel(ctx context.Context, n string) error {
	return a.record(ctx, "remove %s", n)
}
func (a *fakeAgent) StartTunnel(ctx context.Context, n string) error {
	return a.record(ctx, "start %s", n)
}
func (a *fakeAgent) StopTunnel(ctx context.Context, n string) error {
	return a.record(ctx, "stop %s", n)
}
func (a *fakeAgent) RestartTunnel(ctx context.Context, n string) error {
	return a.record(ctx, "restart %s", n)
}

func (a *fakeAgent) LocalCA(context.Context) (ipc.LocalCA, error) {
	return ipc.LocalCA{Path: "/ca.pem", PEM: []byte("pem")}, nil
}

func (a *fakeAgent) KubeCredentials(ctx context.Context, c, k string) (ipc.KubeCredentials, error) {
	return ipc.KubeCredentials{
		Cert: []byte("cert"), Key: []byte("key"), ValidUntil: time.Date(2026, 5, 1, 14, 2, 11, 0, time.UTC),
		Server: "https://p", ServerName: "s", CA: []byte("ca"),
	}, a.record(ctx, "kube credentials %s %s", c, k)
}

func (a *fakeAgent) TunnelHistory(ctx context.Context, n string) ([]state.Event, error) {
	at := time.Date(2026, 5, 1, 14, 2, 11, 0, time.UTC)
	return []state.Event{
		{At: at, Kind: state.EventCert, Text: "cert renewed", Until: &at}, {At: at, Kind: state.EventState, Text: "ready"},
	}, a.record(ctx, "history %s", n)
}

func (a *fakeAgent) CheckTunnels(ctx context.Context, names []string) ([]state.Readiness, error) {
	return []state.Readiness{{
		Name: "t", State: state.TunnelError, Code: state.CodeProxyUnreachable, Protocol: "postgres",
		ProbedAt: time.Date(2026, 5, 1, 14, 2, 11, 0, time.UTC),
	}}, a.record(ctx, "check %v", names)
}

func (a *fakeAgent) Login(
	ctx context.Context, start ipc.LoginStart, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error,
) error {
	if err := show(ipc.LoginEvent{ID: 7, Kind: state.LoginPassword, Text: "Password:", Proxy: "p:443"}); err != nil {
		return err
	}
	select {
	case answer := <-answers:
		if err := a.record(ctx, "login %s %s %s %s: %d %s", start.Proxy, start.User, start.Auth, start.TTL,
			answer.ID, answer.Secret); err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return show(ipc.LoginEvent{Kind: state.LoginDone, Text: "welcome"})
}

func (a *fakeAgent) Logout(ctx context.Context, proxy, user string) (string, error) {
	return "p:443", a.record(ctx, "logout %s", proxy+" "+user)
}

func (a *fakeAgent) Forget(ctx context.Context, proxy, user string) (ipc.Forgotten, error) {
	return ipc.Forgotten{Proxy: "p:443", User: "u", Stored: []string{"password"}}, a.record(ctx, "forget %s", proxy+" "+user)
}

func (a *fakeAgent) Cancel(ctx context.Context, proxy, user string) error {
	return a.record(ctx, "cancel %s", proxy+" "+user)
}

func (a *fakeAgent) TunnelPlot(ctx context.Context, n string) ([]state.PlotPoint, error) {
	at := time.Date(2026, 5, 1, 14, 2, 0, 0, time.UTC)
	return []state.PlotPoint{{At: at, Connections: 3, BytesIn: 5, Held: state.Duration(time.Second)}}, a.record(ctx, "plot %s", n)
}

func (a *fakeAgent) TunnelClients(ctx context.Context) ([]state.TunnelClient, error) {
	return []state.TunnelClient{{Tunnel: "t", Program: "ps\x1b[2Jql\u202e", PID: 7, Connections: 2}}, a.record(ctx, "clients")
}

func (a *fakeAgent) ChangeSetting(ctx context.Context, c ipc.SettingChange) error {
	return a.record(ctx, "set %s %s %s", c.Key, c.Proxy, c.Value)
}

func (a *fakeAgent) DismissNotice(ctx context.Context, id string) error {
	return a.record(ctx, "dismiss %s", id)
}

func (a *fakeAgent) Snooze(ctx context.Context, proxy, user string) (ipc.Snoozed, error) {
	return ipc.Snoozed{Proxy: "p:443", Until: new(time.Unix(1, 0).UTC())}, a.record(ctx, "snooze %s", proxy+" "+user)
}

func (a *fakeAgent) ReloadConfig(ctx context.Context) error { return a.record(ctx, "reload") }

func (a *fakeAgent) HandOver(ctx context.Context, program string, env []string) (ipc.Successor, error) {
	return ipc.Successor{PID: 7, Version: "2"}, a.record(ctx, "hand over to %s with %v", program, env)
}

func (a *fakeAgent) Shutdown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, "shutdown")
}

// serve runs a at address until the returned function, or the test's end.
func serve(t *testing.T, a *fakeAgent, address string) (stop func()) {
	t.Helper()
	return serveFor(t, a, address, testwait.Patience)
}

// serveFor is serve with the time that calls have to end once the server stops.
func serveFor(t *testing.T, a *fakeAgent, address string, grace time.Duration) (stop func()) {
	t.Helper()
	ln, err := ipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	srv := ipc.NewServer(ipc.ServerConfig{
		Backend: ipc.Backend{Agent: a, Tunnels: a, Logins: a, Renewals: a, Kube: a}, Logger: slog.New(slog.DiscardHandler), Grace: grace,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func newAddress(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "berth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p, err := paths.Resolve(func(key string) string {
		return map[string]string{paths.HomeVar: dir}[key]
	})
	if err != nil {
		t.Fatal(err)
	}
	return p.Socket
}

func newClient(t *testing.T, address string) *Client {
	t.Helper()
	c := Dial(address)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A logout is answered when no tunnel of its proxy is shown as ready any longer.
func TestLogoutAgrees(t *testing.T) {
	ready := state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "t"}, Profile: "p:443", State: state.TunnelReady}
	a := &fakeAgent{cur: state.Snapshot{Tunnels: []state.Tunnel{ready}}}
	a.onSubscribe = func() {
		waiting := ready
		waiting.State = state.TunnelWaitingForLogin
		a.mu.Lock()
		a.cur.Tunnels = []state.Tunnel{waiting}
		a.mu.Unlock()
		a.publish(1)
	}
	address := newAddress(t)
	serve(t, a, address)
	if _, err := newClient(t, address).Logout(t.Context(), "p", ""); err != nil {
		t.Fatal(err)
	}
	if now := a.Snapshot().Tunnels[0].State; now != state.TunnelWaitingForLogin {
		t.Errorf("after a logout the tunnel is shown as %s", now)
	}
}

func TestCommands(t *testing.T) {
	a := &fakeAgent{cur: state.Snapshot{Agent: state.Agent{
		Version: "1.2.3", PID: 77, StartedAt: time.Unix(1700000000, 0).UTC(), ConfigPath: "/c.yaml",
	}}}
	address := newAddress(t)
	serve(t, a, address)
	c := newClient(t, address)
	ctx := t.Context()

	info, err := c.Info(ctx)
	want := state.Agent{Version: "1.2.3", PID: 77, StartedAt: time.Unix(1700000000, 0).UTC(), ConfigPath: "/c.yaml"}
	if diff := cmp.Diff(want, info); err != nil || diff != "" {
		t.Errorf("Info: %v, (-want +got)\n%s", err, diff)
	}
	if s, err := c.Snapshot(ctx); err != nil || s.Agent.PID != 77 {
		t.Errorf("Snapshot: %+v, %v", s.Agent, err)
	}
	list, _, err := c.Resources(ctx, ResourceQuery{Kind: state.KindDB, Cluster: "leaf"})
	if err != nil || len(list) != 1 || list[0].Labels["env"] != "prod" || list[0].DBNames[0] != "*" {
		t.Errorf("Resources: %+v, %v", list, err)
	}
	spec, err := c.AddTunnel(ctx, state.TunnelSpec{Name: "t", Hold: new(state.Duration(time.Second))})
	if err != nil || spec.Port != 15432 || spec.HoldDuration() != time.Second {
		t.Errorf("AddTunnel: %+v, %v", spec, err)
	}
	for _, f := range []func() error{
		func() error {
			spec, err := c.ChangeTunnel(ctx, "t", state.TunnelSpec{Name: "u"})
			if spec.Name != "u" || spec.Port != 15433 {
				t.Errorf("changed is %+v", spec)
			}
			return err
		},
		func() error { return c.StopTunnel(ctx, "t") },
		func() error { return c.StartTunnel(ctx, "t") },
		func() error { return c.RestartTunnel(ctx, "t") },
		func() error {
			at := time.Date(2026, 5, 1, 14, 2, 11, 0, time.UTC)
			want := []state.Event{
				{At: at, Kind: state.EventCert, Text: "cert renewed", Until: &at}, {At: at, Kind: state.EventState, Text: "ready"},
			}
			got, err := c.TunnelHistory(ctx, "t")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("history (-want +got):\n%s", diff)
			}
			return err
		},
		func() error {
			got, err := c.CheckTunnels(ctx, "t", "u")
			if err == nil && (len(got) != 1 || got[0].Ready || got[0].Code != state.CodeProxyUnreachable ||
				got[0].ProbedAt.IsZero()) {
				t.Errorf("checked %+v", got)
			}
			return err
		},
		func() error {
			want := KubeCredentials{
				Cert: []byte("cert"), Key: []byte("key"), ValidUntil: time.Date(2026, 5, 1, 14, 2, 11, 0, time.UTC),
				Server: "https://p", ServerName: "s", CA: []byte("ca"),
			}
			got, err := c.KubeCredentials(ctx, "c", "k")
			if !cmp.Equal(want, got) {
				t.Error("the credentials of a Kubernetes cluster differ")
			}
			return err
		},
		func() error {
			var kinds []state.LoginKind
			start := LoginStart{Proxy: "p", User: "u", Auth: "okta", TTL: time.Hour}
			err := c.Login(ctx, start, func(e LoginEvent, answer func(string)) error {
				kinds = append(kinds, e.Kind)
				answer("hunter2")
				return nil
			})
			if diff := cmp.Diff([]state.LoginKind{state.LoginPassword, state.LoginDone}, kinds); diff != "" {
				t.Errorf("the steps of the login (-want +got):\n%s", diff)
			}
			return err
		},
		func() error {
			proxy, err := c.Logout(ctx, "p", "u")
			if proxy != "p:443" {
				t.Errorf("logged out of %q, want what the agent says", proxy)
			}
			return err
		},
		func() error {
			s, err := c.SnoozeRenewal(ctx, "p", "u")
			if s.Proxy != "p:443" || s.Until == nil || s.Until.Unix() != 1 {
				t.Errorf("snoozed %+v, want what the agent says", s)
			}
			return err
		},
		func() error { return c.CancelLogin(ctx, "p", "u") },
		func() error { return c.DismissNotice(ctx, "n") },
		func() error {
			f, err := c.ForgetLogin(ctx, "p", "u")
			if diff := cmp.Diff(ipc.Forgotten{Proxy: "p:443", User: "u", Stored: []string{"password"}}, f); diff != "" {
				t.Errorf("forgotten (-want +got):\n%s", diff)
			}
			return err
		},
		func() error {
			points, err := c.TunnelPlot(ctx, "t")
			if len(points) != 1 || points[0].Connections != 3 || points[0].Held != state.Duration(time.Second) {
				t.Errorf("the plot is %+v", points)
			}
			return err
		},
		func() error {
			clients, err := c.TunnelClients(ctx)
			if len(clients) != 1 || clients[0].Tunnel != "t" || clients[0].PID != 7 || clients[0].Connections != 2 {
				t.Errorf("the clients are %+v", clients)
			}
			return err
		},
		func() error { return c.ChangeSetting(ctx, SettingChange{Key: "renew.mode", Proxy: "p", Value: "auto"}) },
		func() error { return c.RemoveTunnel(ctx, "t") },
		func() error { return c.ReloadConfig(ctx) },
		func() error {
			next, err := c.HandOver(ctx, "/b", []string{"A=1"})
			if next != (Successor{PID: 7, Version: "2"}) {
				t.Errorf("the successor is %+v", next)
			}
			return err
		},
		func() error { return c.Shutdown(ctx) },
	} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	wantCalls := []string{"list db leaf", "add t", "change t to u", "stop t", "start t", "restart t", "history t", "check [t u]", "kube credentials c k", "login p u okta 1h0m0s: 7 hunter2", "logout p u", "snooze p u", "cancel p u", "dismiss n", "forget p u", "plot t", "clients", "set renew.mode p auto", "remove t", "reload", "hand over to /b with [A=1]", "shutdown"}
	if diff := cmp.Diff(wantCalls, a.calls); diff != "" {
		t.Errorf("the agent was asked (-want +got):\n%s", diff)
	}
}

func TestCommandErrorKeepsCodeAndHint(t *testing.T) {
	a := &fakeAgent{err: &Error{Code: ipc.CodeLoginNeeded, Message: "no session", Hint: "berth login"}}
	address := newAddress(t)
	serve(t, a, address)
	c := newClient(t, address)
	err := c.StartTunnel(t.Context(), "t")
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrLoginNeeded) || e.Hint != "berth login" || e.Message != "no session" {
		t.Errorf("StartTunnel: %#v", err)
	}
}

func TestNotRunningIsSaidAtOnce(t *testing.T) {
	address := newAddress(t)
	c := newClient(t, address)
	start := time.Now()
	if _, err := c.Snapshot(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Snapshot without an agent: %v, want ErrNotRunning", err)
	}
	for _, err := range c.Watch(t.Context()) {
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("Watch without an agent: %v, want ErrNotRunning", err)
		}
	}
	testwait.Soon(t, "two refusals", time.Since(start), time.Second)

	// The same client finds an agent that started meanwhile, and loses it.
	stop := serve(t, &fakeAgent{}, address)
	if _, err := c.Snapshot(t.Context()); err != nil {
		t.Errorf("Snapshot of a new agent: %v", err)
	}
	stop()
	if _, err := c.Snapshot(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Snapshot of a stopped agent: %v, want ErrNotRunning", err)
	}
	serve(t, &fakeAgent{}, address)
	if _, err := c.Snapshot(t.Context()); err != nil {
		t.Errorf("Snapshot of a restarted agent: %v", err)
	}
}

func TestWatchGivesTheNewest(t *testing.T) {
	a := &fakeAgent{}
	address := newAddress(t)
	serve(t, a, address)
	c := newClient(t, address)
	a.publish(1)
	var seen []int
	for s, err := range c.Watch(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, s.Agent.PID)
		if s.Agent.PID == 1 {
			for n := 2; n <= 1000; n++ {
				a.publish(n)
				runtime.Gosched() // so that the server sends many
			}
			testwait.Moment() // a slow front end
		}
		if s.Agent.PID == 1000 {
			break
		}
	}
	if seen[0] != 1 || len(seen) > 3 {
		t.Errorf("a front end that slept through 999 updates saw %v, want 1 first and at most two more", seen)
	}
}

func TestWatchEnds(t *testing.T) {
	a := &fakeAgent{}
	address := newAddress(t)
	stop := serve(t, a, address)
	c := newClient(t, address)

	t.Run("when_ctx_ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range c.Watch(ctx) {
			cancel()
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("last error = %v, want context.Canceled", last)
		}
	})
	t.Run("when_the_agent_stops", func(t *testing.T) {
		var last error
		for _, err := range c.Watch(t.Context()) {
			if err == nil {
				go stop()
			}
			last = err
		}
		var e *Error
		if !errors.As(last, &e) || e.Code != ipc.CodeNotRunning || e.Message != "the agent is stopping" {
			t.Errorf("last error = %#v, want the agent to say that it stops", last)
		}
	})
}

func TestFollowOutlivesTheAgent(t *testing.T) {
	a := &fakeAgent{}
	a.publish(1)
	address := newAddress(t)
	c := newClient(t, address)
	var seen []string
	var stop func()
	for s, err := range c.Follow(t.Context()) {
		switch {
		case err != nil && len(seen) == 0:
			seen = append(seen, "none")
			stop = serve(t, a, address)
		case err != nil:
			seen = append(seen, "down")
			stop()
			a.publish(2)
			stop = serve(t, a, address)
		default:
			seen = append(seen, strconv.Itoa(s.Agent.PID))
			go stop()
		}
		if len(seen) == 4 {
			break
		}
	}
	if diff := cmp.Diff([]string{"none", "1", "down", "2"}, seen); diff != "" {
		t.Errorf("Follow (-want +got):\n%s", diff)
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	a := &fakeAgent{block: make(chan struct{})}
	address := newAddress(t)
	stop := serveFor(t, a, address, 200*time.Millisecond)
	c := newClient(t, address)
	failed := make(chan error, 1)
	go func() { failed <- c.StopTunnel(context.Background(), "t") }()
	testwait.Eventually(t, "the call", func() bool { return a.blocked.Load() > 0 })
	start := time.Now()
	stop()
	testwait.Soon(t, "stopping with a call in progress, and a grace of 200ms,", time.Since(start), 2*time.Second)
	if err := <-failed; err == nil {
		t.Error("the call that was cut short succeeded")
	}
}

// TestReachesNoCredential is the rule that a front end, which imports this
// package, can never reach a credential.
func TestReachesNoCredential(t *testing.T) {
	goCommand := testneeds.Program(t, "go")
	out, err := exec.CommandContext(t.Context(), goCommand, "list", "-deps", "berth/agent/ipc/client").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	allowed := map[string]bool{
		"berth/agent/ipc": true, "berth/agent/ipc/berthv1": true, "berth/agent/ipc/client": true,
		"berth/agent/state": true, "berth/internal/plain": true,
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		if strings.HasPrefix(dep, "berth/") && !allowed[dep] || strings.HasPrefix(dep, "github.com/gravitational") {
			t.Errorf("berth/agent/ipc/client reaches %s: front ends never touch credentials", dep)
		}
	}
}

// BenchmarkCall is the agent's part of a command: connect, ask, close.
func BenchmarkCall(b *testing.B) {
	dir := b.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	address := filepath.Join(dir, "s")
	ln, err := ipc.Listen(address)
	if err != nil {
		b.Fatal(err)
	}
	a := &fakeAgent{cur: state.Snapshot{Tunnels: make([]state.Tunnel, 50)}}
	srv := ipc.NewServer(ipc.ServerConfig{Backend: ipc.Backend{Agent: a, Tunnels: a, Logins: a, Renewals: a, Kube: a}, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx, ln) }()
	for b.Loop() {
		c := Dial(address)
		if _, err := c.Snapshot(ctx); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// TestJSON makes calls as a page does: known ones alone, and what others wrote arrives
// clean.
func TestJSON(t *testing.T) {
	a := &fakeAgent{cur: state.Snapshot{
		Requests: []state.Request{{ID: "1", Reason: "two\nlines \x1b[31mred\u202e", Roles: []string{"a\x07b"}}},
		Tunnels: []state.Tunnel{
			{TunnelSpec: state.TunnelSpec{Name: "pg", Port: 15432}, Problem: &state.Problem{Text: `Tunnel "pg" waits.`}},
			{TunnelSpec: state.TunnelSpec{Name: "my"}, Problem: &state.Problem{Text: `Tunnel "my" waits.`}},
		},
	}}
	address := newAddress(t)
	serve(t, a, address)
	c := newClient(t, address)
	ctx := t.Context()
	answer, err := c.CallJSON(ctx, "AddTunnel", []byte(`{"spec":{"name":"t","port":"1"}}`))
	if err != nil || !strings.Contains(strings.ReplaceAll(string(answer), " ", ""), `"port":"15432"`) {
		t.Errorf("AddTunnel: %s, %v", answer, err)
	}
	answer, err = c.CallJSON(ctx, "TunnelClients", []byte(`{}`))
	if err != nil || strings.ReplaceAll(string(answer), " ", "") != `{"clients":[{"tunnel":"t","program":"psql","pid":"7","connections":"2"}]}` {
		t.Errorf("TunnelClients: %s, %v", answer, err)
	}
	for call, request := range map[string]string{
		"KubeCredentials": `{}`, "LocalCA": `{}`, "Shutdown": `{}`, "HandOver": `{}`, "Login": `{}`, "WatchSnapshots": `{}`, "": `{}`,
		"AddTunnel": `{"spec":{"nome":"t"}}`, "StopTunnel": `{"name":`,
	} {
		if answer, err := c.CallJSON(ctx, call, []byte(request)); err == nil {
			t.Errorf("%s %s is answered: %s", call, request, answer)
		}
	}
	for name := range jsonCalls {
		if _, _, err := messagesOf(jsonCalls[name].method); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Tunnel(ctx, "none"); err == nil {
		t.Error("there is a tunnel that there is not")
	}
	for text, err := range c.FollowJSON(ctx) {
		got := strings.ReplaceAll(string(text), ": ", ":")
		if err != nil || !strings.Contains(got, `"reason":"two\nlines red"`) || !strings.Contains(got, `"roles":["ab"]`) ||
			!json.Valid(text) || !strings.Contains(got, `"causes":[{"tunnels":["pg","my"],"text":"Each of 2 tunnels waits."}]`) {
			t.Errorf("the snapshot: %s, %v", text, err)
		}
		break
	}
	if want := []string{"add t", "clients"}; !cmp.Equal(want, a.calls) {
		t.Errorf("the agent was asked %q", a.calls)
	}
}

// TestLargestSnapshot: a snapshot below the limit of the agent's answers arrives, and
// of one above it the caller reads which limit that is.
func TestLargestSnapshot(t *testing.T) {
	a := &fakeAgent{}
	address := newAddress(t)
	serve(t, a, address)
	c := newClient(t, address)
	const rest = 1 << 10 // of a message, beside the text
	for _, large := range []bool{false, true} {
		size := ipc.MaxReplyBytes - rest
		if large {
			size = ipc.MaxReplyBytes
		}
		a.mu.Lock()
		a.cur.Agent.ConfigPath = strings.Repeat("x", size)
		a.mu.Unlock()
		// As Snapshot does, with more time: so much takes a while on a busy machine.
		s, err := call(t.Context(), c, testwait.Patience, &pb.GetSnapshotRequest{}, pb.AgentClient.GetSnapshot)
		switch {
		case large && (err == nil || !strings.Contains(err.Error(), "64 MB for an answer")):
			t.Errorf("a snapshot above the limit: %v", err)
		case !large && (err != nil || len(s.GetSnapshot().GetAgent().GetConfigPath()) != size):
			t.Errorf("a snapshot below the limit: %v", err)
		}
	}
}

// lateContext is one whose deadline has passed and whose timer has not run yet, as
// on a busy machine.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now(), true }

func TestCancelledAtTheDeadlineIsTimeout(t *testing.T) {
	early, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	cancelled := status.FromContextError(context.Canceled).Err()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		want ipc.Code
	}{
		{"after the deadline", lateContext{t.Context()}, ipc.CodeTimeout},
		{"before it", early, ipc.CodeFailed},
		{"without one", t.Context(), ipc.CodeFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := new(Client).failed(tt.ctx, nil, cancelled)
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != tt.want {
				t.Errorf("failed() = %v, want the code %s", err, tt.want)
			}
		})
	}
}
