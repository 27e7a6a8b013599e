package simcluster

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/client/webclient"
	"github.com/jackc/pgx/v5/pgproto3"

	"berth/internal/testwait"
)

func TestWebPing(t *testing.T) {
	for _, version := range []string{V16, V17} {
		c := start(t, Config{Version: version})
		resp, err := webclient.Ping(&webclient.Config{Context: t.Context(), ProxyAddr: c.ProxyAddr(), Pool: c.WebCAPool()})
		if err != nil {
			t.Fatal(err)
		}
		if resp.ClusterName != c.Name() || resp.ServerVersion != version || !resp.Proxy.TLSRoutingEnabled ||
			resp.Auth.Type != "local" || resp.Auth.SecondFactor != "off" || resp.Auth.PrivateKeyPolicy != "none" ||
			resp.Proxy.SSH.PublicAddr != c.ProxyAddr() || resp.MinClientVersion == "" {
			t.Errorf("ping: %+v", resp)
		}
		found, err := webclient.Find(&webclient.Config{Context: t.Context(), ProxyAddr: c.ProxyAddr(), Pool: c.WebCAPool()})
		if err != nil || found.ClusterName != c.Name() || found.Auth.Type != "" {
			t.Errorf("find: %+v, %v", found, err)
		}
	}
}

func TestWebCertIsNotTrustedByDefault(t *testing.T) {
	c := start(t, Config{})
	_, err := webclient.Ping(&webclient.Config{Context: t.Context(), ProxyAddr: c.ProxyAddr()})
	wantText(t, err, "certificate signed by unknown authority")
}

func TestUnknownALPNIsHungUpOn(t *testing.T) {
	c := start(t, Config{})
	for _, proto := range []string{"teleport-nonsense", "teleport-auth@nonsense", "teleport-auth@6e6f6e65.teleport.cluster.local"} {
		_, err := tryALPN(t, c, &tls.Config{NextProtos: []string{proto}})
		if err == nil || !strings.HasSuffix(err.Error(), "EOF") {
			t.Errorf("%s: %v, want EOF and no alert", proto, err)
		}
	}
}

func TestWhichCertAnswers(t *testing.T) {
	c := startDBs(t, Config{})
	session := loginCert(t, c, "alice")
	web, host := c.WebCAPool(), c.Root().HostCAPool()
	for _, tt := range []struct {
		name, sni string
		protos    []string
		roots     *x509.CertPool
		chosen    string
	}{
		{"database", c.ProxyHost(), []string{"teleport-postgres"}, web, "teleport-postgres"},
		{"database_ping_first", c.ProxyHost(), []string{"teleport-postgres", "teleport-postgres-ping"}, web, "teleport-postgres-ping"},
		{"mysql_version", c.ProxyHost(), []string{"teleport-mysql-OC4wLjM2", "teleport-mysql-ping", "teleport-mysql"}, web, "teleport-mysql-ping"},
		{"web", c.ProxyHost(), []string{"http/1.1"}, web, "http/1.1"},
		{"no_alpn", c.ProxyHost(), nil, web, ""},
		{"unknown_beside_known", c.ProxyHost(), []string{"nonsense", "http/1.1"}, web, "http/1.1"},
		{"reverse_tunnel", c.ProxyHost(), []string{"teleport-reversetunnel"}, web, "teleport-reversetunnel"},
		{"kube", "kube-teleport-proxy-alpn." + c.ProxyHost(), []string{"h2", "http/1.1"}, host, "h2"},
		{"auth", "teleport.cluster.local", []string{"teleport-auth@" + "73696d2e74657374" + ".teleport.cluster.local", "h2"}, host, "h2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tls.Dialer{Config: &tls.Config{
				Certificates: []tls.Certificate{session}, NextProtos: tt.protos, RootCAs: tt.roots, ServerName: tt.sni,
			}}
			conn, err := d.DialContext(t.Context(), "tcp", c.ProxyAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != tt.chosen {
				t.Errorf("chosen %q, want %q", got, tt.chosen)
			}
		})
	}
}

