package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"berth/internal/testwait"
	"berth/proxies"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// patience is how long tests wait for what must happen.
const patienceInTests = testwait.Patience

// memStore is a KeyStore in memory.
type memStore struct {
	mu    sync.Mutex
	data  []byte
	err   error // of Load
	saves int
}

func (s *memStore) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.data == nil {
		return nil, fs.ErrNotExist
	}
	return s.data, s.err
}

func (s *memStore) Save(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = data
	s.saves++
	return nil
}

var testCA = sync.OnceValues(func() (*LocalCA, error) { return CAStore{File: &memStore{}}.Make(context.Background()) })

// cluster is a fake API server behind a fake proxy.
type cluster struct {
	*httptest.Server
	conns, dials atomic.Int32 // open, ever
}

func newCluster(t testing.TB, h http.HandlerFunc) *cluster {
	t.Helper()
	c := &cluster{}
	c.Server = httptest.NewUnstartedServer(h)
	c.EnableHTTP2 = true
	c.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			c.conns.Add(1)
			c.dials.Add(1)
		case http.StateClosed, http.StateHijacked:
			c.conns.Add(-1)
		default:
		}
	}
	c.StartTLS()
	t.Cleanup(func() {
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

// upstream is a way to c with a credential of its own.
func (c *cluster) upstream() *Upstream {
	roots := x509.NewCertPool()
	roots.AddCert(c.Certificate())
	addr := c.Listener.Addr().String()
	return &Upstream{Dial: func(ctx context.Context, versions ...string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "example.com", NextProtos: versions, MinVersion: tls.VersionTLS12}}
		return d.DialContext(ctx, "tcp", addr)
	}}
}

func always(up *Upstream) Source {
	return func(context.Context) (*Upstream, error) { return up, nil }
}

// events collects what a tunnel tells.
type events struct {
	mu  sync.Mutex
	all []proxies.Event
}

func (e *events) add(ev proxies.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) kinds() []proxies.EventKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	kinds := make([]proxies.EventKind, len(e.all))
	for i, ev := range e.all {
		kinds[i] = ev.Kind
	}
	return kinds
}

// running is a tunnel on a listener of its own or a shared one.
type running struct {
	*Tunnel
	events *events
	stop   func() // and wait for the end
}

func (r *running) addr() string { return r.Status().Addresses[0] }

// run starts a tunnel called prod; it ends with the test.
func run(t testing.TB, cfg Config) *running {
	t.Helper()
	return runChanged(t, cfg, func(*Tunnel) {})
}

// runChanged is run for a tunnel that is changed first.
func runChanged(t testing.TB, cfg Config, change func(*Tunnel)) *running {
	t.Helper()
	ev := &events{}
	if cfg.Name == "" {
		cfg.Name = "prod"
	}
	cfg.OnEvent = ev.add
	if cfg.Listener == nil {
		cfg.Own.CA = testCA
	}
	r := &running{Tunnel: New(cfg), events: ev}
	change(r.Tunnel)
	if err := r.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	return r
}

// shared starts a listener; it ends with the test.
func shared(t testing.TB) *Listener {
	t.Helper()
	return startListener(t, ListenerConfig{CA: testCA})
}

func startListener(t testing.TB, cfg ListenerConfig) *Listener {
	t.Helper()
	l := NewListener(cfg)
	if err := l.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// tlsFor is what a kubeconfig gives a client of the named tunnel.
func tlsFor(t testing.TB, tunnel string) *tls.Config {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	return tlsOf(t, ca, tunnel)
}

func tlsOf(t testing.TB, ca *LocalCA, tunnel string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CAPEM())
	certPEM, keyPEM := ca.ClientPEM()
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if tunnel != "" {
		cfg.ServerName = ServerName(tunnel)
	}
	return cfg
}

// kubectl is a client as Kubernetes' own are: HTTP/2 where it can.
func kubectl(t testing.TB, tunnel string) *http.Client {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	return clientOf(t, ca, tunnel)
}

func clientOf(t testing.TB, ca *LocalCA, tunnel string) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: tlsOf(t, ca, tunnel), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patienceInTests}
}

// upgraded is a client's connection that leads into a pod, as exec's does.
type upgraded struct {
	net.Conn
	br *bufio.Reader
}

// Read reads what came after the answer.
func (u *upgraded) Read(p []byte) (int, error) { return u.br.Read(p) }

// upgrade asks the tunnel called prod for what is at path and leads into a pod.
func upgrade(t testing.TB, addr, path string) *upgraded {
	t.Helper()
	cfg := tlsFor(t, "prod")
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", path)
	u := &upgraded{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(u.br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer is %v, %v", resp, err)
	}
	_ = resp.Body.Close() // it has none
	return u
}

// switches has an API server lead into a pod, and returns the connection to there.
func switches(t testing.TB, w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	t.Helper()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_ = rw.Flush()
	return conn, rw
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
