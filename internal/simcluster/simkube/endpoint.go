package simkube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"time"
)

// Endpoint is a stand-in that listens by itself, for clients that are to meet
// it directly.
type Endpoint struct {
	*Server

	// URL is where it is served, such as https://127.0.0.1:31234.
	URL string
	// CAPEM is the certificate that clients verify it with.
	CAPEM []byte
	// Token is what clients authenticate with.
	Token string

	srv  *http.Server
	done chan struct{}
}

// Start starts a stand-in on a free port of 127.0.0.1. It runs until it is
// closed.
func Start(cfg Config) (*Endpoint, error) {
	cert, certPEM, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("start Kubernetes stand-in: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a listener on loopback never waits
	if err != nil {
		return nil, fmt.Errorf("start Kubernetes stand-in: %w", err)
	}
	e := &Endpoint{
		Server: New(cfg), URL: "https://" + ln.Addr().String(), CAPEM: certPEM, Token: rand.Text(), done: make(chan struct{}),
	}
	e.srv = &http.Server{
		Handler:           http.HandlerFunc(e.authenticated),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(e.cfg.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(e.done)
		_ = e.srv.ServeTLS(ln, "", "") // returns when closed; there is nothing else it could tell
	}()
	return e, nil
}

// Close stops listening and ends all that is open.
func (e *Endpoint) Close() error {
	err := e.srv.Close()
	e.CutStreams()
	<-e.done
	return err
}

// authenticated admits those who have the token.
func (e *Endpoint) authenticated(w http.ResponseWriter, r *http.Request) {
	want := "Bearer " + e.Token
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
		WriteStatus(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	e.ServeHTTP(w, r)
}

// Kubeconfig returns a kubeconfig for the endpoint, with a context of each
// name, or "sim" alone. The first is the current one.
func (e *Endpoint) Kubeconfig(contexts ...string) []byte {
	if len(contexts) == 0 {
		contexts = []string{"sim"}
	}
	text := fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: %s
clusters:
- name: sim
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: sim
  user:
    token: %s
contexts:
`, contexts[0], e.URL, base64.StdEncoding.EncodeToString(e.CAPEM), e.Token)
	for _, name := range contexts {
		text = fmt.Appendf(text, "- name: %s\n  context: {cluster: sim, user: sim, namespace: default}\n", name)
	}
	return text
}

// selfSigned makes a server cert for loopback that is its own CA.
func selfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "simkube"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certPEM, nil
}
