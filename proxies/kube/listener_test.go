package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"berth/internal/testwait"
	"berth/proxies"
)

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// TestSharedListener has two tunnels on one port, distinguished by name.
func TestSharedListener(t *testing.T) {
	l := shared(t)
	names := []string{"prod", "Prod", "team.prod", "x-1", "under_score"}
	for _, name := range names {
		c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
		run(t, Config{Name: name, Listener: l, Source: always(c.upstream())})
	}
	for _, addr := range l.Status().Addresses {
		for _, name := range names {
			if _, body := get(t, kubectl(t, name), "https://"+addr+"/api/v1/pods"); body != name {
				t.Errorf("a client of %s is led to %s", name, body)
			}
		}
	}
	twin := New(Config{Name: "prod", Listener: l, Source: always(nil)})
	if err := twin.Bind(); !errors.Is(err, errNameTaken) {
		t.Errorf("a second tunnel of the name binds: %v", err)
	}
	if err := twin.Run(t.Context()); !errors.Is(err, errNameTaken) {
		t.Errorf("a second tunnel of the name runs: %v", err)
	}
	resp, body := get(t, kubectl(t, "gone"), "https://"+l.Status().Addresses[0]+"/api/v1/pods")
	if s := statusOf(t, resp.Code, body); s.Code != 403 || s.Reason != "Forbidden" {
		t.Errorf("a tunnel that is not there says %+v", s)
	}
}

// TestClients: of two tunnels on one port each knows the connections that ask it for
// something.
func TestClients(t *testing.T) {
	var ticks sync.Map
	c := newCluster(t, ticking(&ticks))
	l := shared(t)
	a := run(t, Config{Name: "a", Listener: l, Source: always(c.upstream())})
	b := run(t, Config{Name: "b", Listener: l, Source: always(c.upstream())})
	local := make(chan string, 2)
	client := kubectl(t, "a")
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			local <- conn.LocalAddr().String()
		}
		return conn, err
	}
	for range 2 { // two requests, one connection
		watch(t, client, a.addr())
	}
	if got, want := fmt.Sprint(a.Clients()), "["+<-local+"]"; got != want {
		t.Errorf("the clients of a are %s, want %s", got, want)
	}
	if got := b.Clients(); len(got) != 0 {
		t.Errorf("the clients of b are %v", got)
	}
}

func TestOwnListener(t *testing.T) {
	c := newCluster(t, ok)
	r := run(t, Config{Source: always(c.upstream())})
	for _, name := range []string{"prod", "other", ""} { // it has no one else to serve
		if _, body := get(t, kubectl(t, name), "https://"+r.addr()+"/api/v1/pods"); body != "ok" {
			t.Errorf("asked for %q it says %q", name, body)
		}
	}
}

// TestStrangersAreRefused tries to get in without the kubeconfig.
func TestStrangersAreRefused(t *testing.T) {
	c := newCluster(t, ok)
	l := shared(t)
	run(t, Config{Listener: l, Source: always(c.upstream())})
	other, err := CAStore{File: &memStore{}}.Make(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	otherCert, err := tls.X509KeyPair(other.ClientPEM())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.serverCert()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*tls.Config)
		want   string
	}{
		"no_client_cert":  {func(c *tls.Config) { c.Certificates = nil }, "certificate required"},
		"another_ca":      {func(c *tls.Config) { c.Certificates = []tls.Certificate{otherCert} }, "certificate"},
		"listeners_cert":  {func(c *tls.Config) { c.Certificates = []tls.Certificate{*server} }, "bad certificate"},
		"another_name":    {func(c *tls.Config) { c.ServerName = "kubernetes.default" }, "certificate is valid for"}, // the client's own refusal
		"outdated_tls_11": {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, "protocol version"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := tlsFor(t, "prod")
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(cfg.Certificates) == 0 {
					return &tls.Certificate{}, nil
				}
				return &cfg.Certificates[0], nil
			}
			tt.change(cfg)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, Timeout: patienceInTests}
			defer client.CloseIdleConnections()
			resp, err := client.Get("https://" + l.Status().Addresses[0] + "/api/v1/pods")
			if err == nil {
				resp.Body.Close()
				t.Fatalf("served with %d", resp.StatusCode)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("refused with %v, want %q", err, tt.want)
			}
		})
	}
}

