package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/process"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/tshhome"
	"berth/internal/wake"
)

func TestTunnelCarriesQueries(t *testing.T) {
	t.Parallel()
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		t.Run(version, func(t *testing.T) {
			e := newEnv(t, simcluster.Config{Version: version})
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			e.start()
			tun := e.AwaitState("pg", state.TunnelReady)
			if tun.Protocol != "postgres" || tun.Engine != state.EngineNative || tun.Problem != nil || tun.CertValidUntil == nil {
				t.Errorf("ready tunnel = %+v, want postgres, native, no problem, a cert", tun)
			}
			got, err := servedBy(t.Context(), e.mustPG(port))
			if err != nil {
				t.Fatal(err)
			}
			if got["teleport_user"] != "alice" || got["service"] != "pg" {
				t.Errorf("served as %v, want alice on pg", got)
			}
		})
	}
}

func TestBothLoopbackAddresses(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	tun := e.AwaitState("pg", state.TunnelReady)
	if tun.Latency <= 0 {
		t.Error("a ready tunnel does not know how far its proxy is")
	}
	want := []string{fmt.Sprintf("127.0.0.1:%d", port)}
	if ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "[::1]:0"); err == nil {
		want = append(want, fmt.Sprintf("[::1]:%d", port))
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, tun.Addresses); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	for _, addr := range want {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Errorf("dial %s: %v", addr, err)
			continue
		}
		_ = conn.Close() // nothing was sent
	}
}

// TestSecondLogin is the main promise: a new login swaps the cert of the next
// connection, while an open one goes on and the port never refuses.
func TestSecondLogin(t *testing.T) {
	t.Parallel()
	for name, relogin := range map[string]func(*env){
		"in_place":       func(e *env) { e.Login() },
		"logout_between": func(e *env) { e.logout(); e.Login() },
		"expired_before": func(e *env) {
			e.Login(simcluster.WithTTL(2 * time.Second))
			e.AwaitState("pg", state.TunnelWaitingForLogin)
			e.Login()
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, simcluster.Config{})
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			e.start()
			e.AwaitState("pg", state.TunnelReady)
			open := e.mustPG(port)
			before := e.serial(open)

			stopDialling := e.dialAllTheTime(port)
			relogin(e)
			var after string
			deadline := time.Now().Add(wait)
			for after = before; after == before; {
				if time.Now().After(deadline) {
					t.Fatal("no new cert was used after the second login")
				}
				after = e.serial(e.mustPG(port))
			}
			if n := stopDialling(); n != 0 {
				t.Errorf("the port refused %d connections during the login, want 0", n)
			}
			if still := e.serial(open); still != before {
				t.Errorf("the open connection is now served by cert %s, want the old one %s", still, before)
			}
		})
	}
}

// dialAllTheTime connects to the port every few milliseconds; the function it
// returns ends that and says how often it was refused; the log says how.
func (e *env) dialAllTheTime(port int) func() int {
	ctx, cancel := context.WithCancel(e.t.Context())
	refused := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				err = conn.Close()
			}
			if err != nil && ctx.Err() == nil {
				e.t.Logf("refused: %v", err)
				refused++
			}
			if !wake.Sleep(ctx, 5*time.Millisecond) {
				return
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return refused
	}
}

func (e *env) logout() {
	e.t.Helper()
	if err := (tshhome.Home{Dir: e.Home}).LogoutAll(); err != nil {
		e.t.Fatal(err)
	}
}

func TestHeldUntilLogin(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg", "hold: 20s")
	e.config(item)
	e.start()
	tun := e.AwaitState("pg", state.TunnelWaitingForLogin)
	if tun.Problem == nil || tun.Problem.Action == "" {
		t.Errorf("a tunnel that waits for a login has problem %+v, want one with a next step", tun.Problem)
	}
	const clients = 20
	served := make(chan error, clients)
	for range clients {
		go func() {
			conn, err := e.pg(t.Context(), port)
			if err == nil {
				err = conn.Close(t.Context())
			}
			served <- err
		}()
	}
	e.Await("all clients to be held", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == clients })
	e.Login()
	for range clients {
		if err := <-served; err != nil {
			t.Errorf("a held client was not served after the login: %v", err)
		}
	}
	if n := e.Sim.Counters().Mints; len(n) != 1 {
		t.Errorf("certs were minted for the routes %v, want one route", n)
	}
}

func TestHoldZeroRefusesAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg", "hold: 0s")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	// No user has logged in yet, so the database's protocol is not known: the
	// client's own first message tells it.
	_, err := e.pg(t.Context(), port)
	var told *pgconn.PgError
	if !errors.As(err, &told) || !strings.Contains(told.Message, "tunnel pg: ") {
		t.Errorf("a client of a tunnel that must not hold got %v, want a refusal in its protocol", err)
	}
}

func TestProxyDownAtStart(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	e.Sim.Faults().Stop()
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	tun := e.AwaitState("pg", state.TunnelError)
	if tun.Problem == nil || tun.Problem.Code != state.CodeProxyUnreachable {
		t.Errorf("problem = %+v, want %s", tun.Problem, state.CodeProxyUnreachable)
	}
	if err := e.Sim.Faults().Start(); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(port))
}

func TestProxyRestart(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	open := e.mustPG(port)
	e.serial(open)
	e.Sim.Faults().Stop()
	e.Sim.Faults().Drop()
	if _, err := servedBy(t.Context(), open); err == nil {
		t.Error("a connection went on over a proxy that is gone")
	}
	// A client that comes while the proxy restarts waits for it.
	served := e.connecting(port)
	e.Await("the client to arrive", func(s state.Snapshot) bool { return s.Tunnels[0].Connections > 0 })
	if err := e.Sim.Faults().Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Errorf("a client that came during the restart failed: %v", err)
	}
	e.AwaitState("pg", state.TunnelReady)
}

func TestProblemsAreNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		item   func(e *env) string
		change func(e *env)
		want   state.Code
		state  state.TunnelState
		says   string // part of the text
	}{
		{
			name: "unknown_database",
			item: func(e *env) string {
				return fmt.Sprintf("name: x, kind: db, cluster: %s, resource: pq, port: %d", e.Sim.Name(), simworld.FreePort(e.t))
			},
			want: state.CodeUnknownResource, state: state.TunnelError,
		},
		{
			name: "unknown_cluster",
			item: func(e *env) string {
				return fmt.Sprintf("name: x, kind: db, cluster: nowhere.test, resource: pg, port: %d", simworld.FreePort(e.t))
			},
			want: state.CodeNoProfile, state: state.TunnelWaitingForLogin,
		},
		{
			name: "session_of_the_past",
			item: func(e *env) string { item, _ := e.pgTunnel("x"); return item },
			change: func(e *env) {
				e.Sim.Faults().ClockOffset(-24 * time.Hour)
				e.Login(simcluster.WithTTL(time.Hour))
			},
			want: state.CodeLoginNeeded, state: state.TunnelWaitingForLogin,
		},
		{
			name: "session_of_the_future",
			item: func(e *env) string { item, _ := e.pgTunnel("x"); return item },
			change: func(e *env) {
				e.Sim.Faults().ClockOffset(24 * time.Hour)
				e.Login()
			},
			want: state.CodeClockSkew, state: state.TunnelError,
		},
		{
			name:   "access_denied",
			item:   func(e *env) string { item, _ := e.pgTunnel("x"); return item },
			change: func(e *env) { e.Sim.Faults().RPCError("GenerateUserCerts", errDenied) },
			want:   state.CodeAccessDenied, state: state.TunnelError,
		},
		{
			name: "ca_file_missing",
			item: func(e *env) string { item, _ := e.pgTunnel("x"); return item },
			change: func(e *env) {
				if err := os.Remove(e.CAFile()); err != nil {
					e.t.Fatal(err)
				}
			},
			want: state.CodeProxyUntrusted, state: state.TunnelError,
		},
		{
			name: "web_certificate_not_trusted",
			item: func(e *env) string { item, _ := e.pgTunnel("x"); return item },
			change: func(e *env) {
				other := newEnv(e.t, simcluster.Config{Name: "other.test"})
				raw, err := os.ReadFile(other.CAFile())
				if err == nil {
					err = os.WriteFile(e.CAFile(), raw, 0o600)
				}
				if err != nil {
					e.t.Fatal(err)
				}
			},
			want: state.CodeProxyUntrusted, state: state.TunnelError,
		},
		{
			name: "native_cannot",
			item: func(e *env) string {
				return fmt.Sprintf("name: x, kind: db, cluster: %s, resource: ora, engine: native, port: %d", e.Sim.Name(), simworld.FreePort(e.t))
			},
			change: func(e *env) { e.Sim.AddDatabase(simcluster.Database{Name: "ora", Protocol: "oracle"}) },
			want:   state.CodeProtocol, state: state.TunnelError,
		},
		{
			name: "db_user_missing",
			item: func(e *env) string {
				return fmt.Sprintf("name: x, kind: db, cluster: %s, resource: mongo, port: %d", e.Sim.Name(), simworld.FreePort(e.t))
			},
			change: func(e *env) { e.Sim.AddDatabase(simcluster.Database{Name: "mongo", Protocol: "mongodb"}) },
			want:   state.CodeProtocol, state: state.TunnelError,
		},
		{
			name: "db_name_no_number",
			item: func(e *env) string {
				return fmt.Sprintf("name: x, kind: db, cluster: %s, resource: cache, db_name: app, port: %d", e.Sim.Name(), simworld.FreePort(e.t))
			},
			change: func(e *env) { e.Sim.AddDatabase(simcluster.Database{Name: "cache", Protocol: "redis"}) },
			want:   state.CodeProtocol, state: state.TunnelError,
			says: `Tunnel "x": Redis numbers its databases, and db_name "app" (config.yaml line `,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t, simcluster.Config{})
			e.Login()
			e.config(tc.item(e))
			if tc.change != nil {
				tc.change(e)
			}
			e.start()
			var got state.Tunnel
			e.Await("the problem", func(s state.Snapshot) bool { got = s.Tunnels[0]; return got.Problem != nil })
			if got.Problem.Code != tc.want || got.State != tc.state {
				t.Errorf("state %s, problem %+v; want %s, %s", got.State, got.Problem, tc.state, tc.want)
			}
			if got.Problem.Title == "" || got.Problem.Action == "" || got.Problem.Since.IsZero() {
				t.Errorf("problem %+v lacks a title, a next step or a date", got.Problem)
			}
			if !strings.Contains(got.Problem.Text, tc.says) {
				t.Errorf("text %q does not say %q", got.Problem.Text, tc.says)
			}
			if strings.Contains(got.Problem.Text, "rpc error") || strings.Contains(got.Problem.Text, "goroutine") {
				t.Errorf("text %q is not for people", got.Problem.Text)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	squatter, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := squatter.Addr().(*net.TCPAddr).Port
	other, otherPort := e.pgTunnel("other")
	e.config(fmt.Sprintf("name: pg, kind: db, cluster: %s, resource: pg, db_user: alice, port: %d", e.Sim.Name(), port), other)
	e.start()
	e.Await("the owner to be named", func(s state.Snapshot) bool {
		p := s.Tunnels[0].Problem
		return s.Tunnels[0].State == state.TunnelPortInUse && p != nil && strings.Contains(p.Text, fmt.Sprintf("pid %d", os.Getpid()))
	})
	e.AwaitState("other", state.TunnelReady)
	e.serial(e.mustPG(otherPort))
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(port))
}

func TestConfigReloadTouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	keep, keepPort := e.pgTunnel("keep")
	gone, _ := e.pgTunnel("gone")
	e.config(keep, gone)
	e.start()
	e.AwaitState("keep", state.TunnelReady)
	open := e.mustPG(keepPort)
	e.serial(open)

	added, addedPort := e.pgTunnel("added")
	e.config(keep, added)
	s := e.Await("the new tunnel", func(s state.Snapshot) bool {
		return len(s.Tunnels) == 2 && s.Tunnels[1].Name == "added" && s.Tunnels[1].State == state.TunnelReady
	})
	if s.Tunnels[0].TotalConnections != 1 {
		t.Errorf("the tunnel that did not change was rebuilt: %+v", s.Tunnels[0])
	}
	e.serial(e.mustPG(addedPort))
	e.serial(open)
}