func TestNoPing(t *testing.T) {
	c := startDBs(t, Config{PingInterval: -1})
	conn := dialALPN(t, c, loginCert(t, c, "alice"), "teleport-postgres-ping", "teleport-postgres")
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "teleport-postgres" {
		t.Errorf("chosen %q of a proxy that does not speak ping", got)
	}
}

func TestPingsAreSent(t *testing.T) {
	c := startDBs(t, Config{PingInterval: 5 * time.Millisecond})
	cert := mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "echo", Protocol: "mongodb"})
	conn := dialALPN(t, c, cert, "teleport-mongodb-ping")
	testwait.Eventually(t, "three pings", func() bool { return c.Counters().Pings >= 3 })
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
		t.Errorf("echo between pings: %q, %v", buf, err)
	}
}

// A resumed TLS session is authorised as the cert of the handshake it resumes,
// whatever cert the client has by then.
func TestResumedSessionKeepsTheIdentity(t *testing.T) {
	c := startDBs(t, Config{})
	c.AddDatabase(Database{Name: "pg2", Protocol: "postgres"})
	session := loginCert(t, c, "alice")
	first := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres"})
	second := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg2", Protocol: "postgres"})
	cache := tls.NewLRUClientSessionCache(8)
	service := func(cert tls.Certificate) (string, bool) {
		conn, err := tryALPN(t, c, &tls.Config{
			Certificates: []tls.Certificate{cert}, NextProtos: []string{"teleport-postgres"}, ClientSessionCache: cache,
		})
		if err != nil {
			t.Fatal(err)
		}
		pc, err := pgConnect(t, conn, "bob")
		if err != nil {
			t.Fatal(err)
		}
		return dbIdentity(t, pc)["service"], conn.(*tls.Conn).ConnectionState().DidResume
	}
	if got, resumed := service(first); got != "pg" || resumed {
		t.Fatalf("first connection: %s, resumed %v", got, resumed)
	}
	if got, resumed := service(second); got != "pg" || !resumed {
		t.Errorf("with the cert of pg2 and a shared cache: %s, resumed %v; want pg, resumed", got, resumed)
	}
	cache = nil
	if got, resumed := service(second); got != "pg2" || resumed {
		t.Errorf("without a cache: %s, resumed %v; want pg2", got, resumed)
	}
}

func TestExpiredCertIsRefusedAfterTheHandshake(t *testing.T) {
	c := startDBs(t, Config{})
	cert := loginCert(t, c, "alice", WithTTL(-time.Hour))
	conn, err := tryALPN(t, c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"teleport-postgres"}})
	if err != nil {
		t.Fatalf("the handshake must look done: %v", err)
	}
	_, err = conn.Read(make([]byte, 1))
	wantText(t, err, "remote error: tls: expired certificate")
}

// A client that says nothing of a database is let through the handshake and
// refused in the protocol.
func TestNoRouteIsRefusedInTheProtocol(t *testing.T) {
	c := startDBs(t, Config{})
	for name, tt := range map[string]struct {
		certs []tls.Certificate
		want  string
	}{
		"no_cert":      {nil, `cluster "" is not found`},
		"session_cert": {[]tls.Certificate{loginCert(t, c, "alice")}, `database "" not found among registered databases in cluster "sim.test"`},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tryALPN(t, c, &tls.Config{Certificates: tt.certs, NextProtos: []string{"teleport-postgres"}})
			if err != nil {
				t.Fatalf("the handshake must be done: %v", err)
			}
			_, err = pgConnect(t, conn, "bob")
			wantText(t, err, tt.want)
		})
	}
}

