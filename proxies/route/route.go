// Package route opens connections to resources behind a Teleport proxy: TLS by
// the resource's cert, with the ALPN protocol that names it, through an HTTP
// proxy and a connection upgrade where needed. It is the part of carrying that
// knows Teleport; package proxies carries whatever it is handed.
package route

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/utils"
)

// Why a dial failed: its error matches one of them, and its cause.
var (
	// ErrUnreachable means that the proxy, or the HTTP proxy before it, could
	// not be connected to, or did not answer in time.
	ErrUnreachable = errors.New("proxy is unreachable")
	// ErrUntrusted means that the proxy's certificate could not be verified.
	ErrUntrusted = errors.New("proxy is not trusted")
	// ErrHandshake means that the proxy answered and refused the TLS
	// handshake, the ALPN protocol or the connection upgrade.
	ErrHandshake = errors.New("proxy refused the connection")
	// ErrUpgradeNeeded is an ErrHandshake in which no ALPN protocol was agreed
	// on: something before the proxy ends TLS, and ConnUpgrade may help.
	ErrUpgradeNeeded = fmt.Errorf("%w: no ALPN protocol was agreed on", ErrHandshake)
)

// Route says how to reach a resource through a Teleport proxy.
type Route struct {
	// ProxyAddr is the proxy's host:port.
	ProxyAddr string
	// ServerName is the SNI; empty means the host of ProxyAddr.
	ServerName string
	// ALPN is the protocol, without "-ping"; pings are used when the proxy
	// offers them. Empty means none.
	ALPN string
	// ALPNHints are offered after ALPN. They tell the proxy something, and are
	// not agreed on.
	ALPNHints []string
	// Cert is the client cert that names the resource.
	Cert *tls.Certificate
	// RootCAs verify the proxy's web cert; nil means the system's.
	RootCAs *x509.CertPool
	// Insecure leaves the web cert unverified, which only the user may choose.
	Insecure bool
	// ConnUpgrade reports whether a load balancer before the proxy ends TLS.
	ConnUpgrade bool
	// ClusterCert reports whether the proxy shows a host cert of the cluster
	// for ServerName, as it does for Kubernetes. ClusterCAs then always verify
	// it, and Insecure changes nothing.
	ClusterCert bool
	// ClusterCAs verify the proxy inside a connection upgrade, where it shows
	// a host cert of the cluster. The load balancer's own cert is then not
	// verified, because nothing that it sees is secret. nil means that RootCAs
	// verify both.
	ClusterCAs *x509.CertPool

	// http are the versions of HTTP to offer in place of ALPN, best first: "h2",
	// "http/1.1". The conn is a *tls.Conn, which knows what was agreed on.
	http []string
	host string // of ProxyAddr
	// answered is called in place of showing the cert, see Probe; nil means that it
	// is shown.
	answered func() error
}

// Dial opens a connection to r's resource: TLS to the proxy with r's cert,
// through the HTTP proxy of the environment and a connection upgrade where
// needed. ctx bounds all of it. The conn passes on half-closes.
//
// TLS sessions are never resumed: a resumed session would keep the identity
// of the cert it began with. With TLS 1.3 a proxy that does not accept Cert
// says so only in answer to the first read.
func (r Route) Dial(ctx context.Context) (net.Conn, error) {
	host, _, err := net.SplitHostPort(r.ProxyAddr)
	if err != nil {
		return nil, fmt.Errorf("dial proxy %q: %w", r.ProxyAddr, err)
	}
	r.host = host
	if r.ServerName == "" {
		r.ServerName = host
	}
	conn, err := r.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial proxy %q: %w", r.ProxyAddr, err)
	}
	return conn, nil
}

// dial opens the socket, then what goes over it.
func (r Route) dial(ctx context.Context) (net.Conn, error) {
	raw, conn, err := dialTCP(ctx, r.ProxyAddr, r.RootCAs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	// Not everything below looks at ctx; closing the socket ends it all.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, err = r.overTCP(ctx, conn)
	if s, ok := conn.(*stream); ok {
		s.raw = raw
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return conn, nil
	}
	_ = raw.Close() // the failure is err
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
	}
	return nil, classify(err)
}

