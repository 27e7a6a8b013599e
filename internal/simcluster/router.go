package simcluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/utils"

	"berth/certwatch"
)

// routeKind is where the router sends a connection.
type routeKind int

const (
	routeWeb routeKind = iota
	routeAuth
	routeDB
	routeKube
	routeTunnel // SSH and reverse tunnel: the handshake is all there is
)

// route is the router's decision, made from the ClientHello.
type route struct {
	kind  routeKind
	site  *Site  // routeAuth
	proto string // the ALPN protocol to answer with
	offer []string
}

// helloConn carries the router's decision from the ClientHello callback back
// to the one who started the handshake.
type helloConn struct {
	net.Conn
	inner bool
	route route
}

// errNoRoute says that the ClientHello matched nothing.
var errNoRoute = errors.New("no ALPN protocol or server name matches")

// clientCert is what the router knows of a verified client cert.
type clientCert struct {
	serial   int64
	notAfter time.Time
	parsed   *x509.Certificate
}

func newClientCert(cert *x509.Certificate) clientCert {
	return clientCert{serial: cert.SerialNumber.Int64(), notAfter: cert.NotAfter, parsed: cert}
}

func (c *Cluster) setupTLS() error {
	if err := c.showCertOf(c.webCA); err != nil {
		return err
	}
	present := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.webCert.Load(), nil }
	c.webTLS = &tls.Config{
		GetCertificate: present,
		Time:           c.now,
		MinVersion:     tls.VersionTLS12,
	}
	// As in the real proxy, session tickets are on: a resumed session has the
	// identity of the handshake it resumes.
	c.trustUsers()
	c.tls = &tls.Config{
		GetConfigForClient: c.configFor,
		GetCertificate:     present,
		Time:               c.now,
		MinVersion:         tls.VersionTLS12,
	}
	return nil
}

// showCertOf has the proxy show a new web cert, signed by a CA.
func (c *Cluster) showCertOf(ca *authority) error {
	cert, err := ca.serverCert(c.cfg.ProxyHost, []string{"localhost", c.cfg.ProxyHost}, c.now())
	if err != nil {
		return err
	}
	c.webCert.Store(&cert)
	return nil
}

// trustUsers has databases accept the certs of the present user CA.
func (c *Cluster) trustUsers() {
	cfg := c.webTLS.Clone()
	cfg.ClientAuth = tls.VerifyClientCertIfGiven // who has none is refused in the database's protocol
	cfg.ClientCAs = pool(c.root.trust.Load().userCA)
	cfg.VerifyConnection = c.verifySession
	c.webDB.Store(cfg)
}

// verifySession refuses the certs of sessions that were ended before their
// time. It runs on resumed handshakes too.
func (c *Cluster) verifySession(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	cert := newClientCert(cs.PeerCertificates[0])
	if end := c.faults.sessionEnd(cert); end.Before(cert.notAfter) {
		return fmt.Errorf("session of cert %d was ended at %v", cert.serial, end)
	}
	return nil
}

// configFor is the router: it chooses the TLS config by SNI and ALPN. What
// matches nothing is hung up on, without an alert.
func (c *Cluster) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	hc, ok := hello.Conn.(*helloConn)
	if !ok {
		return nil, errNoRoute
	}
	r, err := c.routeFor(hello.ServerName, hello.SupportedProtos, hc.inner)
	if err != nil {
		c.cfg.Log.Debug("connection refused", "server_name", hello.ServerName, "alpn", hello.SupportedProtos)
		_ = hc.Close() // before the alert could be sent
		return nil, err
	}
	hc.route = r
	cfg := c.configOf(r, hc.inner).Clone()
	if r.proto != "" {
		cfg.NextProtos = []string{r.proto}
	}
	return cfg, nil
}

// configOf returns the TLS config of a route: the web cert for the web API and
// databases, a cert of the cluster's host CA for all else, and for everything
// inside a connection upgrade.
func (c *Cluster) configOf(r route, inner bool) *tls.Config {
	switch {
	case r.kind == routeAuth:
		return r.site.trust.Load().authTLS
	case r.kind == routeKube:
		return c.root.trust.Load().clientTLS
	case r.kind == routeDB && inner:
		return c.root.trust.Load().dbTLS
	case r.kind == routeDB:
		return c.webDB.Load()
	case inner:
		return c.root.trust.Load().hostTLS
	default:
		return c.webTLS
	}
}

