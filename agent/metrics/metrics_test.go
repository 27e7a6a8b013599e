package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// bed is a Room over a port of its own, and what it looks at.
type bed struct {
	*Room
	t       *testing.T
	addr    string
	cfg     atomic.Pointer[config.Config]
	checks  atomic.Int32
	foreign atomic.Bool // clients are of another user
	dead    atomic.Bool
}

func newBed(t *testing.T, set config.Metrics) *bed {
	t.Helper()
	b := &bed{t: t}
	if set.Listen == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		set.Listen = l.Addr().String()
		_ = l.Close()
	}
	b.addr = set.Listen
	b.cfg.Store(&config.Config{Metrics: set})
	tunnels := []state.Tunnel{
		{
			TunnelSpec: state.TunnelSpec{Name: "prod-pg"}, State: state.TunnelReady, Protocol: "postgres",
			Connections: 2, TotalConnections: 7, BytesIn: 1 << 40, CertValidUntil: new(time.Now().Add(time.Hour)),
		},
		{TunnelSpec: state.TunnelSpec{Name: "wrong\xff", Kind: state.KindKube}, State: state.TunnelReady},
	}
	b.Room = New(Config{
		Config: b.cfg.Load, StateDir: t.TempDir(), Version: "1.2", Started: time.Now(), Logger: slog.New(slog.DiscardHandler),
		Check: func(_ context.Context, _ time.Duration, names ...string) []state.Readiness {
			b.checks.Add(1)
			list := []state.Readiness{
				{Name: "prod-pg", Ready: true, State: state.TunnelReady, Protocol: "postgres"},
				{Name: "wrong\xff", State: state.TunnelError, Code: state.CodeProxyUnreachable},
			}
			if len(names) == 1 {
				for _, r := range list {
					if r.Name == names[0] {
						return []state.Readiness{r}
					}
				}
				return nil
			}
			return list
		},
		Snapshot: func() *state.Snapshot {
			return &state.Snapshot{
				Agent: state.Agent{Draining: 3}, Tunnels: tunnels,
				Profiles: []state.Profile{{Proxy: "p:443", User: "alice"}, {Proxy: "p:443", User: "alice", Home: "other"}},
				Requests: []state.Request{{State: "PENDING"}}, Problems: []state.Problem{{Code: state.CodeClockSkew}},
			}
		},
		Alive: func() error {
			if b.dead.Load() {
				return errors.New("stuck")
			}
			return nil
		},
		Guard: func() func(net.Conn) error {
			return func(net.Conn) error {
				if b.foreign.Load() {
					return errors.New("another user")
				}
				return nil
			}
		},
		OnChange: func() {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if set.On() {
		testwait.Eventually(t, "metrics to be served", func() bool { return b.on.Load() != nil })
	}
	return b
}

// ask sends a request by hand, so that its head can say anything.
func (b *bed) ask(method, path, host string, header ...string) (code int, body string, err error) {
	b.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(b.t.Context(), "tcp", b.addr)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testwait.Patience))
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", method, path, host, strings.Join(append(header, ""), "\r\n"))
	if _, err := io.WriteString(conn, head); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all), err
}

func (b *bed) want(code int, text, method, path, host string, header ...string) string {
	b.t.Helper()
	got, body, err := b.ask(method, path, host, header...)
	if err != nil || got != code || !strings.Contains(body, text) {
		b.t.Errorf("%s %s for %q: %d %q, %v; want %d %q", method, path, host, got, body, err, code, text)
	}
	return body
}