func TestLogLevelFollowsTheConfig(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(e.Paths.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log: {level: warn}\n")
	level := new(slog.LevelVar)
	e.startOptions(func(o *Options) { o.LogLevel = level }, func(*Agent) {
		if level.Level() != slog.LevelWarn {
			t.Errorf("it starts with level %v, want the config's", level.Level())
		}
	})
	for _, step := range []struct {
		text string
		want slog.Level
		bad  bool
	}{
		{"log: {level: debug}\n", slog.LevelDebug, false},
		{"log: {level: loud}\n", slog.LevelDebug, true}, // the last good one goes on
		{"version: 1\n", slog.LevelInfo, false},
	} {
		write(step.text)
		if err := e.Client().ReloadConfig(t.Context()); (err != nil) != step.bad {
			t.Fatalf("reload of %q: %v", step.text, err)
		}
		if level.Level() != step.want {
			t.Errorf("with %q the level is %v, want %v", step.text, level.Level(), step.want)
		}
	}
}

func TestBadConfigKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	stop := e.start()
	e.AwaitState("pg", state.TunnelReady)
	if err := os.WriteFile(e.Paths.Config, []byte("version: 1\ntunnels:\n  - {name: pg, port: 99999}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Problems, func(p state.Problem) bool { return p.Code == state.CodeConfigInvalid })
	}
	s := e.Await("the bad config to be reported", bad)
	if len(s.Tunnels) != 1 || s.Tunnels[0].State != state.TunnelReady {
		t.Errorf("tunnels after a bad edit = %+v, want the ready one", s.Tunnels)
	}
	e.serial(e.mustPG(port))
	// Also over a restart: the last good config is remembered.
	stop()
	e.start()
	if s := e.Await("the bad config to be reported", bad); len(s.Tunnels) != 1 {
		t.Errorf("tunnels after a restart with a bad config = %+v, want the last good one", s.Tunnels)
	}
	e.AwaitState("pg", state.TunnelReady)
}

func TestCommands(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Name: "commands.test"}) // no other test derives the same port
	e.Login()
	e.config()
	stop := e.start()
	c := e.Client()
	ctx := t.Context()
	e.Await("the session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })

	added, err := c.AddTunnel(ctx, state.TunnelSpec{Name: "pg", Kind: state.KindDB, Resource: "pg", DBUser: "alice", DBName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if added.Port < 15000 || added.Port > 29999 || added.Cluster != e.Sim.Name() {
		t.Errorf("added %+v, want a derived port and the current profile's cluster", added)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(added.Port))

	list, _, err := c.Resources(ctx, client.ResourceQuery{Kind: state.KindDB})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Tunnel != "pg" || list[0].Protocol != "postgres" {
		t.Errorf("resources = %+v, want pg with its tunnel", list)
	}
	for name, spec := range map[string]state.TunnelSpec{
		"unknown_resource": {Name: "a", Kind: state.KindDB, Resource: "pgg"},
		"unknown_cluster":  {Name: "a", Kind: state.KindDB, Resource: "pg", Cluster: "nowhere.test"},
		"same_name":        {Name: "pg", Kind: state.KindDB, Resource: "pg"},
		"same_port":        {Name: "a", Kind: state.KindDB, Resource: "pg", Port: added.Port},
		"bad_name":         {Name: "a b", Kind: state.KindDB, Resource: "pg"},
		"privileged_port":  {Name: "a", Kind: state.KindDB, Resource: "pg", Port: 80},
	} {
		_, err := c.AddTunnel(ctx, spec)
		var rpc *client.Error
		if !errors.As(err, &rpc) || rpc.Message == "" || strings.Contains(rpc.Message, "\n") {
			t.Errorf("%s: AddTunnel error = %v, want one sentence", name, err)
		}
	}
	if err := c.StopTunnel(ctx, "pg"); err != nil {
		t.Fatal(err)
	}
	if tun := e.Snapshot().Tunnels[0]; tun.State != state.TunnelStopped || tun.Protocol != "postgres" {
		t.Errorf("after stop: state %s, protocol %q; want stopped, and the protocol remembered", tun.State, tun.Protocol)
	}
	if ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", added.Port)); err != nil {
		t.Errorf("the port of a stopped tunnel is not free: %v", err)
	} else if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	e.start()
	e.AwaitState("pg", state.TunnelStopped) // remembered
	if err := e.Client().StartTunnel(ctx, "pg"); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	open := e.mustPG(added.Port)
	before := e.serial(open)
	if err := e.Client().RestartTunnel(ctx, "pg"); err != nil {
		t.Fatal(err)
	}
	if _, err := servedBy(ctx, open); err == nil {
		t.Error("a connection went on over a restart of its tunnel")
	}
	e.AwaitState("pg", state.TunnelReady)
	if after := e.serial(e.mustPG(added.Port)); after == before {
		t.Error("a restarted tunnel uses the cert it had")
	}
	if err := e.Client().RemoveTunnel(ctx, "pg"); err != nil {
		t.Fatal(err)
	}
	if s := e.Snapshot(); len(s.Tunnels) != 0 {
		t.Errorf("tunnels after rm = %+v", s.Tunnels)
	}
	if err := e.Client().RemoveTunnel(ctx, "pg"); err == nil {
		t.Error("rm of a tunnel that is not there succeeded")
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.config()
	e.start()
	err := Run(t.Context(), Options{Paths: e.Paths, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	var running *process.AlreadyRunningError
	if !errors.As(err, &running) || running.PID != os.Getpid() {
		t.Fatalf("second agent: %v, want AlreadyRunningError with pid %d", err, os.Getpid())
	}
}

// TestSnapshotKeys compares the JSON of a real snapshot with the documented
// shape, key by key.
func TestSnapshotKeys(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, _ := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	raw, err := json.Marshal(e.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"":         {"agent", "notices", "policy", "problems", "profiles", "requests", "tunnels"},
		"agent":    {"config_path", "draining", "pid", "started_at", "version"},
		"profiles": {"active_requests", "cluster", "held_requests", "home", "login", "previous_user", "proxy", "renewal", "roles", "ssh_valid_until", "state", "stored", "user", "user_changed_at", "valid_until"},
		"login":    {"asks", "in_progress", "url"},
		"renewal":  {"at", "mode", "problem", "renewed_at", "warning"},
		"tunnels": {"address", "addresses", "bytes_in", "bytes_out", "cert_valid_until", "connections",
			"ending_at", "ending_connections", "engine_reason", "foreign_at", "foreign_user", "last_error_at", "latency", "problem", "profile", "protocol", "runs_as", "shipped_in", "stale_connections", "state",
			"total_connections", "waiting", "waiting_client", "waiting_since"},
	}
	for _, k := range config.TunnelKeys {
		want["tunnels"] = append(want["tunnels"], k.Name)
	}
	slices.Sort(want["tunnels"])
	profile := got["profiles"].([]any)[0].(map[string]any)
	for name, m := range map[string]map[string]any{
		"": got, "agent": got["agent"].(map[string]any), "profiles": profile,
		"login": profile["login"].(map[string]any), "renewal": profile["renewal"].(map[string]any), "tunnels": got["tunnels"].([]any)[0].(map[string]any),
	} {
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if diff := cmp.Diff(want[name], keys); diff != "" {
			t.Errorf("keys of %q (-want +got):\n%s", name, diff)
		}
	}
	for _, list := range []string{"requests", "problems"} {
		if _, ok := got[list].([]any); !ok {
			t.Errorf("%s is %T, want a list even when empty", list, got[list])
		}
	}
}

// TestLogHoldsNoSecret runs a login, a mint and a query with the log at Debug
// and looks for key material in it.
func TestLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	stop := e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(port))
	stop()
	log := e.Log.String()
	if !strings.Contains(log, "cert minted") {
		t.Fatal("the log does not tell of the mint: nothing was tested")
	}
	var secrets []string
	err := filepath.WalkDir(e.Home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), "PRIVATE KEY") {
			for line := range strings.Lines(string(raw)) {
				if line = strings.TrimSpace(line); len(line) > 20 && !strings.HasPrefix(line, "-----") {
					secrets = append(secrets, line)
				}
			}
		}
		return err
	})
	if err != nil || len(secrets) == 0 {
		t.Fatalf("no secrets found to look for (%v)", err)
	}
	for _, secret := range append(secrets, "PRIVATE KEY") {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %.12q…", secret)
		}
	}
}

