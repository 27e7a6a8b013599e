package route

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/utils/pingconn"

	"berth/internal/testwait"
	"berth/proxies"
	"berth/proxies/internal/nettest"
)

// route leads to p's echo.
func (p *fakeProxy) route(t testing.TB) Route {
	return Route{
		ProxyAddr:  p.addr,
		ServerName: proxyHost,
		ALPN:       "teleport-postgres",
		Cert:       p.cluster.issue(t, "alice", time.Time{}),
		RootCAs:    p.web.pool(),
	}
}

func dialRoute(t testing.TB, r Route) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proxies.MaxDialTimeout)
	defer cancel()
	c, err := r.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(nettest.Patience))
	return c
}

func TestDial(t *testing.T) {
	tests := []struct {
		name     string
		cfg      fakeConfig
		change   func(*fakeProxy, *Route)
		wantALPN string
	}{
		{name: "ping_preferred", cfg: fakeConfig{pings: 3}, wantALPN: "teleport-postgres-ping"},
		{name: "no_ping_offered", cfg: fakeConfig{alpn: []string{"teleport-postgres"}}, wantALPN: "teleport-postgres"},
		{
			name:     "hint_is_not_agreed_on",
			change:   func(_ *fakeProxy, r *Route) { r.ALPNHints = []string{"teleport-mysql-OC4wLjE4"} },
			wantALPN: "teleport-postgres-ping",
		},
		{
			name:     "insecure",
			change:   func(_ *fakeProxy, r *Route) { r.RootCAs, r.Insecure = nil, true },
			wantALPN: "teleport-postgres-ping",
		},
		{
			name:     "upgrade_verified_inside",
			cfg:      fakeConfig{noALPN: true, pings: 2},
			change:   func(p *fakeProxy, r *Route) { r.ConnUpgrade, r.RootCAs, r.ClusterCAs = true, nil, p.cluster.pool() },
			wantALPN: "teleport-postgres-ping",
		},
		{
			name:     "upgrade_in_the_old_way",
			cfg:      fakeConfig{noALPN: true, legacy: true},
			change:   func(p *fakeProxy, r *Route) { r.ConnUpgrade, r.RootCAs, r.ClusterCAs = true, nil, p.cluster.pool() },
			wantALPN: "teleport-postgres-ping",
		},
		{
			name:     "upgrade_without_need",
			change:   func(p *fakeProxy, r *Route) { r.ConnUpgrade, r.ClusterCAs = true, p.cluster.pool() },
			wantALPN: "teleport-postgres-ping",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newFakeProxy(t, tt.cfg)
			r := p.route(t)
			if tt.change != nil {
				tt.change(p, &r)
			}
			c := dialRoute(t, r)
			nettest.RoundTrip(t, c, "hello")
			nettest.RoundTrip(t, c, strings.Repeat("y", 100_000))
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("after the half-close: %q, %v", rest, err)
			}
			if p.alpn[0] != tt.wantALPN || p.clients[0] != "alice" {
				t.Errorf("the proxy saw %v of %v, want %s of alice", p.alpn, p.clients, tt.wantALPN)
			}
		})
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	tests := []struct {
		name   string
		cfg    fakeConfig
		change func(*fakeProxy, *Route)
		want   error
	}{
		{"nobody_listens", fakeConfig{}, func(_ *fakeProxy, r *Route) { r.ProxyAddr = nobody.Addr().String() }, ErrUnreachable},
		{"no_answer", fakeConfig{stallAfter: "accept"}, nil, ErrUnreachable},
		{"unknown_authority", fakeConfig{}, func(p *fakeProxy, r *Route) { r.RootCAs = p.cluster.pool() }, ErrUntrusted},
		{"system_roots", fakeConfig{}, func(_ *fakeProxy, r *Route) { r.RootCAs = nil }, ErrUntrusted},
		{"other_host", fakeConfig{}, func(_ *fakeProxy, r *Route) { r.ServerName = "other.test" }, ErrUntrusted},
		{"other_alpn", fakeConfig{}, func(_ *fakeProxy, r *Route) { r.ALPN = "teleport-mysql" }, ErrUpgradeNeeded},
		{"no_alpn", fakeConfig{noALPN: true}, nil, ErrUpgradeNeeded},
		{"upgrade_no_answer", fakeConfig{noALPN: true, stallAfter: "upgrade"},
			func(_ *fakeProxy, r *Route) { r.ConnUpgrade = true }, ErrUnreachable},
		{"upgrade_refused", fakeConfig{noALPN: true, upgrade: func(w io.Writer) {
			fmt.Fprint(w, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		}}, func(_ *fakeProxy, r *Route) { r.ConnUpgrade = true }, ErrHandshake},
		{"upgrade_other_key", fakeConfig{noALPN: true, upgrade: func(w io.Writer) {
			fmt.Fprint(w, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Protocol: alpn\r\nSec-WebSocket-Accept: x\r\n\r\n")
		}}, func(_ *fakeProxy, r *Route) { r.ConnUpgrade = true }, ErrHandshake},
		{"upgrade_outer_untrusted", fakeConfig{noALPN: true},
			func(_ *fakeProxy, r *Route) { r.ConnUpgrade, r.RootCAs = true, nil }, ErrUntrusted},
		{"upgrade_inner_untrusted", fakeConfig{noALPN: true},
			func(p *fakeProxy, r *Route) { r.ConnUpgrade, r.ClusterCAs = true, p.web.pool() }, ErrUntrusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newFakeProxy(t, tt.cfg)
			r := p.route(t)
			if tt.change != nil {
				tt.change(p, &r)
			}
			timeout := nettest.Patience // loading the system's roots may take a while
			if errors.Is(tt.want, ErrUnreachable) {
				timeout = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			began := time.Now()
			c, err := r.Dial(ctx)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Dial() = %v, want %v", err, tt.want)
			}
			testwait.Soon(t, "giving up", time.Since(began), timeout+2*time.Second)
			if errors.Is(tt.want, ErrUntrusted) && errors.Is(err, ErrHandshake) {
				t.Errorf("%v is both untrusted and refused", err)
			}
		})
	}
}