func TestPages(t *testing.T) {
	b := newBed(t, config.Metrics{})
	const host = "127.0.0.1"
	b.want(200, "ok", "GET", "/livez", host)
	b.dead.Store(true)
	b.want(503, "stuck", "GET", "/livez", host)
	b.want(200, "ok", "GET", "/readyz/prod-pg", "localhost:9090")
	b.want(404, "no such", "GET", "/readyz/unknown", "[::1]:9090")
	if body := b.want(503, "1 of 2", "GET", "/readyz", host); strings.Contains(body, "wrong") {
		t.Errorf("a name is disclosed: %s", body)
	}
	b.want(404, "there are", "GET", "/", host)
	b.want(404, "there are", "GET", "/debug/pprof/heap", host)
	b.want(404, "there are", "GET", "/debug/vars", host)
	b.want(405, "use GET", "POST", "/metrics", host)
	for _, foreign := range []string{"evil.example", "127.0.0.1.evil.example", "", "10.0.0.1", "localhost.evil:9090"} {
		b.want(403, "by its address", "GET", "/metrics", foreign)
	}
	b.want(403, "by its address", "GET", "/metrics", host, "Origin: http://evil.example")
	b.want(403, "by its address", "GET", "/metrics", host, "Sec-Fetch-Site: cross-site")
	b.foreign.Store(true)
	if code, _, err := b.ask("GET", "/metrics", host); err == nil {
		t.Errorf("another user's program gets an answer: %d", code)
	}
}

// TestMetrics: the page is what Prometheus reads, and names are in it only if the
// config says so.
func TestMetrics(t *testing.T) {
	b := newBed(t, config.Metrics{})
	of := tunnel.Metered{Name: "prod-pg", Cluster: "example.com", Protocol: "postgres"}
	count := func() {
		b.Dialled(of.Name, 30*time.Millisecond, nil)
		b.Dialled(of.Name, time.Second, errors.New("no"))
		b.Minted(of.Name, time.Second, nil)
		b.Minted(of.Name, time.Second, errors.New("no"))
		b.Served(of, 0)
		b.Served(of, 20*time.Second)
		b.Refused(of, state.CodeLoginNeeded)
		b.LoggedIn(3*time.Second, nil)
		b.LoggedIn(time.Second, errors.New("no"))
		b.Assumed()
	}
	count()
	body := b.want(200, "berth_info", "GET", "/metrics", "127.0.0.1")
	for _, name := range []string{"prod-pg", "alice", "p:443", "example.com"} {
		if strings.Contains(body, name) {
			t.Errorf("metrics disclose %q", name)
		}
	}
	set := b.cfg.Load().Metrics
	set.Labels = "names"
	was := b.on.Load()
	b.cfg.Store(&config.Config{Metrics: set})
	b.Follow()
	testwait.Eventually(t, "the new config", func() bool { is := b.on.Load(); return is != nil && is != was })
	count()
	body = b.want(200, "berth_info", "GET", "/metrics", "127.0.0.1")
	for _, line := range []string{
		`berth_info{version="1.2"} 1`,
		`berth_tunnels{state="ready"} 1`,
		`berth_tunnels{state="error"} 1`,
		`berth_tunnel_ready{protocol="postgres",tunnel="prod-pg"} 1`,
		`berth_tunnel_ready{protocol="kubernetes",tunnel="wrong?"} 0`,
		`berth_connections{tunnel="prod-pg"} 2`,
		`berth_connections_draining 3`,
		`berth_connections_total{tunnel="prod-pg"} 7`,
		`berth_received_bytes_total{tunnel="prod-pg"} 1.099511627776e+12`,
		`berth_dial_seconds_bucket{tunnel="prod-pg",le="0.05"} 1`,
		`berth_dial_failures_total{tunnel="prod-pg"} 1`,
		`berth_hold_seconds_sum{tunnel="prod-pg"} 20`,
		`berth_hold_seconds_count{tunnel="prod-pg"} 1`,
		`berth_cert_renewal_seconds_count 1`,
		`berth_cert_renewal_failures_total 1`,
		`berth_refusals_total{code="login_needed",tunnel="prod-pg"} 1`,
		`berth_logins_total{result="ok"} 1`,
		`berth_logins_total{result="failed"} 1`,
		`berth_assumes_total 1`,
		`berth_session_remaining_seconds{profile="alice@p:443"} 0`,
		`berth_requests{state="PENDING"} 1`,
		`berth_problems{code="clock_skew"} 1`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.Metrics{Pprof: true})
	b.want(200, "goroutine", "GET", "/debug/pprof/goroutine?debug=1", "127.0.0.1")
	b.want(200, "", "GET", "/debug/pprof/heap", "127.0.0.1")
	b.want(200, "", "GET", "/debug/pprof/profile?seconds=1", "127.0.0.1")
	b.want(404, "there are profile", "GET", "/debug/pprof/cmdline", "127.0.0.1")
	for _, bad := range []string{"0", "121", "x", "-1"} {
		b.want(400, "seconds", "GET", "/debug/pprof/profile?seconds="+bad, "127.0.0.1")
	}
	if _, pattern := http.DefaultServeMux.Handler(&http.Request{Method: "GET", Host: "h", URL: mustURL(t, "/debug/pprof/")}); pattern != "" {
		t.Error("profiles are in the server that all packages share")
	}
}

