package agent

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/agent/tunnel/history"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/proxies/db"
)

// TestServersWordsAreSeen: what the other side says to a client that it refuses is
// in the history, for real clients, and a problem when it repeats.
func TestServersWordsAreSeen(t *testing.T) {
	testneeds.Time(t, "the usual clients come, again and again")
	t.Parallel()
	const denied = "refused by Teleport: access to db denied. User does not have permissions. Confirm database user and name."
	cfg := simcluster.Config{
		Roles: []simcluster.Role{{
			Name: "access", DBUsers: []string{"app", "reader"}, DBNames: []string{"app"},
			Request: simcluster.RequestRules{Roles: []string{"dba"}},
		}, {Name: "dba"}},
	}
	e := newEnv(t, cfgWith(cfg,
		simcluster.Database{Name: "pg", Protocol: "postgres"},
		simcluster.Database{Name: "away", Protocol: "postgres", Away: "connection refused"},
		simcluster.Database{Name: "my", Protocol: "mysql"},
		simcluster.Database{Name: "kv", Protocol: "redis"},
		simcluster.Database{Name: "kv-away", Protocol: "redis", Away: "failed to connect to the target database"},
	))
	e.Login()
	ports := make(map[string]int)
	var items []string
	add := func(name, resource, user string) {
		ports[name] = simworld.FreePort(t)
		items = append(items, fmt.Sprintf("name: %s, kind: db, cluster: %s, resource: %s, port: %d, db_user: %s, db_name: %q",
			name, e.Sim.Name(), resource, ports[name], user, dbNameOf(resource)))
	}
	for _, name := range []string{"pg", "away", "my", "kv", "kv-away"} {
		add(name, name, "app")
	}
	add("own", "pg", "root")
	add("kv-root", "kv", "root")
	e.config(items...)
	e.start()
	for name := range ports {
		e.AwaitState(name, state.TunnelReady)
	}
	t.Run("probes", func(t *testing.T) { // as doctor does, which changes no tunnel's state
		const denied = "access to db denied"
		for name, want := range map[string]string{
			"pg": "", "my": "", "kv": "", "own": denied, "kv-root": denied, "away": "connection refused", "kv-away": "failed to connect",
		} {
			for range 2 {
				if err := probe(t, e, name, ports[name]); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %q", name, err, want)
				}
			}
			e.AwaitState(name, state.TunnelReady)
			events, err := e.Client().TunnelHistory(t.Context(), name)
			if err != nil {
				t.Error(err)
			}
			for _, ev := range events {
				if ev.Kind == state.EventRefused {
					t.Errorf("%s: %q", name, ev.Text)
				}
			}
			if p := e.Snapshot().Tunnels[0].Problem; p != nil {
				t.Errorf("%s: %+v", name, p)
			}
		}
	})
	psql := func(user string) func(int) {
		return program(t, "psql", "-h", "127.0.0.1", "-p", "PORT", "-U", user, "-d", "app", "-c", "select 1")
	}
	for name, tt := range map[string]struct {
		tunnel string
		play   func(port int)
		event  string
		state  state.TunnelState // after it has happened twice
		action string            // of the problem; empty: there is none
	}{
		"psql_as_another": {"pg", psql("root"), denied, state.TunnelReady, "berth request create --role dba"},
		"psql_as_its_own": {"own", psql("root"), denied, state.TunnelError, "berth request create --role dba"},
		"psql_away":       {"away", psql("app"), "refused by Teleport: connection refused", state.TunnelError, "berth tunnel why away"},
		"mysql_password": {
			"my", program(t, "mysql", "--no-defaults", "--protocol=TCP", "-h127.0.0.1", "-PPORT", "-uapp", "-psecret", "-e", "select 1"),
			"refused by Teleport: access denied without password", state.TunnelReady, "leave the client's password empty",
		},
		"redis_password": {
			"kv", program(t, "redis-cli", "-p", "PORT", "-a", "secret", "ping"),
			"refused by Teleport: failed to authenticate as the default user.", state.TunnelReady, "leave the client's password empty",
		},
		"redis_user": {"kv-root", program(t, "redis-cli", "-p", "PORT", "ping"), denied, state.TunnelError, "berth request create --role dba"},
		"redis_away": {
			"kv-away", program(t, "redis-cli", "-p", "PORT", "ping"),
			"refused by Teleport: failed to connect to the target database", state.TunnelError, "berth tunnel why kv-away",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.play(ports[tt.tunnel])
			events := e.awaitEvent(tt.tunnel, state.EventRefused, tt.event)
			for _, ev := range events {
				served := tt.tunnel == "pg" || tt.tunnel == "my" || tt.tunnel == "kv" // the probes above
				if !served && strings.Contains(ev.Text, "opened") {
					t.Errorf("%q, which served no client", ev.Text)
				}
			}
			time.Sleep(history.OneTry)
			tt.play(ports[tt.tunnel])
			e.Await("a problem of "+tt.tunnel, func(s state.Snapshot) bool {
				for _, tun := range s.Tunnels {
					if tun.Name == tt.tunnel {
						return tun.State == tt.state && tun.Problem != nil && strings.HasPrefix(tun.Problem.Action, tt.action)
					}
				}
				return false
			})
		})
	}
	t.Run("served_again", func(*testing.T) {
		psql("app")(ports["pg"])
		e.Await("the problem to go", func(s state.Snapshot) bool { return s.Tunnels[0].Problem == nil })
	})
	t.Run("hint", func(t *testing.T) { // whom the client may be
		out := clientOutput(t, "psql", "-h", "127.0.0.1", "-p", fmt.Sprint(ports["pg"]), "-U", "root", "-d", "app", "-c", "select 1")
		if want := `HINT:  "root" is not among the database users whom you may be: app, reader`; !strings.Contains(out, want) {
			t.Errorf("psql says\n%s", out)
		}
		out = clientOutput(t, "mysql", "--no-defaults", "--protocol=TCP", "-h127.0.0.1", fmt.Sprintf("-P%d", ports["my"]), "-uroot", "-e", "select 1")
		if want := `Hint: "root" is not among the database users whom you may be: app, reader`; !strings.Contains(out, want) {
			t.Errorf("mysql says\n%s", out)
		}
	})
}

