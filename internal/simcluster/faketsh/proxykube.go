package faketsh

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/keypaths"
)

// kubeProxy is "tsh proxy kube" at work: an HTTP forward proxy for the clients,
// and behind it a TLS listener that speaks for the cluster.
type kubeProxy struct {
	t       *tsh
	cluster string
	kube    string

	mu      sync.Mutex
	session *session // as of the last mint
	pair    kubePair // of the last mint
}

// proxyKube is "tsh proxy kube KUBE".
func (t *tsh) proxyKube(ctx context.Context) error {
	p, s, err := t.newKubeProxy(ctx)
	if err != nil {
		return err
	}
	local, err := newLocalCA("*." + p.cluster)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	port := t.flags["port"]
	if port == "" {
		port = "0"
	}
	forward, err := lc.Listen(ctx, "tcp", net.JoinHostPort("localhost", port))
	if err != nil {
		return err
	}
	defer forward.Close()
	path := p.kubeconfigPath(s, forward.Addr())
	t.announceKube(forward.Addr(), port == "0", path)
	if err := p.writeKubeconfig(path, s.profile.WebProxyAddr, forward.Addr(), local); err != nil {
		return err
	}
	defer os.Remove(path)
	p.serve(ctx, forward, tls.NewListener(ln, local.serverConfig()))
	return nil
}

// newKubeProxy checks that the cluster exists and gets the first cert, which
// stays in the home.
func (t *tsh) newKubeProxy(ctx context.Context) (*kubeProxy, *session, error) {
	s, err := t.load()
	if err != nil {
		return nil, nil, err
	}
	if s.ssh == nil {
		return nil, nil, errNotLoggedIn
	}
	if !s.valid() {
		if s, err = t.relogin(ctx, s); err != nil {
			return nil, nil, err
		}
	}
	if len(t.words) != 1 {
		return nil, nil, errors.New("this simulated tsh knows 'proxy kube' with one Kubernetes cluster only")
	}
	p := &kubeProxy{t: t, session: s, cluster: t.cluster(s), kube: t.words[0]}
	list, err := t.kubes(ctx, s, p.cluster)
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(list, func(k types.KubeCluster) bool { return k.GetName() == p.kube }) {
		return nil, nil, fmt.Errorf("kubernetes cluster %q not found, check 'tsh kube ls' for a list of known clusters", p.kube)
	}
	fmt.Fprintf(t.stdout, "Preparing the following Teleport Kubernetes clusters:\n"+
		"Teleport Cluster Name Kube Cluster Name \n--------------------- ----------------- \n%-21s %-17s \n\n", p.cluster, p.kube)
	if p.pair, err = t.kubeCert(ctx, s, p.cluster, p.kube); err != nil {
		return nil, nil, err
	}
	return p, s, s.home.KubeLogin(s.profile, s.creds, p.cluster, p.kube, p.pair.cert, p.pair.key)
}

func (t *tsh) announceKube(addr net.Addr, random bool, path string) {
	fmt.Fprintf(t.stdout, "Started local proxy for Kubernetes on %s\n", addr)
	if random {
		fmt.Fprintln(t.stdout, "To avoid port randomization, you can choose the listening port using the --port flag.")
	}
	fmt.Fprintf(t.stdout, "\nUse the following config for your Kubernetes applications. For example:\n"+
		"export KUBECONFIG=%s\nkubectl version\n\n", path)
}

func (p *kubeProxy) kubeconfigPath(s *session, addr net.Addr) string {
	if path := p.t.env["TELEPORT_KUBECONFIG"]; path != "" {
		return path
	}
	_, port, _ := net.SplitHostPort(addr.String()) // a listener's address has a port
	return keypaths.KubeConfigPath(s.home.Dir, s.profile.Name(), s.profile.User, p.cluster, "localproxy-"+port)
}

