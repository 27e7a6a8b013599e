package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simcluster/simdb"
	"berth/internal/simworld"
	"berth/internal/testneeds"
)

// TestStrangersBreakNoTunnel: what does not speak the tunnel's protocol meets with
// a hang-up or an error, and the tunnel stays as it is.
func TestStrangersBreakNoTunnel(t *testing.T) {
	t.Parallel()
	protocols := []string{"postgres", "mysql", "redis", "mongodb", "cassandra", "elasticsearch"}
	cfg := simcluster.Config{}
	for _, p := range protocols {
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: p, Protocol: p})
	}
	cfg.Databases[3].Backend, cfg.Databases[4].Backend = deaf{}, deaf{} // they hang up
	e := newEnv(t, cfg)
	e.Login()
	ports := make(map[string]int)
	var items []string
	for _, p := range protocols {
		ports[p] = simworld.FreePort(t)
		items = append(items, fmt.Sprintf("name: %s, kind: db, cluster: %s, resource: %s, port: %d, db_user: app", p, e.Sim.Name(), p, ports[p]))
	}
	e.config(items...)
	e.start()
	for _, p := range protocols {
		e.AwaitState(p, state.TunnelReady)
	}

	for name, tt := range map[string]struct {
		play func(port int)
		on   []string
		want string // in the tunnel's history; empty: no stranger at all
	}{
		"curl": {
			program(t, "curl", "-s", "-m", "5", "http://127.0.0.1:PORT/"),
			[]string{"postgres", "mysql", "redis", "mongodb", "cassandra"}, "spoke something else (HTTP)",
		},
		"curl_tls": {
			program(t, "curl", "-sk", "-m", "5", "https://127.0.0.1:PORT/"),
			[]string{"mysql"}, "spoke something else (TLS)",
		},
		"curl_in_tls": { // the tunnel speaks TLS with it, and what it says inside decides
			program(t, "curl", "-sk", "--no-alpn", "-m", "5", "https://127.0.0.1:PORT/"),
			[]string{"postgres", "redis", "mongodb", "cassandra"}, "spoke something else (HTTP)",
		},
		"redis-cli": {
			program(t, "redis-cli", "-p", "PORT", "ping"), []string{"postgres"}, "spoke something else (Redis)",
		},
		"psql": {
			program(t, "psql", "-h", "127.0.0.1", "-p", "PORT", "-U", "x", "-c", ""), []string{"cassandra"}, "spoke something else (PostgreSQL)",
		},
		"direct_tls": {func(port int) {
			conn, err := tls.DialWithDialer(&net.Dialer{Timeout: wait}, "tcp", fmt.Sprintf("127.0.0.1:%d", port),
				&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
			if err == nil {
				conn.Close()
			}
		}, []string{"postgres", "mysql", "redis"}, ""},
		"long_cancel": {said("\x00\x00\x00\x2c\x04\xd2\x16\x2e\x00\x00\x10\x92" + strings.Repeat("k", 32)), []string{"postgres"}, ""},
		"nothing":     {said(""), protocols, ""},
	} {
		for _, p := range tt.on {
			t.Run(name+"_on_"+p, func(t *testing.T) {
				tt.play(ports[p])
				if tt.want != "" {
					e.awaitEvent(p, state.EventStranger, tt.want)
				}
				e.Await("the connection to end", func(s state.Snapshot) bool { return s.Tunnels[0].Connections == 0 })
				for _, tun := range e.Snapshot().Tunnels {
					if tun.State != state.TunnelReady || tun.Problem != nil {
						t.Errorf("%s is %s: %+v", tun.Name, tun.State, tun.Problem)
					}
				}
			})
		}
	}
	conn := e.mustPG(ports["postgres"]) // it serves as before
	if err := conn.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// program runs a client, which fails, on a port.
func program(t *testing.T, name string, args ...string) func(port int) {
	return func(port int) {
		filled := make([]string, len(args))
		for i, arg := range args {
			filled[i] = strings.ReplaceAll(arg, "PORT", fmt.Sprint(port))
		}
		clientOutput(t, name, filled...)
	}
}

// clientOutput runs a client to its end, good or bad, and returns what it says.
func clientOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	out, err := exec.CommandContext(ctx, testneeds.Program(t, name), args...).CombinedOutput()
	t.Logf("%s: %v\n%s", name, err, out)
	return string(out)
}

// said is a client that says words, and hangs up once the server has or is silent.
func said(words string) func(port int) {
	return func(port int) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return // the next look at the tunnel says so
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = io.WriteString(conn, words)
		_, _ = io.Copy(io.Discard, conn)
	}
}

// deaf hangs up on whatever it hears.
type deaf struct{}

func (deaf) Serve(_ context.Context, conn net.Conn, _ simdb.Session) error {
	_, err := conn.Read(make([]byte, 1))
	return err
}