func TestHandWrittenTunnelWithoutPort(t *testing.T) {
	t.Parallel()
	// A cluster name of its own: the same name would give the same ports to
	// another test that runs beside this one.
	e := newEnv(t, simcluster.Config{Name: fmt.Sprintf("ports-%d.test", os.Getpid())})
	e.Login()
	item := func(name string) string {
		return fmt.Sprintf("name: %s, kind: db, cluster: %s, resource: pg, db_user: alice, db_name: app", name, e.Sim.Name())
	}
	e.config(item("one"), item("two"))
	stop := e.start()
	first := []string{e.AwaitState("one", state.TunnelReady).Address, e.AwaitState("two", state.TunnelReady).Address}
	stop()
	e.start()
	again := []string{e.AwaitState("one", state.TunnelReady).Address, e.AwaitState("two", state.TunnelReady).Address}
	if diff := cmp.Diff(first, again); diff != "" || first[0] == first[1] {
		t.Errorf("addresses %v, and after a restart %v; want two, and the same", first, again)
	}
}

func TestInsecureIsSaidAloud(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(item)
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), fmt.Sprintf("ca_file: %q", e.CAFile()), "insecure: true", 1)
	if err := os.WriteFile(e.Paths.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.serial(e.mustPG(port))
	s := e.Snapshot()
	if len(s.Problems) != 1 || s.Problems[0].Code != state.CodeInsecureProxy {
		t.Errorf("problems = %+v, want one %s", s.Problems, state.CodeInsecureProxy)
	}
	if !strings.Contains(e.Log.String(), "INSECURE") {
		t.Error("the log does not say that the proxy is not verified")
	}
}

