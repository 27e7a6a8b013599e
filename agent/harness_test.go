package agent

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simcluster/faketsh"
	"berth/internal/testwait"
	"berth/proxies"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childAgent())
	}
	if faketsh.Invoked(os.Args[0], os.Environ()) {
		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	for key, value := range map[string]string{"BERTH_FAKE_TSH_KEY": "ecdsa", "GORACE": "atexit_sleep_ms=0"} {
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := n.Value.Set("8"); err != nil { // they mostly wait
			panic(err)
		}
	}
	goleak.VerifyTestMain(m,
		// Kept by gRPC's and OpenTelemetry's package state for the process's life.
		goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
	)
}

// env is a simulated cluster, a home and a berth to test with.
type env struct {
	t    *testing.T
	sim  *simcluster.Cluster
	home string // TELEPORT_HOME
	dir  string // BERTH_HOME
	p    paths.Paths
	tsh  string // the fake tsh that the config names; empty: none
	log  *syncBuffer
}

const wait = testwait.Patience // for anything that should happen at once

// newEnv starts a simulated cluster with the given databases, and prepares a
// config that trusts its web CA. No one is logged in and no agent runs.
func newEnv(t *testing.T, cfg simcluster.Config) *env {
	t.Helper()
	if cfg.Databases == nil {
		cfg.Databases = []simcluster.Database{{Name: "pg", Protocol: "postgres"}}
	}
	sim, err := simcluster.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close simcluster: %v", err)
		}
	})
	e := &env{t: t, sim: sim, home: filepath.Join(t.TempDir(), "tsh"), dir: t.TempDir(), log: &syncBuffer{}}
	if e.p, err = paths.Resolve(func(key string) string {
		return map[string]string{paths.HomeVar: e.dir}[key]
	}); err != nil {
		t.Fatal(err)
	}
	if err := e.p.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	if err := sim.WriteWebCA(e.caFile()); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *env) caFile() string { return filepath.Join(e.dir, "web-ca.pem") }

// login does what "tsh login" would.
func (e *env) login(opts ...simcluster.LoginOption) {
	e.t.Helper()
	if err := e.sim.Login(e.home, "alice", opts...); err != nil {
		e.t.Fatal(err)
	}
}

// config writes the config file: the trusted proxy, the home, and the tunnels
// given as flow-style YAML items.
func (e *env) config(tunnels ...string) {
	e.t.Helper()
	var b strings.Builder
	if e.tsh != "" {
		fmt.Fprintf(&b, "tsh: {path: %q}\n", e.tsh)
	}
	fmt.Fprintf(&b, "version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, ca_file: %q}\ntunnels:\n", e.home, e.sim.ProxyAddr(), e.caFile())
	for _, tun := range tunnels {
		fmt.Fprintf(&b, "  - {%s}\n", tun)
	}
	if len(tunnels) == 0 {
		b.WriteString("  []\n")
	}
	if err := os.WriteFile(e.p.Config, []byte(b.String()), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// pgTunnel is a tunnel to the database pg on a free port.
func (e *env) pgTunnel(name string, more ...string) (item string, port int) {
	e.t.Helper()
	port = freePort(e.t)
	item = fmt.Sprintf("name: %s, kind: db, cluster: %s, resource: pg, db_user: alice, db_name: app, port: %d", name, e.sim.Name(), port)
	for _, m := range more {
		item += ", " + m
	}
	return item, port
}

// startAgent is start for a test that plays the operating system.
func (e *env) startAgent() *Agent {
	e.t.Helper()
	var agent *Agent
	e.startWith(func(a *Agent) { agent = a })
	return agent
}

// start runs an agent until the test ends or stop is called.
func (e *env) start() (stop func()) {
	e.t.Helper()
	return e.startWith(func(*Agent) {})
}

// startWith is start; change gets the agent before it runs.
func (e *env) startWith(change func(*Agent)) (stop func()) {
	e.t.Helper()
	return e.startOptions(func(*Options) {}, change)
}

func (e *env) startOptions(with func(*Options), change func(*Agent)) (stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.t.Context())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		opts := Options{
			Paths: e.p, Version: "test", Logger: slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Ready: func() { close(ready) },
		}
		with(&opts)
		done <- runWith(ctx, opts, change)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				e.t.Errorf("agent: %v", err)
			}
		case <-time.After(wait):
			e.t.Error("agent did not stop")
		}
	})
	e.t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		done <- err
		e.t.Fatalf("agent did not start: %v", err)
	case <-time.After(wait):
		e.t.Fatal("agent did not start")
	}
	e.t.Cleanup(func() {
		if e.t.Failed() {
			e.t.Logf("agent log:\n%s", e.log.String())
		}
	})
	return stop
}

func (e *env) client() *client.Client {
	e.t.Helper()
	c := client.Dial(e.p.Socket)
	e.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			e.t.Errorf("close client: %v", err)
		}
	})
	return c
}

func (e *env) snapshot() state.Snapshot {
	e.t.Helper()
	s, err := e.client().Snapshot(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// await returns the first snapshot that ok accepts.
func (e *env) await(what string, ok func(state.Snapshot) bool) state.Snapshot {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), wait)
	defer cancel()
	var last state.Snapshot
	for s, err := range e.client().Follow(ctx) {
		if err != nil {
			continue // the agent is not there yet
		}
		if last = s; ok(s) {
			return s
		}
	}
	e.t.Fatalf("waited in vain for %s; last snapshot:\n%+v", what, last)
	return last
}

func (e *env) awaitState(name string, want state.TunnelState) state.Tunnel {
	e.t.Helper()
	var got state.Tunnel
	e.await(fmt.Sprintf("tunnel %s to be %s", name, want), func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.Name == name {
				got = tun
			}
		}
		return got.State == want
	})
	return got
}

// pg connects to a Postgres tunnel.
func (e *env) pg(ctx context.Context, port int) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgres://alice@127.0.0.1:%d/app?sslmode=disable", port))
}

func (e *env) mustPG(port int) *pgx.Conn {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), wait)
	defer cancel()
	conn, err := e.pg(ctx, port)
	if err != nil {
		e.t.Fatalf("connect through port %d: %v", port, err)
	}
	e.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) }) // it may be broken on purpose
	return conn
}

// servedBy asks the simulated Postgres about the cert it was reached with.
func servedBy(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	rows, err := conn.Query(ctx, "select * from session_identity", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	got := make(map[string]string)
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		got[name] = value
	}
	return got, rows.Err()
}

func (e *env) serial(conn *pgx.Conn) string {
	e.t.Helper()
	got, err := servedBy(e.t.Context(), conn)
	if err != nil {
		e.t.Fatalf("ask for the cert's serial: %v", err)
	}
	return got["serial"]
}

// lastPort is the last port given to a test: below the ephemeral range, so
// that no outgoing connection takes one between here and its use.
var lastPort atomic.Int64

func freePort(t *testing.T) int {
	t.Helper()
	lastPort.CompareAndSwap(0, int64(15000+os.Getpid()%10000))
	for {
		port := int(lastPort.Add(1))
		if port > 30000 {
			t.Fatal("no free port below the ephemeral range")
		}
		if !proxies.PortBusy(port) {
			return port
		}
	}
}

// syncBuffer is a log that many goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
