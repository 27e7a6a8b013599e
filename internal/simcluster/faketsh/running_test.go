package faketsh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// running is a tsh that goes on until it is stopped.
type running struct {
	stdout, stderr simworld.Log
	stop           context.CancelFunc
	code           chan int
}

// begin starts a command without a terminal.
func (w *world) begin(t *testing.T, args ...string) *running {
	t.Helper()
	return w.beginEnv(t, nil, args...)
}

func (w *world) beginEnv(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &running{stop: cancel, code: make(chan int, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.code <- Run(ctx, args, append(append([]string(nil), w.env...), env...), strings.NewReader(""), &p.stdout, &p.stderr)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

func (p *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-p.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("still running\nstdout: %s\nstderr: %s", p.stdout.String(), p.stderr.String())
		return 0
	}
}

var readiness = regexp.MustCompile(`Started authenticated tunnel for the (\S+) database "(\S+)" in cluster "(\S+)" on (127\.0\.0\.1:\d+)\.\n`)

// beginTunnel starts a tunnel and returns its address once it has said so.
func (w *world) beginTunnel(t *testing.T, args ...string) (p *running, addr string) {
	t.Helper()
	p = w.begin(t, append([]string{"proxy", "db", "--tunnel"}, args...)...)
	testwait.Eventually(t, "the readiness line", func() bool { return readiness.MatchString(p.stdout.String()) })
	return p, readiness.FindStringSubmatch(p.stdout.String())[4]
}

func pgSelect(t *testing.T, addr string) (string, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), "postgres://bob@"+addr+"/app?sslmode=disable")
	if err != nil {
		return "", err
	}
	defer conn.Close(t.Context())
	var user string
	err = conn.QueryRow(t.Context(), "select current_user").Scan(&user)
	return user, err
}

func TestTunnel(t *testing.T) {
	for name, cfg := range map[string]simcluster.Config{
		"v16":              {},
		"v17":              {Version: simcluster.V17},
		"without_tls_ping": {PingInterval: -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cfg)
			if err := w.Login(w.home, "alice"); err != nil {
				t.Fatal(err)
			}
			p, addr := w.beginTunnel(t, "--port=0", "--db-user=bob", "--db-name=app", "pg")
			m := readiness.FindStringSubmatch(p.stdout.String())
			if m[1] != "PostgreSQL" || m[2] != "pg" || m[3] != w.Name() {
				t.Errorf("readiness line %q", m[0])
			}
			for range 3 {
				if user, err := pgSelect(t, addr); err != nil || user != "bob" {
					t.Fatalf("through the tunnel: %q, %v", user, err)
				}
			}
			if n := w.Counters().Mints["db/pg"]; n != 1 {
				t.Errorf("%d certs minted for three connections, want 1", n)
			}
			p.stop()
			if code := p.wait(t); code != 0 {
				t.Errorf("exit %d when stopped", code)
			}
		})
	}
}

func TestTunnelBehindALoadBalancer(t *testing.T) {
	w := newWorld(t, simcluster.Config{BehindLoadBalancer: true})
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	// The outer TLS of an upgrade is verified with the system's roots only.
	_, addr := w.beginTunnel(t, "--insecure", "pg")
	if user, err := pgSelect(t, addr); err != nil || user != "bob" {
		t.Errorf("through the tunnel: %q, %v", user, err)
	}
}

func TestTunnelErrors(t *testing.T) {
	w := newWorld(t, simcluster.Config{})
	w.tsh(t, "proxy", "db", "--tunnel", "pg").want(t, 1, "", "No proxy address specified, missed --proxy flag?")
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "proxy", "db", "pg").want(t, 1, "", "--tunnel only")
	w.tsh(t, "proxy", "db", "--tunnel").want(t, 1, "", "required argument 'db' not provided")
	w.tsh(t, "proxy", "db", "--tunnel", "nope").want(t, 1, "", `database "nope" not found`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	w.tsh(t, "proxy", "db", "--tunnel", "--port="+port, "pg").want(t, 1, "", "address already in use")
	// The first cert is asked for after the readiness line.
	w.Faults().RPCError("GenerateUserCerts", errors.New("no cert today"))
	w.tsh(t, "proxy", "db", "--tunnel", "pg").want(t, 1, "Started authenticated tunnel", "no cert today")
}

// After its session has ended a tunnel stays up and hangs up on clients
// without a word, until someone logs in again in its home.
func TestTunnelAfterTheSessionEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, simcluster.Config{})
	if err := w.Login(w.home, "alice", simcluster.WithTTL(8*time.Second)); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(8 * time.Second)
	p, addr := w.beginTunnel(t, "pg")
	open, err := pgx.Connect(t.Context(), "postgres://bob@"+addr+"/app?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close(t.Context())
	testwait.Eventually(t, "the session ends", func() bool { return time.Now().After(end) })
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("the listener must stay: %v", err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want EOF", n, err)
	}
	_ = conn.Close()
	if got := p.stderr.String(); got != "" {
		t.Errorf("it said %q, want nothing", got)
	}
	if err := open.Ping(t.Context()); err != nil {
		t.Errorf("the connection that was open: %v", err)
	}
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	if user, err := pgSelect(t, addr); err != nil || user != "bob" {
		t.Errorf("after a login elsewhere: %q, %v", user, err)
	}
}

