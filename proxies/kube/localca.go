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
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"berth/internal/atomicfile"
)

const (
	// caLife is how long a local CA and its client's cert last: they are in
	// kubeconfigs, which should not change for as long as anybody uses them.
	caLife = 10 * 365 * 24 * time.Hour
	// caRenew is how long before its end a local CA is made anew.
	caRenew = 60 * 24 * time.Hour
	// serverLife and serverRenew are the same for the listeners' cert, which
	// is never stored.
	serverLife  = 90 * 24 * time.Hour
	serverRenew = 30 * 24 * time.Hour
	// backdate forgives clocks that were set back since.
	backdate = 24 * time.Hour
)

// KeyStore keeps one secret across restarts: the local CA, its key and the
// client's.
type KeyStore interface {
	// Load returns what was saved last; fs.ErrNotExist when nothing was.
	Load() ([]byte, error)
	Save(data []byte) error
}

// FileStore is a KeyStore in the file of that path, which only its owner may
// read.
type FileStore string

// Load reads the file.
func (f FileStore) Load() ([]byte, error) {
	data, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("read the local CA: %w", err)
	}
	return data, nil
}

// Save replaces the file, making its folder if need be.
func (f FileStore) Save(data []byte) error {
	if err := os.MkdirAll(filepath.Dir(string(f)), 0o700); err != nil {
		return fmt.Errorf("save the local CA: %w", err)
	}
	return atomicfile.Write(string(f), data, 0o600)
}

// LocalCA is this machine's own authority for the listeners: clients trust it
// to know a listener by, and it signed the one cert that listeners admit. It
// is good for loopback addresses and names under Domain alone.
type LocalCA struct {
	ca        *x509.Certificate
	caKey     crypto.Signer
	caPEM     []byte
	client    *x509.Certificate
	clientPEM []byte
	keyPEM    []byte // the client's

	mu     sync.Mutex // guards server
	server *tls.Certificate
}

// OpenLocalCA returns the CA that store keeps. A new one is made, and kept,
// when there is none, when what is kept is not one, and near its end; every
// kubeconfig must then be written anew. An error of the store is returned: a CA
// that cannot be read now may be readable later, and is not to be replaced.
func OpenLocalCA(store KeyStore) (*LocalCA, error) {
	data, err := store.Load()
	switch {
	case err == nil:
		if ca, err := parseLocalCA(data); err == nil && time.Until(ca.ca.NotAfter) > caRenew {
			return ca, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	ca, err := newLocalCA(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a local CA: %w", err)
	}
	data, err = ca.marshal()
	if err != nil {
		return nil, fmt.Errorf("make a local CA: %w", err)
	}
	if err := store.Save(data); err != nil {
		return nil, err
	}
	return ca, nil
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

// marshal is what is kept: the CA and its key, the client's cert and key.
func (l *LocalCA) marshal() ([]byte, error) {
	key, err := encodeKey(l.caKey)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{l.caPEM, key, l.clientPEM, l.keyPEM}, nil), nil
}

var errNotLocalCA = errors.New("this is not a local CA and its client")

func parseLocalCA(data []byte) (*LocalCA, error) {
	var blocks [4]*pem.Block
	for i := range blocks {
		if blocks[i], data = pem.Decode(data); blocks[i] == nil {
			return nil, errNotLocalCA
		}
	}
	l := &LocalCA{caPEM: pem.EncodeToMemory(blocks[0]), clientPEM: pem.EncodeToMemory(blocks[2]), keyPEM: pem.EncodeToMemory(blocks[3])}
	ca, err := tls.X509KeyPair(l.caPEM, pem.EncodeToMemory(blocks[1]))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLocalCA, err)
	}
	client, err := tls.X509KeyPair(l.clientPEM, l.keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLocalCA, err)
	}
	signer, ok := ca.PrivateKey.(crypto.Signer)
	l.ca, l.caKey, l.client = ca.Leaf, signer, client.Leaf
	if !ok || !l.ca.IsCA || l.client.CheckSignatureFrom(l.ca) != nil {
		return nil, errNotLocalCA
	}
	return l, nil
}

// serverCert is the cert of every listener. It is made when first asked for,
// and again in time before its end.
func (l *LocalCA) serverCert() (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.server != nil && l.server.Leaf.NotAfter.Sub(now) > serverRenew {
		return l.server, nil
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	tmpl := template("berth", now, serverLife)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	tmpl.DNSNames = []string{"*." + Domain, Domain, "localhost"}
	tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	leaf, _, err := sign(tmpl, l.ca, key.Public(), l.caKey)
	if err != nil {
		return nil, err
	}
	l.server = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	return l.server, nil
}

// serverTLS is for a listener that admits this CA's one client, and the server
// names that known reports. Others are told that the name is unknown.
func (l *LocalCA) serverTLS(known func(name string) bool) *tls.Config {
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
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if !known(hello.ServerName) {
				return nil, nil //nolint:nilnil // makes crypto/tls send the alert "unrecognized name"
			}
			return l.serverCert()
		},
	}
}

var errNotAdmitted = errors.New("the client shows a cert that berth did not give out")

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
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
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
