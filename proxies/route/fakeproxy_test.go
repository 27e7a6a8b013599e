package route

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gravitational/teleport/api/utils/pingconn"

	"berth/proxies/internal/nettest"
)

// authority is a throwaway CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = makeCert(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a cert for a server of these names, or a client when there are none.
func (a *authority) issue(t testing.TB, cn string, notAfter time.Time, names ...string) *tls.Certificate {
	t.Helper()
	usage := x509.ExtKeyUsageServerAuth
	if len(names) == 0 {
		usage = x509.ExtKeyUsageClientAuth
	}
	cert, key := makeCert(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: cn}, DNSNames: names, NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, a)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func makeCert(t testing.TB, tmpl *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	tmpl.NotBefore = time.Now().Add(-time.Hour)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := tmpl, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// fakeProxy answers like a Teleport proxy: TLS with client certs, ALPN with
// and without pings, and the connection upgrade. Behind it is an echo.
type fakeProxy struct {
	addr    string
	web     *authority // signs the web cert, for proxyHost
	cluster *authority // signs clients, and the host cert inside an upgrade
	hostTLS *tls.Certificate

	mu      sync.Mutex
	alpn    []string // agreed on, one per connection
	clients []string // CN of the client cert
	resumed int
}

const proxyHost = "proxy.test"

// fakeConfig says how a fakeProxy differs from a good one.
type fakeConfig struct {
	alpn       []string // nil means teleport-postgres with and without ping
	noALPN     bool     // as behind a load balancer
	stallAfter string   // "accept", "upgrade"
	upgrade    func(w io.Writer)
	legacy     bool // answers the upgrade in the old way
	pings      int  // sent before each answer
	handle     func(net.Conn)
}

func newFakeProxy(t testing.TB, cfg fakeConfig) *fakeProxy {
	t.Helper()
	p := &fakeProxy{web: newAuthority(t, "web"), cluster: newAuthority(t, "cluster")}
	if cfg.alpn == nil {
		cfg.alpn = []string{"teleport-postgres-ping", "teleport-postgres"}
	}
	if cfg.handle == nil {
		cfg.handle = func(c net.Conn) { p.echo(c, cfg.pings) }
	}
	p.hostTLS = p.cluster.issue(t, "host", time.Time{}, proxyHost)
	webTLS := p.web.issue(t, "web", time.Time{}, proxyHost)
	up := nettest.Serve(t, func(c *net.TCPConn) {
		if cfg.stallAfter == "accept" {
			_, _ = io.Copy(io.Discard, c)
			return
		}
		conn := tls.Server(c, p.serverTLS(webTLS, cfg))
		defer conn.Close()
		if conn.Handshake() != nil {
			return
		}
		if conn.ConnectionState().NegotiatedProtocol != "" {
			p.serve(conn, cfg)
			return
		}
		p.serveHTTP(conn, cfg)
	})
	p.addr = up.Addr().String()
	return p
}

func (p *fakeProxy) serverTLS(cert *tls.Certificate, cfg fakeConfig) *tls.Config {
	c := &tls.Config{
		Certificates: []tls.Certificate{*cert},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    p.cluster.pool(),
		NextProtos:   cfg.alpn,
	}
	if cfg.noALPN {
		c.NextProtos = nil
	}
	return c
}

// serve answers a connection whose ALPN protocol is agreed on.
func (p *fakeProxy) serve(conn *tls.Conn, cfg fakeConfig) {
	state := conn.ConnectionState()
	p.mu.Lock()
	p.alpn = append(p.alpn, state.NegotiatedProtocol)
	if len(state.PeerCertificates) > 0 {
		p.clients = append(p.clients, state.PeerCertificates[0].Subject.CommonName)
	}
	if state.DidResume {
		p.resumed++
	}
	p.mu.Unlock()
	if strings.HasSuffix(state.NegotiatedProtocol, "-ping") {
		cfg.handle(pingconn.NewTLS(conn))
		return
	}
	cfg.handle(conn)
}

func (p *fakeProxy) echo(c net.Conn, pings int) {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if ping, ok := c.(*pingconn.PingTLSConn); ok {
			for range pings {
				_ = ping.WritePing()
			}
		}
		if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// serveHTTP answers the connection upgrade.
func (p *fakeProxy) serveHTTP(conn *tls.Conn, cfg fakeConfig) {
	if cfg.stallAfter == "upgrade" {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	if cfg.upgrade != nil {
		cfg.upgrade(conn)
		return
	}
	if req.URL.Path != "/webapi/connectionupgrade" || req.Host == "" {
		fmt.Fprint(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return
	}
	inner := net.Conn(conn)
	upgrades := req.Header.Values("Upgrade")
	if slices.Contains(upgrades, "websocket") && !cfg.legacy {
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Protocol: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			req.Header.Get("Sec-WebSocket-Protocol"), acceptKey(req.Header.Get("Sec-WebSocket-Key")))
		inner = &wsServer{Conn: conn, br: br, pings: cfg.pings}
	} else {
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: alpn\r\nConnection: Upgrade\r\n\r\n")
	}
	cfg.noALPN = false
	tlsConn := tls.Server(inner, p.serverTLS(p.hostTLS, cfg))
	defer tlsConn.Close()
	if tlsConn.Handshake() == nil {
		p.serve(tlsConn, cfg)
	}
}

// wsServer is the server's end of a WebSocket: frames from clients are masked,
// and not unmasked.
type wsServer struct {
	net.Conn
	br    *bufio.Reader
	left  []byte
	pings int
}

func (s *wsServer) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		f, err := ws.ReadFrame(s.br)
		if err != nil {
			return 0, err
		}
		if !f.Header.Masked {
			return 0, fmt.Errorf("the client does not mask")
		}
		if f.Header.OpCode == ws.OpBinary {
			s.left = f.Payload
		}
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

func (s *wsServer) Write(p []byte) (int, error) {
	for range s.pings {
		if err := ws.WriteFrame(s.Conn, ws.NewPingFrame([]byte("are you there"))); err != nil {
			return 0, err
		}
	}
	return len(p), ws.WriteFrame(s.Conn, ws.NewBinaryFrame(p))
}