// TestWebPagesAreRefused sends what a browser would, even one that was given
// the client cert.
func TestWebPagesAreRefused(t *testing.T) {
	c := newCluster(t, ok)
	r := run(t, Config{Source: always(c.upstream())})
	const docker = "host.docker.internal:1"
	tests := map[string]struct {
		method, host string
		header       map[string]string
		want         int
	}{
		"kubectl":          {http.MethodGet, "", nil, 200},
		"own_name":         {http.MethodGet, ServerName("prod") + ":1", nil, 200},
		"localhost":        {http.MethodGet, "localhost:1", nil, 200},
		"ipv6":             {http.MethodGet, "[::1]:1", nil, 200},
		"own_page":         {http.MethodGet, "localhost:1", map[string]string{"Origin": "https://localhost:1", "Sec-Fetch-Site": "same-origin"}, 200},
		"typed_address":    {http.MethodGet, "", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		"rebound_name":     {http.MethodGet, "evil.example.com", nil, 403},
		"foreign_page":     {http.MethodPost, "", map[string]string{"Origin": "https://evil.example.com"}, 403},
		"rebound_page":     {http.MethodPost, "evil.example.com:1", map[string]string{"Origin": "https://evil.example.com:1", "Sec-Fetch-Site": "same-origin"}, 403},
		"looks_like_ours":  {http.MethodPost, "", map[string]string{"Origin": "https://localhost.example.com"}, 403},
		"two_origins":      {http.MethodPost, "", map[string]string{"Origin": "http://localhost:1, https://evil.example.com"}, 403},
		"foreign_fetch":    {http.MethodPost, "", map[string]string{"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}, 403},
		"python_websocket": {http.MethodGet, "localhost:1", map[string]string{"Origin": "http://localhost:1"}, 200},
		"localhost_page":   {http.MethodPost, "", map[string]string{"Origin": "http://localhost:8001", "Sec-Fetch-Site": "same-origin"}, 200},
		"another_port":     {http.MethodPost, "localhost:1", map[string]string{"Origin": "http://localhost:8001", "Sec-Fetch-Site": "same-site"}, 200},
		"ipv6_page":        {http.MethodPost, "", map[string]string{"Origin": "http://[::1]:8001"}, 200},
		"tauri":            {http.MethodPost, "", map[string]string{"Origin": "http://tauri.localhost", "Sec-Fetch-Site": "cross-site"}, 200},
		"no_origin":        {http.MethodPost, "", map[string]string{"Origin": "null"}, 200},
		"file":             {http.MethodPost, "", map[string]string{"Origin": "file://", "Sec-Fetch-Site": "cross-site"}, 200},
		"electron":         {http.MethodPost, "", map[string]string{"Origin": "app://lens", "Sec-Fetch-Site": "cross-site"}, 200},
		"webview":          {http.MethodGet, "", map[string]string{"Origin": "vscode-webview://1b2c", "Sec-Fetch-Site": "cross-site"}, 200},
		"proxied_page": {http.MethodPost, "", map[string]string{
			"Origin": "https://c1.renderer.example.app:4711", "Sec-Fetch-Site": "same-origin",
		}, 200},
		"docker":        {http.MethodGet, docker, nil, 200},
		"docker_exec":   {http.MethodGet, docker, map[string]string{"Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}, 200},
		"docker_image":  {http.MethodGet, docker, map[string]string{"User-Agent": "Mozilla/5.0"}, 403},
		"docker_page":   {http.MethodPost, docker, map[string]string{"Origin": "https://host.docker.internal:1"}, 403},
		"docker_origin": {http.MethodPost, "", map[string]string{"Origin": "https://host.docker.internal:1"}, 403},
		"image_tag":     {http.MethodGet, "", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"preflight": {http.MethodOptions, "", map[string]string{
			"Access-Control-Request-Method": "DELETE", "Sec-Fetch-Site": "same-origin",
		}, 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+r.addr()+"/api/v1/pods", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = tt.host
			for k, v := range tt.header {
				req.Header.Set(k, v)
			}
			resp, err := kubectl(t, "prod").Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.want {
				t.Fatalf("answer is %d %s, want %d", resp.StatusCode, body, tt.want)
			}
			if tt.want == 403 {
				statusOf(t, resp.StatusCode, string(body))
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("a web page is let in")
			}
		})
	}
}

// TestUpgrade sends bytes both ways over an upgraded connection, as exec does,
// while the credential changes.
func TestUpgrade(t *testing.T) {
	for _, proto := range []string{"SPDY/3.1", "websocket"} {
		t.Run(proto, func(t *testing.T) {
			c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 1 || r.Header.Get("Upgrade") != proto || r.Header.Get("X-Stream-Protocol-Version") != "v4.channel.k8s.io" {
					http.Error(w, "this is no upgrade: "+r.Proto, http.StatusBadRequest)
					return
				}
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", proto)
				_ = rw.Flush()
				for {
					line, err := rw.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, "echo "+line)
				}
			})
			ups := []*Upstream{c.upstream(), c.upstream()}
			n := -1
			r := run(t, Config{Source: func(context.Context) (*Upstream, error) { n++; return ups[min(n, 1)], nil }})
			cfg := tlsFor(t, "prod")
			cfg.NextProtos = []string{"http/1.1"}
			conn, err := tls.Dial("tcp", r.addr(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /exec HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n", proto)
			br := bufio.NewReader(conn)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != proto {
				t.Fatalf("answer is %v, %v", resp, err)
			}
			defer resp.Body.Close()
			say := func(s string) {
				t.Helper()
				fmt.Fprintln(conn, s)
				if line, err := br.ReadString('\n'); err != nil || line != "echo "+s+"\n" {
					t.Fatalf("heard %q, %v", line, err)
				}
			}
			say("one")
			// Another request takes another credential; the stream goes on.
			get(t, kubectl(t, "prod"), "https://"+r.addr()+"/api/v1/pods")
			say("two")
			testwait.Eventually(t, "eight bytes are counted on one stream", func() bool {
				s := r.Status()
				return s.Connections == 1 && s.BytesOut == 8
			})
			conn.Close()
			testwait.Eventually(t, "the stream is closed", func() bool { return r.Status().Connections == 0 })
		})
	}
}

// TestUpgradeLosesNoByte carries copies both ways at once. The first bytes of
// the cluster come in one piece with its answer, as from a pod that speaks
// before its client can have asked for anything.
func TestUpgradeLosesNoByte(t *testing.T) {
	const size = 2 << 20
	up, down := make([]byte, size), make([]byte, size)
	_, _ = rand.Read(up) // it never fails
	_, _ = rand.Read(down)
	arrived := make(chan []byte, 1)
	c := newCluster(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		var sent sync.WaitGroup
		sent.Go(func() {
			first, rest := down[:5000], down[5000:]
			answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
			_, err := conn.Write(append([]byte(answer), first...))
			for piece := range slices.Chunk(rest, 32771) { // never at the edge of a buffer
				if err == nil {
					_, err = conn.Write(piece)
				}
			}
			if err != nil {
				t.Errorf("send to the client: %v", err)
			}
		})
		got := make([]byte, size)
		if _, err := io.ReadFull(rw, got); err != nil {
			t.Errorf("read from the client: %v", err)
		}
		sent.Wait()
		arrived <- got
	})
	r := run(t, Config{Source: always(c.upstream())})
	conn := upgrade(t, r.addr(), "/exec")
	var sent sync.WaitGroup
	sent.Go(func() {
		for piece := range slices.Chunk(up, 10007) {
			if _, err := conn.Write(piece); err != nil {
				t.Errorf("send to the cluster: %v", err)
				return
			}
		}
	})
	got := make([]byte, size)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Errorf("read from the cluster: %v", err)
	}
	sent.Wait()
	if !bytes.Equal(got, down) {
		t.Error("what the cluster sent is another thing at the client")
	}
	if !bytes.Equal(<-arrived, up) {
		t.Error("what the client sent is another thing at the cluster")
	}
}

// TestRefusedUpgrade checks that a client of exec is told why as well.
func TestRefusedUpgrade(t *testing.T) {
	r := run(t, Config{Source: func(context.Context) (*Upstream, error) { return nil, errors.New("no login") }})
	cfg := tlsFor(t, "prod")
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", r.addr(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d := ws.Dialer{NetDial: nil}
	_, _, err = d.Upgrade(conn, mustURL("https://127.0.0.1/exec"))
	var refused ws.StatusError
	if !errors.As(err, &refused) || int(refused) != 503 {
		t.Errorf("the upgrade ends with %v, want status 503", err)
	}
}

// TestUpgradeAfterARefusedOne has an API server refuse an upgrade as one does
// that has left HTTP already, and never looks at that connection again.
func TestUpgradeAfterARefusedOne(t *testing.T) {
	c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/refused" {
			ok(w, r)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = buffered.WriteString("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
		_ = buffered.Flush()
	})
	r := run(t, Config{Source: always(c.upstream())})
	client := kubectl(t, "prod")
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = false // it knows no upgrades
	for path, want := range map[string]int{"/refused": http.StatusBadRequest, "/exec": http.StatusOK} {
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+r.addr()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "SPDY/3.1")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s ends with %d, want %d", path, resp.StatusCode, want)
			}
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, ok)
	a := run(t, Config{Source: always(c.upstream())})
	var port int
	if _, err := fmt.Sscanf(a.addr(), "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	b := New(Config{Name: "b", Source: always(c.upstream()), Own: ListenerConfig{Port: port, CA: testCA}})
	if err := b.Bind(); !errors.Is(err, proxies.ErrPortTaken) {
		t.Fatalf("bind of a taken port = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	testwait.Eventually(t, "the owner is named", func() bool {
		var taken *proxies.PortError
		return errors.As(b.Status().BindError, &taken) && taken.Owner != nil
	})
	a.stop()
	testwait.Eventually(t, "the port is taken once it is free", func() bool { return len(b.Status().Addresses) > 0 })
	if _, body := get(t, kubectl(t, "b"), "https://"+b.Status().Addresses[0]+"/api/v1/pods"); body != "ok" {
		t.Errorf("it says %q", body)
	}
	cancel()
	<-done
}

// TestCAComesLate has the CA fail first, as a locked keychain does.
func TestCAComesLate(t *testing.T) {
	c := newCluster(t, ok)
	calls := 0
	l := startListener(t, ListenerConfig{CA: func() (*LocalCA, error) {
		if calls++; calls == 1 {
			return nil, errors.New("keychain is locked")
		}
		return testCA()
	}})
	run(t, Config{Listener: l, Source: always(c.upstream())})
	client := kubectl(t, "prod")
	if resp, err := client.Get("https://" + l.Status().Addresses[0] + "/api/v1/pods"); err == nil {
		resp.Body.Close()
		t.Error("served without a CA")
	}
	if _, body := get(t, client, "https://"+l.Status().Addresses[0]+"/api/v1/pods"); body != "ok" {
		t.Errorf("it says %q", body)
	}
}
