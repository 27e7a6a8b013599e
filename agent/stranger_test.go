package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
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
	testneeds.Time(t, "a stranger who says nothing is waited for")
	t.Parallel()
	protocols := []string{"postgres", "mysql", "redis", "elasticsearch", "mongodb", "cassandra", "sqlserver", "clickhouse"}
	cfg := simcluster.Config{}
	for _, p := range protocols {
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: p, Protocol: p})
	}
	for i := range cfg.Databases[4:] {
		cfg.Databases[4+i].Backend = deaf{} // it hangs up
	}
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

	untouched := func(t *testing.T) {
		t.Helper()
		e.Await("the connections to end", func(s state.Snapshot) bool {
			return !slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Connections > 0 })
		})
		for _, tun := range e.Snapshot().Tunnels {
			if tun.State != state.TunnelReady || tun.Problem != nil {
				t.Errorf("%s is %s: %+v", tun.Name, tun.State, tun.Problem)
			}
		}
	}
	type play struct {
		play func(port int)
		on   []string
		want string // in the tunnel's history; empty: whatever it is called
	}
	plays := map[string]play{
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
		"reset":       {reset(""), protocols, ""},
	}
	// What port scanners and other programs say first: on their own protocol's port,
	// and cut in the middle.
	for name, words := range map[string]string{
		"http2":       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"ssh":         "SSH-2.0-OpenSSH_9.9\r\n",
		"smb":         "\x00\x00\x00\x2f\xffSMB\x72\x00\x00\x00\x00\x18\x01\x28" + strings.Repeat("\x00", 31),
		"kafka":       "\x00\x00\x00\x14\x00\x12\x00\x00\x00\x00\x00\x01\x00\x0aconsoleapp",
		"tls_hello":   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x07", 300),
		"half_pg":     "\x00\x00\x00\x54\x00\x03\x00\x00user\x00al",
		"half_mongo":  "\x40\x01\x00\x00\x01\x00\x00\x00",
		"half_tds":    "\x12\x01\x00\x2f\x00\x00",
		"half_cql":    "\x04\x00\x00\x00",
		"half_http":   "POST /_bulk HTTP/1.1\r\nHost: x\r\nContent-Le",
		"half_redis":  "*3\r\n$3\r\nSET\r\n$100\r\nabc",
		"rtsp":        "OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n",
		"rdp":         "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
		"zeroes":      strings.Repeat("\x00", 64),
		"binary":      "\xff\xfe\xfd" + strings.Repeat("\x81", 5000),
		"smtp":        "EHLO scanner\r\n",
		"one_byte":    "\x00",
		"proxy_proto": "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for _, p := range protocols {
				all.Go(func() { said(words)(ports[p]) })
				all.Go(func() { reset(words)(ports[p]) })
			}
			all.Wait()
			untouched(t)
		})
	}
	for name, tt := range plays {
		for _, p := range tt.on {
			t.Run(name+"_on_"+p, func(t *testing.T) {
				tt.play(ports[p])
				if tt.want != "" {
					e.awaitEvent(p, state.EventStranger, tt.want)
				}
				untouched(t)
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

// reset is a client that says words and resets the connection at once.
func reset(words string) func(port int) {
	return func(port int) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return // the next look at the tunnel says so
		}
		_, _ = io.WriteString(conn, words)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// deaf hangs up on whatever it hears.
type deaf struct{}

func (deaf) Serve(_ context.Context, conn net.Conn, _ simdb.Session) error {
	_, err := conn.Read(make([]byte, 1))
	return err
}