// TestTakenAddress: where another program listens the room says so, and serves as
// soon as it can.
func TestTakenAddress(t *testing.T) {
	t.Parallel()
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s", "agent.sock")} {
		t.Run(network, func(t *testing.T) { testTakenAddress(t, network, address) })
	}
}

func testTakenAddress(t *testing.T, network, address string) {
	if network == "unix" {
		testneeds.Unix(t, "sockets with paths")
		if err := os.Mkdir(filepath.Dir(address), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newBed(t, config.Metrics{Enabled: new(false), Listen: l.Addr().String()})
	b.cfg.Store(&config.Config{Metrics: config.Metrics{Listen: l.Addr().String()}})
	b.Follow()
	testwait.Eventually(t, "the problem", func() bool { return len(b.Problems()) == 1 })
	if p := b.Problems()[0]; p.Code != state.CodeMetrics || !strings.Contains(p.Text, "in use") && !strings.Contains(p.Text, "already") {
		t.Errorf("the problem is %+v", p)
	}
	_ = l.Close()
	testwait.Eventually(t, "metrics", func() bool { return b.on.Load() != nil && len(b.Problems()) == 0 })
	b.cfg.Store(&config.Config{})
	b.Follow()
	testwait.Eventually(t, "no metrics", func() bool { return b.on.Load() == nil })
	testwait.Eventually(t, "a closed port", func() bool { _, _, err := b.ask("GET", "/livez", "localhost"); return err != nil })
}

// TestDocsNameMetrics: what the page and the dashboard in docs name is served, and
// the page leaves nothing out.
func TestDocsNameMetrics(t *testing.T) {
	b := newBed(t, config.Metrics{})
	of := tunnel.Metered{Name: "prod-pg"}
	b.Dialled(of.Name, time.Second, nil)
	b.Dialled(of.Name, time.Second, errors.New("no"))
	b.Served(of, time.Second)
	b.Refused(of, state.CodeLoginNeeded)
	served := make(map[string]bool)
	for line := range strings.Lines(b.want(200, "# TYPE", "GET", "/metrics", "localhost")) {
		if f := strings.Fields(line); f[0] == "#" && f[1] == "TYPE" {
			served[f[2]] = false
		}
	}
	name := regexp.MustCompile(`berth_[a-z_]+`)
	for _, file := range []string{"METRICS.md", "metrics/berth-grafana.json"} {
		text, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(text), -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(n, "_bucket"), "_count")
			if _, ok := served[base]; !ok {
				t.Errorf("%s names %s, which is not served", file, n)
			}
			served[base] = true
		}
	}
	for n, named := range served {
		if !named {
			t.Errorf("METRICS.md does not name %s", n)
		}
	}
}

// TestKeyCannotBeRead: the config is not to blame, and the next step says what follows.
func TestKeyCannotBeRead(t *testing.T) {
	r := New(Config{Logger: slog.New(slog.DiscardHandler), OnChange: func() {}})
	r.fail(&keyError{"/x/pseudonyms.key", errors.New("pseudonyms: open /x/pseudonyms.key: permission denied")})
	if p := r.Problems()[0]; !strings.HasPrefix(p.Action, "delete /x/pseudonyms.key: ") || !strings.Contains(p.Text, "denied") {
		t.Errorf("the problem is %+v", p)
	}
}

// TestNoFolder: a folder that is not berth's is not made.
func TestNoFolder(t *testing.T) {
	testneeds.Unix(t, "sockets with paths")
	dir := filepath.Join(t.TempDir(), "new")
	err := usable(t.Context(), filepath.Join(dir, "metrics.sock"))
	if err == nil || !strings.Contains(err.Error(), "there is no folder "+dir) {
		t.Errorf("a socket in a folder that is not there: %v", err)
	}
}
