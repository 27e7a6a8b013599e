package kube

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync"
	"time"
)

const (
	// caLife is how long a local CA and its client's cert last: they are in
	// kubeconfigs, which should not change while they are in use.
	caLife = 10 * 365 * 24 * time.Hour
	// caRenew is how long before its end a local CA is replaced.
	caRenew = 60 * 24 * time.Hour
	// serverLife and serverRenew are the same for the cert of listeners that is
	// made when needed, since the CA's key is at hand.
	serverLife  = 90 * 24 * time.Hour
	serverRenew = 30 * 24 * time.Hour
	// keptLife and keptRenew are the same for the cert of listeners that is
	// stored, since the CA's key is in a Vault: a keychain may be locked for
	// half a year without harm.
	keptLife  = 365 * 24 * time.Hour
	keptRenew = 183 * 24 * time.Hour
	// backdate forgives clocks that were set back since.
	backdate = 24 * time.Hour
)

// LocalCA is this machine's own authority for the listeners: clients trust it
// to know a listener by, and it signed the one cert that listeners admit. It
// is good for loopback addresses and names under Domain alone.
type LocalCA struct {
	ca        *x509.Certificate
	caKey     crypto.Signer // nil: it is in a Vault, and server is set
	caPEM     []byte
	client    *x509.Certificate
	clientPEM []byte
	keyPEM    []byte // the client's

	mu     sync.Mutex // guards server
	server *tls.Certificate
}

// CAPEM is the CA's cert.
func (l *LocalCA) CAPEM() []byte { return bytes.Clone(l.caPEM) }

// ClientPEM is the cert and the key of the clients that are admitted.
func (l *LocalCA) ClientPEM() (cert, key []byte) {
	return bytes.Clone(l.clientPEM), bytes.Clone(l.keyPEM)
}

func newLocalCA(now time.Time) (*LocalCA, error) {
	l := &LocalCA{}
	caKey, err := newKey()
	if err != nil {
		return nil, err
	}
	l.caKey = caKey
	tmpl := template("berth local CA", now, caLife)
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.MaxPathLenZero = true, true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign
	// If the CA's key leaks, it still cannot sign for any other host.
	tmpl.PermittedDNSDomainsCritical = true
	tmpl.PermittedDNSDomains = []string{Domain, "localhost"}
	tmpl.PermittedIPRanges = []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
	if l.ca, l.caPEM, err = sign(tmpl, tmpl, caKey.Public(), caKey); err != nil {
		return nil, err
	}
	clientKey, err := newKey()
	if err != nil {
		return nil, err
	}
	if l.keyPEM, err = encodeKey(clientKey); err != nil {
		return nil, err
	}
	tmpl = template("berth client", now, caLife)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	l.client, l.clientPEM, err = sign(tmpl, l.ca, clientKey.Public(), caKey)
	return l, err
}

// keyInFile reports whether the CA's key is with its cert, and not in a Vault.
func (l *LocalCA) keyInFile() bool { return l.caKey != nil }

// ServesUntil is when the listeners' cert ends, if it is not renewed.
func (l *LocalCA) ServesUntil() time.Time {
	if l.keyInFile() {
		return l.ca.NotAfter // it is renewed as long as the CA lasts
	}
	return l.server.Leaf.NotAfter
}

// with is the same CA with a listeners' cert.
func (l *LocalCA) with(server *tls.Certificate) *LocalCA {
	return &LocalCA{
		ca: l.ca, caKey: l.caKey, caPEM: l.caPEM, client: l.client, clientPEM: l.clientPEM, keyPEM: l.keyPEM, server: server,
	}
}

// serverCert is the cert of every listener. With the CA's key at hand it is made
// at the first connection, and again in time before it expires.
func (l *LocalCA) serverCert() (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil && (!l.keyInFile() || time.Until(l.server.Leaf.NotAfter) > serverRenew) {
		return l.server, nil
	}
	server, err := l.signServer(l.caKey, serverLife)
	if err != nil {
		return nil, err
	}
	l.server = server
	return server, nil
}

// signServer makes a cert for listeners with the CA's key.
func (l *LocalCA) signServer(caKey crypto.Signer, life time.Duration) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	tmpl := template("berth", time.Now(), life)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	tmpl.DNSNames = []string{"*." + Domain, Domain, "localhost"}
	tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	leaf, _, err := sign(tmpl, l.ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// ServerCert is the cert of everything that listens here. It names the loopback
// addresses and localhost.
func (l *LocalCA) ServerCert() (*tls.Certificate, error) { return l.serverCert() }

// ValidUntil is when the CA itself ends.
func (l *LocalCA) ValidUntil() time.Time { return l.ca.NotAfter }

// serverTLS is for a listener that admits this CA's one client, whatever server
// name it asks for: what is wrong with a name is said in an answer, which people
// can read, unlike a TLS alert.
func (l *LocalCA) serverTLS() *tls.Config {
	clients := x509.NewCertPool()
	clients.AddCert(l.ca)
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  clients,
		NextProtos: []string{"h2", "http/1.1"},
		VerifyConnection: func(cs tls.ConnectionState) error {
			// The CA signs its listeners' certs as well, and those of a
			// former client: exactly one is admitted.
			if len(cs.PeerCertificates) == 0 || !cs.PeerCertificates[0].Equal(l.client) {
				return errNotAdmitted
			}
			return nil
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.serverCert() },
	}
}

var errNotAdmitted = errors.New("the client shows a cert that berth did not give out")

// Kinds of PEM blocks.
const (
	typeCert = "CERTIFICATE"
	typeKey  = "PRIVATE KEY"
)

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: der}), nil
}

func template(name string, now time.Time, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // rand.Reader never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"berth"}, CommonName: name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, []byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: typeCert, Bytes: der}), nil
}
