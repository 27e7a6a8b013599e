package faketsh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/pingconn"
)

// tunnel is "tsh proxy db --tunnel" at work.
type tunnel struct {
	t       *tsh
	route   proto.RouteToDatabase
	cluster string
	alpn    string
	cert    *tls.Certificate // of the last mint; only the accept loop looks at it
	conns   sync.WaitGroup
}

// proxyDB is "tsh proxy db --tunnel DB".
func (t *tsh) proxyDB(ctx context.Context) error {
	if !t.flags.on("tunnel") {
		return errors.New("this simulated tsh knows 'proxy db' with --tunnel only")
	}
	s, err := t.load()
	if err != nil {
		return err
	}
	if s.ssh == nil {
		return errNotLoggedIn
	}
	if !s.valid() {
		if s, err = t.relogin(ctx, s); err != nil {
			return err
		}
	}
	db, err := t.target(ctx, s)
	if err != nil {
		return err
	}
	port := t.flags["port"]
	if port == "" {
		port = "0"
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	tun := &tunnel{t: t, route: t.route(db), cluster: t.cluster(s), alpn: alpnOf(db)}
	fmt.Fprintf(t.stdout, "Started authenticated tunnel for the %s database %q in cluster %q on %s.\n",
		displayName(db.GetProtocol()), db.GetName(), tun.cluster, ln.Addr())
	// Only now is it seen whether there is a cert to be had.
	if err := tun.mint(ctx, s); err != nil {
		return err
	}
	err = tun.accept(ctx, ln)
	tun.conns.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func displayName(protocol string) string {
	switch protocol {
	case types.DatabaseProtocolPostgreSQL:
		return "PostgreSQL"
	case types.DatabaseProtocolMySQL:
		return "MySQL"
	case types.DatabaseProtocolMongoDB:
		return "MongoDB"
	case "redis":
		return "Redis"
	case "cockroachdb":
		return "CockroachDB"
	default:
		return protocol
	}
}

// alpnOf returns the ALPN protocol for a database.
func alpnOf(db types.Database) string {
	switch p := db.GetProtocol(); p {
	case "cockroachdb":
		return "teleport-postgres"
	case "mariadb":
		return "teleport-mysql"
	default:
		return "teleport-" + p
	}
}

// accept serves clients one after the other up to the dial: what holds one up
// there holds all up, as in tsh.
func (tun *tunnel) accept(ctx context.Context, ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		server, err := tun.dial(ctx)
		if err != nil {
			if tun.t.flags.on("debug") {
				fmt.Fprintf(tun.t.stderr, "tunnel: %v\n", err)
			}
			_ = conn.Close() // without a word, as tsh does
			continue
		}
		tun.conns.Go(func() { join(ctx, conn, server) })
	}
}

// dial reads the home again, mints if that is due, and connects.
func (tun *tunnel) dial(ctx context.Context) (net.Conn, error) {
	s, err := tun.t.load()
	if err != nil {
		return nil, err
	}
	if tun.cert == nil || !time.Now().Before(tun.cert.Leaf.NotAfter) {
		if !s.valid() {
			if s, err = tun.t.relogin(ctx, s); err != nil {
				return nil, err
			}
		}
		if err := tun.mint(ctx, s); err != nil {
			return nil, err
		}
	}
	roots, err := tun.t.webRoots()
	if err != nil {
		return nil, err
	}
	cfg := tun.t.webTLS(roots)
	if s.profile.ConnUpgradeRequired { // inside, the cluster's own CA vouches
		cfg.RootCAs = s.clusterCAs(s.root())
	}
	cfg.Certificates = []tls.Certificate{*tun.cert}
	cfg.NextProtos = []string{tun.alpn + "-ping", tun.alpn}
	conn, err := client.DialALPN(ctx, s.profile.WebProxyAddr, client.ALPNDialerConfig{
		TLSConfig: cfg, ALPNConnUpgradeRequired: s.profile.ConnUpgradeRequired, DialTimeout: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(conn.ConnectionState().NegotiatedProtocol, "-ping") {
		return halfCloser{pingconn.New(conn), conn}, nil
	}
	return conn, nil
}

func (tun *tunnel) mint(ctx context.Context, s *session) error {
	certPEM, keyPEM, err := tun.t.dbCert(ctx, s, tun.cluster, tun.route)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return err
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return err
	}
	tun.cert = &cert
	return nil
}

// halfCloser half-closes a ping connection by the TLS connection beneath.
type halfCloser struct {
	net.Conn
	tls *tls.Conn
}

// CloseWrite says that nothing more follows.
func (h halfCloser) CloseWrite() error { return h.tls.CloseWrite() }

// join copies both ways until both have ended, or ctx has.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() {
		_ = a.Close()
		_ = b.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, err := io.Copy(way[0], way[1])
			cw, ok := way[0].(interface{ CloseWrite() error })
			if err != nil || !ok || cw.CloseWrite() != nil {
				_ = a.Close()
				_ = b.Close()
			}
		})
	}
	wg.Wait()
	_ = a.Close()
	_ = b.Close()
}