// overTCP makes the connection upgrade and the TLS handshake.
func (r Route) overTCP(ctx context.Context, conn net.Conn) (net.Conn, error) {
	var err error
	if r.ConnUpgrade {
		if conn, err = r.upgrade(ctx, conn); err != nil {
			return nil, err
		}
	}
	beneath := newRecords(conn)
	tlsConn := tls.Client(beneath, r.tlsConfig())
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if r.ALPN == "" {
		return tlsConn, nil
	}
	agreed := tlsConn.ConnectionState().NegotiatedProtocol
	if agreed == "" {
		return nil, ErrUpgradeNeeded
	}
	// Pings inside keep idle connections alive through load balancers.
	return newStream(tlsConn, beneath, client.IsALPNPingProtocol(agreed)), nil
}

// tlsConfig is for the TLS that carries the resource's bytes.
func (r Route) tlsConfig() *tls.Config {
	cfg := &tls.Config{
		ServerName:         r.ServerName,
		RootCAs:            r.RootCAs,
		InsecureSkipVerify: r.Insecure, //nolint:gosec // G402: the user's explicit choice for this profile
		MinVersion:         tls.VersionTLS12,
		// Small first records help web pages to render, not queries to run.
		DynamicRecordSizingDisabled: true,
	}
	if r.ConnUpgrade && r.ClusterCAs != nil {
		cfg.RootCAs = r.ClusterCAs
	}
	if r.answered != nil && r.ALPN != "" {
		cfg.VerifyConnection = func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol == "" {
				return ErrUpgradeNeeded
			}
			return nil
		}
	}
	if r.ClusterCert {
		cfg.RootCAs, cfg.InsecureSkipVerify = r.ClusterCAs, false
	}
	cfg.NextProtos = r.http
	if r.ALPN != "" {
		cfg.NextProtos = append([]string{r.ALPN + constants.ALPNSNIProtocolPingSuffix, r.ALPN}, r.ALPNHints...)
	}
	if r.Cert != nil || r.answered != nil {
		// Not Certificates: those are held back when the proxy's list of
		// accepted CAs, which may be cut short, does not name theirs.
		cfg.GetClientCertificate = r.clientCert
	}
	return cfg
}

// classify finds out which step failed.
func classify(err error) error {
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrHandshake):
		return err
	case errors.As(err, &unverified):
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	case isNoALPN(err):
		return fmt.Errorf("%w: %w", ErrUpgradeNeeded, err)
	default:
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
}

// isNoALPN reports whether the server has none of our protocols: crypto/tls
// has no type for the alert.
func isNoALPN(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" &&
		strings.Contains(op.Err.Error(), "no application protocol")
}

// dialTCP connects to addr as the environment's proxy variables say. The raw
// conn is the socket below conn.
func dialTCP(ctx context.Context, addr string, rootCAs *x509.CertPool) (raw, conn net.Conn, err error) {
	httpProxy := utils.GetProxyURL(addr)
	if httpProxy == nil {
		conn, err = Connect(ctx, "tcp", addr)
		return conn, conn, err
	}
	// The api's dialer does not look at ctx once it is connected.
	var stop func() bool
	conn, err = client.DialProxyWithDialer(ctx, httpProxy, addr, client.ContextDialerFunc(
		func(ctx context.Context, network, addr string) (net.Conn, error) {
			raw, err = Connect(ctx, network, addr)
			if err == nil {
				stop = context.AfterFunc(ctx, func() { _ = raw.Close() })
			}
			return raw, err
		}), client.WithTLSConfig(&tls.Config{RootCAs: rootCAs, MinVersion: tls.VersionTLS12}))
	if stop != nil && !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		if raw != nil {
			_ = raw.Close() // the failure is err
		}
		return nil, nil, fmt.Errorf("through HTTP proxy %s: %w", httpProxy.Redacted(), err)
	}
	return raw, conn, nil
}