// TestProbesChangeNoState: what a probe meets with is doctor's to say, in protocols
// too in which the other side hangs up without a word.
func TestProbesChangeNoState(t *testing.T) {
	t.Parallel()
	protocols := []string{
		"postgres", "cockroachdb", "mysql", "redis", "mongodb", "cassandra", "clickhouse", "clickhouse-http", "elasticsearch",
	}
	cfg := simcluster.Config{}
	for _, p := range protocols {
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: p, Protocol: p})
	}
	e := newEnv(t, cfg)
	e.Login()
	ports := make(map[string]int)
	var items []string
	for _, p := range protocols {
		ports[p] = simworld.FreePort(t)
		items = append(items, fmt.Sprintf("name: %s, kind: db, cluster: %s, resource: %s, port: %d, db_user: app, db_name: %q",
			p, e.Sim.Name(), p, ports[p], dbNameOf(p)))
	}
	e.config(items...)
	e.start()
	for _, p := range protocols {
		e.AwaitState(p, state.TunnelReady)
		e.Sim.Faults().Database(p, simcluster.Refusing)
	}
	for _, p := range protocols {
		for range 2 {
			if err := probe(t, e, p, ports[p]); err == nil {
				t.Errorf("%s: the probe is served", p)
			}
		}
	}
	e.Await("the connections to end", func(s state.Snapshot) bool {
		return !slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Connections > 0 })
	})
	for _, tun := range e.Snapshot().Tunnels {
		if tun.State != state.TunnelReady || tun.Problem != nil {
			t.Errorf("%s is %s: %+v", tun.Name, tun.State, tun.Problem)
		}
	}
}

// probe logs in through a tunnel with its own user and database.
func probe(t *testing.T, e *env, name string, port int) error {
	t.Helper()
	tun := e.AwaitState(name, state.TunnelReady)
	proto, ok := db.Lookup(tun.Protocol)
	if !ok || !proto.Probes(tun.DBUser) {
		t.Fatalf("%s: no probe for %q as %q", name, tun.Protocol, tun.DBUser)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(wait))
	return proto.Probe(conn, tun.DBUser, tun.DBName)
}

func cfgWith(cfg simcluster.Config, dbs ...simcluster.Database) simcluster.Config {
	cfg.Databases = dbs
	return cfg
}

// dbNameOf is the database to write for a resource: Redis numbers its own.
func dbNameOf(resource string) string {
	if strings.HasPrefix(resource, "kv") || resource == "redis" {
		return "0"
	}
	return "app"
}