// writeKubeconfig writes the ephemeral kubeconfig. tsh puts the user's other
// contexts into it too; this one has its own alone.
func (p *kubeProxy) writeKubeconfig(path, proxyAddr string, forward net.Addr, local *localCA) error {
	name := p.cluster + "-" + p.kube
	cert, key := base64.StdEncoding.EncodeToString(local.certPEM), base64.StdEncoding.EncodeToString(local.keyPEM)
	user := map[string]any{"client-certificate-data": cert, "client-key-data": key}
	if as := p.t.flags["as"]; as != "" {
		user["as"] = as
	}
	if groups := p.t.flags["as-groups"]; groups != "" {
		user["as-groups"] = strings.Split(groups, ",")
	}
	entry := func(kind string, v map[string]any) []any { return []any{map[string]any{"name": name, kind: v}} }
	raw, err := json.MarshalIndent(map[string]any{ // JSON is YAML
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": entry("cluster", map[string]any{
			"certificate-authority-data": cert, "proxy-url": "http://" + forward.String(), "server": "https://" + proxyAddr,
			"tls-server-name": p.serverName(),
		}),
		"users":    entry("user", user),
		"contexts": entry("context", map[string]any{"cluster": name, "user": name}),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

func (p *kubeProxy) serverName() string { return hex.EncodeToString([]byte(p.kube)) + "." + p.cluster }

// serve runs both listeners until ctx ends.
func (p *kubeProxy) serve(ctx context.Context, forward, ln net.Listener) {
	srv := &http.Server{
		Handler: http.HandlerFunc(p.handle), ReadHeaderTimeout: time.Minute,
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() {
		_ = forward.Close()
		_ = srv.Close() // and its listener
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) }) // until it is closed
	for {
		conn, err := forward.Accept()
		if err != nil {
			break
		}
		wg.Go(func() { tunnelTo(ctx, conn, ln.Addr().String()) })
	}
	wg.Wait()
}

// tunnelTo serves a client of the forward proxy: whatever host it asks for, it
// is led to addr.
func tunnelTo(ctx context.Context, conn net.Conn, addr string) {
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil || req.Method != http.MethodConnect {
		_ = conn.Close()
		return
	}
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	}
	if err != nil {
		_ = conn.Close()
		return
	}
	join(ctx, conn, server)
}

// handle passes a request on with a valid cert, getting one if that is due.
func (p *kubeProxy) handle(w http.ResponseWriter, r *http.Request) {
	if r.TLS.ServerName != p.serverName() {
		http.Error(w, "no client cert found for "+r.TLS.ServerName, http.StatusNotFound)
		return
	}
	tr, s, err := p.transport(r.Context())
	if err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": err.Error()}}) // or the client left
		return
	}
	defer tr.CloseIdleConnections()
	rp := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "https", s.profile.WebProxyAddr
		},
		Transport: tr, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	rp.ServeHTTP(w, r)
}

// transport returns a way to the cluster. The home is looked at only when a
// new cert is due: in between another program may be writing there.
func (p *kubeProxy) transport(ctx context.Context) (*http.Transport, *session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.pair.notAfter) {
		if err := p.renew(ctx); err != nil {
			return nil, nil, err
		}
	}
	s := p.session
	cert, err := tls.X509KeyPair(p.pair.cert, p.pair.key)
	if err != nil {
		return nil, nil, err
	}
	return &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: s.clusterCAs(s.root()),
		ServerName: constants.KubeTeleportProxyALPNPrefix + s.profile.Name(), MinVersion: tls.VersionTLS12,
	}}, s, nil
}

// renew gets a new cert with the session that the home has by now.
func (p *kubeProxy) renew(ctx context.Context) error {
	s, err := p.t.load()
	if err != nil {
		return err
	}
	if !s.valid() {
		if s, err = p.t.relogin(ctx, s); err != nil {
			return err
		}
	}
	pair, err := p.t.kubeCert(ctx, s, p.cluster, p.kube)
	if err != nil {
		return err
	}
	p.session, p.pair = s, pair
	return nil
}

// localCA is a throw-away cert that is CA, server and client in one.
type localCA struct {
	certPEM, keyPEM []byte
	pair            tls.Certificate
}

func newLocalCA(name string) (*localCA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "localhost", Organization: []string{"Teleport"}},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour), DNSNames: []string{name},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &localCA{
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pair:    tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}, nil
}

func (ca *localCA) serverConfig() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.certPEM)
	return &tls.Config{
		Certificates: []tls.Certificate{ca.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS12,
	}
}

// parseLeaf returns the leaf of a pair.
func parseLeaf(pair tls.Certificate) (*x509.Certificate, error) {
	return x509.ParseCertificate(pair.Certificate[0])
}