func TestForeignCertIsRefused(t *testing.T) {
	c, other := startDBs(t, Config{}), start(t, Config{Name: "other.test"})
	foreign := loginCert(t, other, "alice")
	// Left to itself, a Go client would not offer it to a server of another CA.
	insist := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
	conn, err := tryALPN(t, c, &tls.Config{GetClientCertificate: insist, NextProtos: []string{"teleport-postgres"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	wantText(t, err, "tls: ")
}

func TestUnknownDatabaseIsEOF(t *testing.T) {
	c := startDBs(t, Config{})
	session := loginCert(t, c, "alice")
	// The mint does not mind.
	cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "nonsense", Protocol: "postgres"})
	wantEOF(t, dialALPN(t, c, cert, "teleport-postgres"))
	// Neither does a database answer to another one's protocol.
	cert = mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres"})
	wantEOF(t, dialALPN(t, c, cert, "teleport-mysql"))
}

func TestSSLRequestIsAnsweredN(t *testing.T) {
	c := startDBs(t, Config{})
	cert := mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres"})
	conn := dialALPN(t, c, cert, "teleport-postgres")
	for _, msg := range []pgproto3.FrontendMessage{&pgproto3.SSLRequest{}, &pgproto3.GSSEncRequest{}} {
		b, err := msg.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 'N' {
			t.Errorf("%T answered %q, %v, want N", msg, answer, err)
		}
	}
}

func TestConnectionUpgrade(t *testing.T) {
	for name, cfg := range map[string]Config{
		"websocket":      {WebSocketOnly: true},
		"legacy":         {LegacyUpgradeOnly: true},
		"behind_an_alb":  {BehindLoadBalancer: true},
		"with_own_pings": {BehindLoadBalancer: true, PingInterval: 2 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c := startDBs(t, cfg)
			session := loginCert(t, c, "alice")
			cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres"})
			conn, err := client.DialALPN(t.Context(), c.ProxyAddr(), client.ALPNDialerConfig{
				DialTimeout:             testwait.Patience,
				ALPNConnUpgradeRequired: true,
				TLSConfig: &tls.Config{
					Certificates: []tls.Certificate{cert}, NextProtos: []string{"teleport-postgres"},
					// Inside, the cluster's own CA vouches for the proxy. The
					// outer connection would have to trust the web cert.
					RootCAs: c.Root().HostCAPool(), InsecureSkipVerify: true,
					VerifyConnection: func(cs tls.ConnectionState) error {
						_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: c.Root().HostCAPool(), DNSName: c.ProxyHost()})
						return err
					},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			pc, err := pgConnect(t, conn, "bob")
			if err != nil {
				t.Fatal(err)
			}
			var text string
			if err := pc.QueryRow(t.Context(), "select repeat('x', 100000)").Scan(&text); err != nil || len(text) != 100000 {
				t.Errorf("through the upgrade: %d bytes, %v", len(text), err)
			}
			if n := c.Counters().Upgrades; n < 1 {
				t.Errorf("%d upgrades counted", n)
			}
		})
	}
}

func TestUpgradeIsNeededBehindALoadBalancer(t *testing.T) {
	for _, behind := range []bool{false, true} {
		c := start(t, Config{BehindLoadBalancer: behind})
		if got := client.IsALPNConnUpgradeRequired(t.Context(), c.ProxyAddr(), true); got != behind {
			t.Errorf("behind a balancer %v: upgrade required %v", behind, got)
		}
	}
}

func TestKubeEndpoint(t *testing.T) {
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}}, KubeHandler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, KubeIdentity(r).KubeCluster)
	})})
	session := loginCert(t, c, "alice")
	req, key := newRequest(t, "alice", session.Leaf.NotAfter)
	req.KubernetesCluster, req.Usage = "prod", proto.UserCertsRequest_Kubernetes
	certs, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{certOf(t, certs, key)}, RootCAs: c.Root().HostCAPool(),
		ServerName: "kube-teleport-proxy-alpn." + c.ProxyHost(),
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + c.ProxyAddr() + "/api")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "prod" || resp.ProtoMajor != 2 {
		t.Errorf("answer %q over HTTP/%d, %v", body, resp.ProtoMajor, err)
	}
}

func TestTwoClustersAtOnce(t *testing.T) {
	a, b := startDBs(t, Config{Name: "a.test"}), startDBs(t, Config{Name: "b.test"})
	for _, c := range []*Cluster{a, b} {
		cert := mintDB(t, c, loginCert(t, c, "alice"), proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres"})
		pc, err := pgConnect(t, dialALPN(t, c, cert, "teleport-postgres"), "bob")
		if err != nil {
			t.Fatal(err)
		}
		if got := dbIdentity(t, pc)["cluster"]; got != c.Name() {
			t.Errorf("served by %s, want %s", got, c.Name())
		}
	}
	if a.ProxyAddr() == b.ProxyAddr() {
		t.Errorf("both are at %s", a.ProxyAddr())
	}
}