var loginURL = regexp.MustCompile(`\n (http://127\.0\.0\.1:\d+/[0-9a-f-]{36})\n`)

// browse follows a login URL to the identity provider, and there the link of
// that text.
func (w *world) browse(t *testing.T, start, link string) {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig.RootCAs = w.WebCAPool()
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr}
	page, err := hc.Get(start)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	html, err := io.ReadAll(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`href="([^"]+)">` + regexp.QuoteMeta(link) + `<`).FindStringSubmatch(string(html))
	if m == nil {
		t.Fatalf("no link %q in %s", link, html)
	}
	to, err := page.Request.URL.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
	if err != nil {
		t.Fatal(err)
	}
	done, err := hc.Get(to.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = done.Body.Close()
}

func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		env    []string
		args   []string
		says   string
		kind   simcluster.ConnectorType
		choose string
		code   int
		stderr string
	}{
		{"no_browser", nil, []string{"--browser=none"}, "Use the following URL to authenticate:", simcluster.OIDC, "alice", 0, ""},
		{"by_variable", []string{"TELEPORT_LOGIN_BROWSER=none"}, nil, "Use the following URL to authenticate:", simcluster.GitHub, "alice", 0, ""},
		{"browser", nil, nil, "If browser window does not open automatically, open it by clicking on the link:", simcluster.SAML, "alice", 0, ""},
		{"user_ignored", nil, []string{"--user=bob"}, "WARNING: Ignoring Teleport user (bob) for Single Sign-On (SSO) login.", simcluster.OIDC, "alice", 0, ""},
		{"refused", nil, nil, "If browser window", simcluster.OIDC, "nobody: refuse", 1, "identity provider callback failed with error: access_denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, simcluster.Config{Connectors: []simcluster.Connector{{Name: "corp", Type: tt.kind}}})
			p := w.beginEnv(t, tt.env, append([]string{"login", "--proxy=" + w.ProxyAddr()}, tt.args...)...)
			testwait.Eventually(t, "the login URL", func() bool { return loginURL.MatchString(p.stderr.String()) })
			if !strings.Contains(p.stderr.String(), tt.says) {
				t.Errorf("it said %q, want %q", p.stderr.String(), tt.says)
			}
			w.browse(t, loginURL.FindStringSubmatch(p.stderr.String())[1], tt.choose)
			if code := p.wait(t); code != tt.code || !strings.Contains(p.stderr.String(), tt.stderr) {
				t.Fatalf("exit %d: %s", code, p.stderr.String())
			}
			if tt.code == 0 {
				w.tsh(t, "status").want(t, 0, "Logged in as:       alice", "")
			}
		})
	}
}

func TestSingleSignOnTimesOut(t *testing.T) {
	w := newWorld(t, simcluster.Config{Connectors: []simcluster.Connector{{Name: "corp", Type: simcluster.OIDC}}})
	w.tshEnv(t, []string{"BERTH_FAKE_TSH_SSO_TIMEOUT=50ms"}, "login", "--proxy="+w.ProxyAddr()).
		want(t, 1, "", "timed out waiting for callback")
}

func TestRequestCreateAndReview(t *testing.T) {
	w := newWorld(t, simcluster.Config{
		Users: []simcluster.User{{Name: "alice"}, {Name: "bob", Roles: []string{"reviewer"}}},
		Roles: []simcluster.Role{
			{Name: "access", Request: simcluster.RequestRules{Roles: []string{"dba"}}},
			{Name: "reviewer", Review: []string{"*"}}, {Name: "dba"},
		},
	})
	if err := w.Login(w.home, "alice"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "request", "create", "--roles=root", "--nowait").want(t, 1, "", `user "alice" can not request role "root"`)
	w.tsh(t, "request", "create", "--roles=dba", "--reason=why", "--nowait").want(t, 0, "Status:         PENDING", "")
	id := w.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	w.tsh(t, "request", "review", "--approve", id).want(t, 1, "", `user "alice" cannot submit reviews`)
	w.tsh(t, "request", "show", id).want(t, 0, "Username:       alice", "")
	other := t.TempDir()
	w.env = append(w.env, "TELEPORT_HOME="+other)
	if err := w.Login(other, "bob"); err != nil {
		t.Fatal(err)
	}
	w.tsh(t, "request", "review", "--approve", "--reason=ok", id).want(t, 0, "", "Successfully submitted review.  Request state: APPROVED")
	w.tsh(t, "request", "ls", "--my-requests").want(t, 0, "Request TTL", "")
}
