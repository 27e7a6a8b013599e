//go:build e2e && linux

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"golang.org/x/crypto/ssh"

	"berth/internal/simcluster"
)

// world is a cluster to ask questions of, real or simulated. Both have the
// same name, user, roles and database.
type world struct {
	name      string // "real" or "simulated"
	proxyAddr string
	cluster   string
	user      string
	webCAs    *x509.CertPool
	home      string // logged in
	shortHome string // logged in, for a session that ends soon

	// decide resolves an access request as an administrator; nil where no
	// probe needs it.
	decide func(ctx context.Context, id, verb, reason string) error

	// act does to the user, or to the cluster's CAs, what an administrator would;
	// nil where no probe needs it.
	act func(ctx context.Context, what string) error

	clt   *client.Client // of home
	short *client.Client // of shortHome; connected while that session was valid
	db    *tls.Certificate
}

const shortSession = time.Minute // tsh takes no shorter one

// newWorlds logs in to the real cluster and to a simulated one like it.
func newWorlds(t *testing.T) []*world {
	t.Helper()
	return newWorldsAt(t, lab.teleport)
}

// newWorldsAt is newWorlds for a real cluster that may be spoilt.
func newWorldsAt(t *testing.T, tp *teleport) []*world {
	t.Helper()
	p := newPersonAt(t, tp, roleDB)
	shortHome := filepath.Join(p.dir, "short")
	p.loginIn(shortHome, "--ttl=1")
	p.login()
	reality := &world{
		name: "real", proxyAddr: tp.addr(), webCAs: lab.webCA.pool(),
		home: p.tshHome, shortHome: shortHome, act: tp.acts(p.name),
	}
	sim := newSimulation(t, p)
	simulation := &world{
		name: "simulated", proxyAddr: sim.ProxyAddr(), webCAs: sim.WebCAPool(),
		home: filepath.Join(p.dir, "sim"), shortHome: filepath.Join(p.dir, "sim-short"), act: simActs(sim, p.name),
	}
	for home, opts := range map[string][]simcluster.LoginOption{
		simulation.home:      nil,
		simulation.shortHome: {simcluster.WithTTL(shortSession)},
	} {
		if err := sim.Login(home, p.name, append(opts, simcluster.WithKey(simcluster.RSA))...); err != nil {
			t.Fatal(err)
		}
	}
	worlds := []*world{reality, simulation}
	for _, w := range worlds {
		w.cluster, w.user = "ref.test", p.name
		w.connect(t)
	}
	return worlds
}

