package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simcluster/faketsh"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	if faketsh.Invoked(os.Args[0], os.Environ()) { // a child's too, which has the child's environment
		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	if os.Getenv(childEnv) != "" {
		os.Exit(childAgent())
	}
	for key, value := range map[string]string{"BERTH_FAKE_TSH_KEY": "ecdsa", "GORACE": testneeds.RaceOptions} {
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	testwait.ManyAtOnce()
	testwait.NoLeaks(m,
		// Kept by gRPC's and OpenTelemetry's package state for the process's life.
		goleak.IgnoreTopFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"),
		goleak.IgnoreAnyFunction("berth/agent.serveNames"), // the name server of all tests
	)
}

// env is a world to test the agent in.
type env struct {
	*simworld.World
	t   *testing.T
	tsh string // the fake tsh that the config names; empty: none
}

const wait = testwait.Patience // for anything that should happen at once

// newEnv makes a world, with a database if the config has none.
func newEnv(t *testing.T, cfg simcluster.Config) *env {
	t.Helper()
	if cfg.Databases == nil {
		cfg.Databases = []simcluster.Database{{Name: "pg", Protocol: "postgres"}}
	}
	return &env{World: simworld.New(t, cfg), t: t}
}

// config writes the config file: the trusted proxy, the home, and the tunnels
// given as flow-style YAML items.
func (e *env) config(tunnels ...string) {
	e.t.Helper()
	e.profileConfig("", tunnels...)
}

// profileConfig is config with more keys for the one profile.
func (e *env) profileConfig(more string, tunnels ...string) {
	e.t.Helper()
	lines := []string{"tunnels: []"}
	if len(tunnels) > 0 {
		lines = []string{"tunnels:\n  - {" + strings.Join(tunnels, "}\n  - {") + "}"}
	}
	if e.tsh != "" {
		lines = append(lines, fmt.Sprintf("tsh: {path: %q}", e.tsh))
	}
	e.Configure(e.Trust()+", "+more, lines...)
}

// pgTunnel is a tunnel to the database pg on a free port.
func (e *env) pgTunnel(name string, more ...string) (item string, port int) {
	e.t.Helper()
	port = simworld.FreePort(e.t)
	item = fmt.Sprintf("name: %s, kind: db, cluster: %s, resource: pg, db_user: alice, db_name: app, port: %d", name, e.Sim.Name(), port)
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
	return e.Run(func(ctx context.Context, ready func()) error {
		opts := Options{
			Paths: e.Paths, Version: "test", Ready: ready,
			Logger:  slog.New(slog.NewTextHandler(e.Log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			sparing: func() bool { return false }, // whatever the machine of the tests runs on
		}
		with(&opts)
		return runWith(ctx, opts, change)
	})
}

// shortSession logs in for so long, once all has started, however long that took. It
// waits until every tunnel has a cert of that session, and returns when they end.
func (e *env) shortSession(ttl time.Duration) (end time.Time) {
	e.t.Helper()
	e.Login(simcluster.WithTTL(ttl))
	e.Await("the certs of the short session", func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.State != state.TunnelReady || tun.CertValidUntil == nil || time.Until(*tun.CertValidUntil) > time.Minute {
				return false
			}
			end = *tun.CertValidUntil
		}
		return true
	})
	return end
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

// connecting connects to a Postgres tunnel in the background.
func (e *env) connecting(port int) <-chan error {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(e.t.Context(), 2*wait)
	go func() {
		defer cancel()
		conn, err := e.pg(ctx, port)
		if err == nil {
			err = conn.Close(ctx)
		}
		done <- err
	}()
	return done
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