// TestFakeProxyIsLikeTheReal lets the api module's own client judge the fake.
func TestFakeProxyIsLikeTheReal(t *testing.T) {
	for _, upgrade := range []bool{false, true} {
		t.Run(fmt.Sprintf("upgrade_%v", upgrade), func(t *testing.T) {
			p := newFakeProxy(t, fakeConfig{noALPN: upgrade})
			cas := p.web.pool()
			if upgrade {
				cas = p.cluster.pool()
			}
			conn, err := client.NewALPNDialer(client.ALPNDialerConfig{
				DialTimeout:             nettest.Patience,
				ALPNConnUpgradeRequired: upgrade,
				TLSConfig: &tls.Config{
					RootCAs: cas, ServerName: proxyHost, InsecureSkipVerify: upgrade,
					NextProtos:   []string{"teleport-postgres-ping"},
					Certificates: []tls.Certificate{*p.cluster.issue(t, "alice", time.Time{})},
				},
			}).DialContext(t.Context(), "tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			nettest.RoundTrip(t, pingconn.NewTLS(conn.(*tls.Conn)), "hello")
		})
	}
}

func TestNoSessionIsResumed(t *testing.T) {
	p := newFakeProxy(t, fakeConfig{})
	for _, user := range []string{"alice", "bob", "alice"} {
		r := p.route(t)
		r.Cert = p.cluster.issue(t, user, time.Time{})
		c := dialRoute(t, r)
		nettest.RoundTrip(t, c, "hello") // a ticket has come with the answer
		c.Close()
	}
	if p.resumed > 0 || strings.Join(p.clients, " ") != "alice bob alice" {
		t.Errorf("the proxy saw %v, %d sessions resumed", p.clients, p.resumed)
	}
}

func TestExpiredCertShowsAtTheFirstRead(t *testing.T) {
	p := newFakeProxy(t, fakeConfig{})
	r := p.route(t)
	r.Cert = p.cluster.issue(t, "alice", time.Now().Add(-time.Minute))
	tun := run(t, r.Dial)
	// The refusal may be quicker than the client's own connect.
	if c, err := net.Dial("tcp", tun.addr()); err == nil {
		_ = c.SetDeadline(time.Now().Add(nettest.Patience))
		fmt.Fprint(c, "hello")
		_, _ = io.ReadAll(c)
		_ = c.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	closed := tun.closed(t)
	var broken *proxies.ConnError
	if !errors.As(closed.Err, &broken) || broken.Side != proxies.SideUpstream {
		t.Errorf("closed event says %v, want an upstream error", closed.Err)
	}
	if s := tun.Status(); s.LastError == nil {
		t.Errorf("status = %+v", s)
	}
}

func TestThroughTunnelToProxy(t *testing.T) {
	for _, alpn := range []string{"teleport-postgres", "teleport-postgres-ping"} {
		t.Run(alpn, func(t *testing.T) {
			p := newFakeProxy(t, fakeConfig{alpn: []string{alpn}, pings: 1})
			r := p.route(t)
			tun := run(t, r.Dial)
			c := tun.connect(t)
			want := strings.Repeat("0123456789", 200_000)
			var sending sync.WaitGroup
			sending.Go(func() {
				_, _ = io.WriteString(c, want)
				_ = c.CloseWrite()
			})
			got, err := io.ReadAll(c)
			sending.Wait()
			if err != nil || string(got) != want {
				t.Fatalf("got %d bytes of %d, %v", len(got), len(want), err)
			}
			if e := tun.closed(t); e.Err != nil {
				t.Errorf("closed event says %v", e.Err)
			}
		})
	}
}

func TestHTTPProxyOfTheEnvironment(t *testing.T) {
	p := newFakeProxy(t, fakeConfig{})
	var asked, answer atomic.Value
	answer.Store("HTTP/1.1 200 OK\r\n\r\n")
	connect := nettest.Serve(t, func(c *net.TCPConn) {
		br := bufio.NewReader(c)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		asked.Store(req.Method + " " + req.Host)
		if answer.Load() == "" {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		fmt.Fprint(c, answer.Load())
		far, err := net.Dial("tcp", p.addr)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(far, br); far.Close() }()
		_, _ = io.Copy(c, far)
	})
	t.Setenv("HTTPS_PROXY", "http://user:secret@"+connect.Addr().String())
	t.Setenv("NO_PROXY", "")
	r := p.route(t)
	r.ProxyAddr = proxyHost + ":443"
	c := dialRoute(t, r)
	nettest.RoundTrip(t, c, "hello")
	c.Close()
	if got := asked.Load(); got != "CONNECT proxy.test:443" {
		t.Errorf("the HTTP proxy was asked %q", got)
	}

	for name, bad := range map[string]string{
		"forbidden": "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
		"no_answer": "",
	} {
		t.Run(name, func(t *testing.T) {
			answer.Store(bad)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := r.Dial(ctx)
			if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Dial() = %v, want ErrUnreachable without the password", err)
			}
		})
	}
}