// newSimulation starts a simulated cluster like the real one, with the person
// as its user.
func newSimulation(t *testing.T, p *person) *simcluster.Cluster {
	t.Helper()
	sim, err := simcluster.Start(simcluster.Config{
		Name: "ref.test", ProxyHost: "127.0.0.1",
		Users: []simcluster.User{{Name: p.name, Password: p.password, Roles: []string{roleDB}, Logins: []string{"nobody"}}},
		Roles: []simcluster.Role{{Name: roleDB, DBUsers: []string{"app", "reporter", "tester"}, DBNames: []string{"appdb"}}},
		Databases: []simcluster.Database{{
			Name: "pg", Protocol: "postgres", URI: "127.0.0.1:5432", Labels: map[string]string{"env": "e2e"},
		}, {
			Name: "pg-away", Protocol: "postgres", Labels: map[string]string{"env": "e2e"}, Away: "connection refused",
		}, {
			Name: "my-away", Protocol: "mysql", Labels: map[string]string{"env": "e2e"}, Away: "connection refused",
		}, {
			Name: "re-away", Protocol: "redis", Labels: map[string]string{"env": "e2e"}, Away: "failed to connect to the target database",
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim
}

// connect opens the api clients and mints the cert most probes use.
func (w *world) connect(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	if w.clt, err = w.dialAuth(ctx, w.home); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	t.Cleanup(func() { _ = w.clt.Close() }) // nothing is lost with it
	if w.short, err = w.dialAuth(ctx, w.shortHome); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	t.Cleanup(func() { _ = w.short.Close() }) // nothing is lost with it
	if w.db, err = w.mint(ctx, w.clt, w.request("pg")); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
}

// session reads what a login left in a home of v16's layout.
func (w *world) session(home string) (tls.Certificate, error) {
	dir := filepath.Join(home, "keys", "127.0.0.1")
	return tls.LoadX509KeyPair(filepath.Join(dir, w.user+"-x509.pem"), filepath.Join(dir, w.user))
}

// dialAuth connects to the auth service through the proxy.
func (w *world) dialAuth(ctx context.Context, home string) (*client.Client, error) {
	cert, err := w.session(home)
	if err != nil {
		return nil, err
	}
	return w.dialAs(ctx, home, []tls.Certificate{cert})
}

// dialAs is dialAuth with certs, or with none.
func (w *world) dialAs(ctx context.Context, home string, certs []tls.Certificate) (*client.Client, error) {
	hostCAs, err := os.ReadFile(filepath.Join(home, "keys", "127.0.0.1", "cas", w.cluster+".pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(hostCAs) {
		return nil, errors.New("no host CA in the home")
	}
	return client.New(ctx, client.Config{
		Addrs:                      []string{w.proxyAddr},
		Credentials:                []client.Credentials{client.LoadTLS(&tls.Config{Certificates: certs, RootCAs: roots})},
		ALPNSNIAuthDialClusterName: w.cluster,
		DialTimeout:                5 * time.Second,
	})
}

// request asks for a cert for a database, as berth does.
func (w *world) request(service string) proto.UserCertsRequest {
	return proto.UserCertsRequest{
		Username:       w.user,
		Expires:        time.Now().Add(time.Hour),
		RouteToCluster: w.cluster,
		RouteToDatabase: proto.RouteToDatabase{
			ServiceName: service, Protocol: "postgres", Username: "app", Database: "appdb",
		},
		Usage:         proto.UserCertsRequest_Database,
		RequesterName: proto.UserCertsRequest_TSH_DB_LOCAL_PROXY_TUNNEL,
	}
}

// mint has a cert issued for a new key, in all the forms a server may want it
// in unless req has some already.
func (w *world) mint(ctx context.Context, clt *client.Client, req proto.UserCertsRequest) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	sshKey, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	req.PublicKey = ssh.MarshalAuthorizedKey(sshKey) //nolint:staticcheck // SA1019: v16 servers read only this one
	req.SSHPublicKey = ssh.MarshalAuthorizedKey(sshKey)
	req.TLSPublicKey = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	certs, err := clt.GenerateUserCerts(ctx, req)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certs.TLS)
	if block == nil {
		return nil, errors.New("the answer has no certificate")
	}
	cert := &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	cert.Leaf, err = x509.ParseCertificate(block.Bytes)
	return cert, err
}

// dial opens a TLS connection to the proxy; cert and cache may be nil.
func (w *world) dial(ctx context.Context, cert *tls.Certificate, cache tls.ClientSessionCache, alpn ...string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cfg := &tls.Config{RootCAs: w.webCAs, ServerName: "127.0.0.1", NextProtos: alpn, ClientSessionCache: cache}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", w.proxyAddr)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), conn.SetDeadline(time.Now().Add(10 * time.Second))
}

// endOf words how a connection or call failed, without what differs by chance.
func endOf(err error) string {
	var netErr net.Error
	switch {
	case err == nil:
		return "no error"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "EOF"
	case strings.Contains(err.Error(), "connection reset by peer"), strings.Contains(err.Error(), "broken pipe"):
		return "EOF" // the same hang-up, seen a moment later
	case errors.As(err, &netErr) && netErr.Timeout():
		return "silence"
	default:
		return err.Error()
	}
}

// describe words a cert request's outcome.
func describe(cert *tls.Certificate, err error, words func(*x509.Certificate) string) string {
	if err != nil {
		return "refused: " + err.Error()
	}
	return "issued, " + words(cert.Leaf)
}

// against reports how a cert's end relates to its session's.
func (w *world) against(home string) func(*x509.Certificate) string {
	return func(leaf *x509.Certificate) string {
		session, err := w.session(home)
		if err != nil {
			return err.Error()
		}
		// Both certs of a session are cut to the second, each at its own time.
		switch d := leaf.NotAfter.Sub(session.Leaf.NotAfter); {
		case d > time.Second:
			return fmt.Sprintf("ends %s after the session", d)
		case d < -time.Second:
			return "ends before the session"
		default:
			return "ends with the session"
		}
	}
}