// TestLeafThatJoinsAfterTheLogin adds a tunnel to a cluster that is in no file
// of the home: only the root knows of it.
func TestLeafThatJoinsAfterTheLogin(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	e.config()
	e.start()
	if _, err := e.Sim.AddLeaf("leaf.test", simcluster.Database{Name: "leafpg", Protocol: "postgres"}); err != nil {
		t.Fatal(err)
	}
	c := e.Client()
	e.Await("the session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })
	list, _, err := c.Resources(t.Context(), client.ResourceQuery{Kind: state.KindDB, Cluster: "leaf.test"})
	if err != nil || len(list) != 1 {
		t.Fatalf("resources of the leaf = %+v, %v", list, err)
	}
	added, err := c.AddTunnel(t.Context(), state.TunnelSpec{
		Name: "leaf", Kind: state.KindDB, Cluster: "leaf.test", Resource: "leafpg", DBUser: "alice", DBName: "app",
	})
	if err != nil {
		t.Fatal(err)
	}
	e.AwaitState("leaf", state.TunnelReady)
	got, err := servedBy(t.Context(), e.mustPG(added.Port))
	if err != nil || got["cluster"] != "leaf.test" {
		t.Errorf("served as %v, %v; want by the leaf", got, err)
	}
}

// TestRefusedInTheClientsProtocol checks what a Postgres client is told: the
// tunnel, the cause and the command that helps.
func TestRefusedInTheClientsProtocol(t *testing.T) {
	testneeds.Time(t, "it waits for the end of a session")
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("prod-pg", "hold: 0s")
	e.config(item)
	e.start()
	e.AwaitState("prod-pg", state.TunnelReady) // the cluster has told the protocol
	e.Login(simcluster.WithTTL(2 * time.Second))
	e.AwaitState("prod-pg", state.TunnelWaitingForLogin)
	_, err := e.pg(t.Context(), port)
	var told *pgconn.PgError
	if !errors.As(err, &told) {
		t.Fatalf("refused client got %v, want a Postgres error", err)
	}
	if told.Code != "57P03" || !strings.Contains(told.Message+told.Detail, "prod-pg") || !strings.Contains(told.Hint, "berth login "+e.Sim.ProxyAddr()) {
		t.Errorf("got %+v, want 57P03, the tunnel's name and the login command", told)
	}

	e.Login()
	e.AwaitState("prod-pg", state.TunnelReady)
	e.Sim.Faults().Stop()
	begin := time.Now()
	_, err = e.pg(t.Context(), port)
	if !errors.As(err, &told) || !strings.Contains(told.Message+told.Detail, e.Sim.ProxyAddr()) {
		t.Errorf("with the proxy gone the client got %v, want an error that names it", err)
	}
	testwait.Soon(t, "the refusal for a proxy that is gone", time.Since(begin), 8*time.Second)
}