func (c *Cluster) routeFor(serverName string, offered []string, inner bool) (route, error) {
	if c.balanced.Load() && !inner {
		return route{kind: routeWeb}, nil // a balancer negotiates no ALPN
	}
	if strings.HasPrefix(serverName, constants.KubeTeleportProxyALPNPrefix) {
		return route{kind: routeKube, proto: firstOf(offered, "h2", "http/1.1")}, nil
	}
	if len(offered) == 0 {
		return route{kind: routeWeb}, nil
	}
	for _, proto := range offered {
		r, ok := c.routeOf(proto, offered)
		if ok {
			r.offer = offered
			return r, nil
		}
	}
	return route{}, errNoRoute
}

// routeOf returns the route of one offered protocol.
func (c *Cluster) routeOf(proto string, offered []string) (route, bool) {
	if name, ok := strings.CutPrefix(proto, constants.ALPNSNIAuthProtocol); ok {
		clusterName, err := utils.DecodeClusterName(name)
		if err != nil {
			return route{}, false
		}
		site := c.site(clusterName)
		return route{kind: routeAuth, site: site, proto: "h2"}, site != nil && !site.away.Load()
	}
	switch proto {
	case "h2", "http/1.1":
		return route{kind: routeWeb, proto: firstOf(offered, "h2", "http/1.1")}, true
	case constants.ALPNSNIProtocolReverseTunnel, constants.ALPNSNIProtocolSSH:
		return route{kind: routeTunnel, proto: proto}, true
	}
	base, ok := dbALPN(proto)
	if !ok {
		return route{}, false
	}
	ping := base + constants.ALPNSNIProtocolPingSuffix
	switch {
	case c.cfg.PingInterval > 0 && slices.Contains(offered, ping):
		return route{kind: routeDB, proto: ping}, true
	case slices.Contains(offered, base):
		return route{kind: routeDB, proto: base}, true
	case strings.HasPrefix(proto, mysqlVersionALPN) && proto != ping:
		return route{kind: routeDB, proto: proto}, true
	default:
		return route{}, false // only the ping form was offered, and it is not spoken
	}
}

// firstOf returns the first of the wanted that is offered; empty means none.
func firstOf(offered []string, wanted ...string) string {
	for _, w := range wanted {
		if slices.Contains(offered, w) {
			return w
		}
	}
	return ""
}

// route serves one connection: raw is the accepted one, transport what the TLS
// handshake is to happen on, which differs inside a connection upgrade.
func (c *Cluster) route(raw *conn, transport net.Conn, inner bool) {
	hc := &helloConn{Conn: transport, inner: inner}
	tc := tls.Server(hc, c.tls)
	if err := tc.HandshakeContext(c.ctx); err != nil {
		c.cfg.Log.Debug("handshake", "err", err)
		c.hangUp(raw, tc)
		return
	}
	if !c.faults.holdAfterTLS(c.ctx, raw, nil) {
		c.hangUp(raw, tc)
		return
	}
	switch r := hc.route; r.kind {
	case routeAuth:
		raw.site.Store(r.site)
		raw.auth.Store(true)
		r.site.auth.serve(tc)
	case routeKube:
		c.kube.serve(tc)
	case routeDB:
		c.serveDB(raw, tc, r)
		c.hangUp(raw, tc)
	case routeWeb:
		c.web.serve(tc)
	case routeTunnel:
		c.hangUp(raw, tc)
	}
}

// hangUp ends a connection the way TLS wants it.
func (c *Cluster) hangUp(raw *conn, tc *tls.Conn) {
	_ = tc.Close()
	_ = raw.Close()
}

// callerOf returns who a TLS connection was verified to be.
func callerOf(cs tls.ConnectionState) (caller, error) {
	if len(cs.PeerCertificates) == 0 {
		return caller{}, errors.New("no client certificate")
	}
	cert := cs.PeerCertificates[0]
	return caller{identity: certwatch.ParseIdentity(cert.Subject), cert: newClientCert(cert)}, nil
}
