package simcluster

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/utils/keypaths"
	"github.com/gravitational/teleport/api/utils/keys"
	"github.com/gravitational/teleport/api/utils/pingconn"
	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ssh"

	"berth/internal/simcluster/simdb"
	"berth/internal/testwait"
	"berth/internal/tshhome"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// start starts a cluster that ends with the test.
func start(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// startDBs starts a cluster with a PostgreSQL, a MySQL, a Redis and an echo.
func startDBs(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	cfg.Databases = append(cfg.Databases,
		Database{Name: "pg", Protocol: "postgres"},
		Database{Name: "my", Protocol: "mysql"},
		Database{Name: "kv", Protocol: "redis"},
		Database{Name: "echo", Protocol: "mongodb", Backend: simdb.Echo{}},
	)
	return start(t, cfg)
}

// loginCert logs a user in and returns the session's cert.
func loginCert(t *testing.T, c *Cluster, user string, opts ...LoginOption) tls.Certificate {
	t.Helper()
	home := t.TempDir()
	if err := c.Login(home, user, opts...); err != nil {
		t.Fatal(err)
	}
	return homeCert(t, c, home, user)
}

// homeCert reads the session's cert from a home.
func homeCert(t *testing.T, c *Cluster, home, user string) tls.Certificate {
	t.Helper()
	certPath, keyPath := keypaths.TLSCertPathLegacy(home, c.ProxyHost(), user), filepath.Join(home, "keys", c.ProxyHost(), user)
	if c.Layout() == tshhome.V17 {
		certPath, keyPath = keypaths.TLSCertPath(home, c.ProxyHost(), user), keypaths.UserTLSKeyPath(home, c.ProxyHost(), user)
	}
	cert, err := keys.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	return cert
}

// authClient connects to a cluster's auth service through the proxy.
func authClient(t *testing.T, c *Cluster, s *Site, cert tls.Certificate) *client.Client {
	t.Helper()
	clt, err := client.New(t.Context(), client.Config{
		Addrs:                      []string{c.ProxyAddr()},
		Credentials:                []client.Credentials{client.LoadTLS(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: s.HostCAPool()})},
		ALPNSNIAuthDialClusterName: s.Name(),
		ALPNConnUpgradeRequired:    c.cfg.BehindLoadBalancer,
		InsecureAddressDiscovery:   true,
		DialInBackground:           true,
		DialTimeout:                testwait.Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clt.Close() })
	return clt
}

// newRequest returns a request for a cert, and the key it is for.
func newRequest(t *testing.T, user string, expires time.Time) (*proto.UserCertsRequest, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &proto.UserCertsRequest{
		PublicKey:    ssh.MarshalAuthorizedKey(pub),
		SSHPublicKey: ssh.MarshalAuthorizedKey(pub),
		TLSPublicKey: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		Username:     user,
		Expires:      expires,
	}, key
}

// certOf joins a minted cert with its key.
func certOf(t testing.TB, certs *proto.Certs, key crypto.Signer) tls.Certificate {
	t.Helper()
	block, _ := pem.Decode(certs.TLS)
	if block == nil {
		t.Fatal("no TLS cert was minted")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key, Leaf: leaf}
}

// mintDB mints a database cert at the root.
func mintDB(t *testing.T, c *Cluster, session tls.Certificate, route proto.RouteToDatabase, change ...func(*proto.UserCertsRequest)) tls.Certificate {
	t.Helper()
	req, key := newRequest(t, "alice", session.Leaf.NotAfter)
	req.RouteToDatabase = route
	req.Usage = proto.UserCertsRequest_Database
	for _, f := range change {
		f(req)
	}
	certs, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatalf("mint for %q: %v", route.ServiceName, err)
	}
	return certOf(t, certs, key)
}

// dialALPN opens a database connection through the proxy; ping protocols come
// wrapped.
func dialALPN(t *testing.T, c *Cluster, cert tls.Certificate, protos ...string) net.Conn {
	t.Helper()
	conn, err := tryALPN(t, c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protos})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func tryALPN(t *testing.T, c *Cluster, cfg *tls.Config) (net.Conn, error) {
	t.Helper()
	cfg.RootCAs, cfg.ServerName = c.WebCAPool(), c.ProxyHost()
	d := tls.Dialer{Config: cfg}
	conn, err := d.DialContext(t.Context(), "tcp", c.ProxyAddr())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(conn.(*tls.Conn).ConnectionState().NegotiatedProtocol, "-ping") {
		return pingconn.New(conn), nil
	}
	return conn, nil
}

// pgConnect logs in to a simulated PostgreSQL over a connection.
func pgConnect(t *testing.T, conn net.Conn, user string) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig("postgres://" + user + "@sim/appdb?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	pc, err := pgx.ConnectConfig(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = pc.Close(context.WithoutCancel(t.Context())) })
	}
	return pc, err
}

// dbIdentity asks a PostgreSQL connection which cert it was made with.
func dbIdentity(t *testing.T, pc *pgx.Conn) map[string]string {
	t.Helper()
	rows, err := pc.Query(t.Context(), "select * from session_identity")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		got[name] = value
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// wantEOF checks that the other side hangs up without a word.
func wantEOF(t *testing.T, conn net.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v; want EOF", n, err)
	}
}

// wantText checks that an error says text.
func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one saying %q", err, text)
	}
}
