package kube

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth/internal/atomicfile"
)

// CAStore keeps a local CA across restarts. Listeners and kubeconfigs need only
// what is in the file; the CA's own key is needed when it signs something.
type CAStore struct {
	// File has the certs and the keys that are needed at any time.
	File KeyStore
	// Vault has the key of a CA whose key it took when that was made. That of
	// others is in File. nil means that there is none.
	Vault Vault
}

// KeyStore keeps one secret.
type KeyStore interface {
	// Load returns what was saved last; fs.ErrNotExist when nothing was.
	Load() ([]byte, error)
	Save(data []byte) error
}

// Vault keeps the keys of CAs out of files. It may be locked for as long as it
// likes, but each call must come to an end.
type Vault interface {
	// Get returns the named CA's key; fs.ErrNotExist when it no longer exists.
	// After any other error a later call may find it.
	Get(ctx context.Context, ca string) ([]byte, error)
	Set(ctx context.Context, ca string, key []byte) error
	Delete(ctx context.Context, ca string) error
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

// Open returns the stored CA, without a Vault. The error is fs.ErrNotExist when
// nothing usable is stored, or the CA has expired: Make makes another. After any
// other error the CA may be readable later, and must not be replaced.
func (s CAStore) Open() (*LocalCA, error) {
	data, err := s.File.Load()
	if err != nil {
		return nil, err
	}
	ca, err := parseLocalCA(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if !time.Now().Before(ca.ca.NotAfter) {
		return nil, fmt.Errorf("%w: the local CA ended on %s", fs.ErrNotExist, ca.ca.NotAfter.Format(time.DateOnly))
	}
	return ca, nil
}

// Make makes a CA and keeps it. Its key goes into the Vault if that takes it
// now, else into the file, for good.
func (s CAStore) Make(ctx context.Context) (*LocalCA, error) {
	ca, err := s.makeInVault(ctx)
	if err != nil {
		ca, err = s.makeInFile()
	}
	return ca, err
}

// Renew returns the CA with a new listeners' cert if that expires soon, or
// another CA if the CA itself does or the Vault has lost its key: kubeconfigs
// must then be rewritten. After an error ca is still good; call Renew again.
func (s CAStore) Renew(ctx context.Context, ca *LocalCA) (*LocalCA, error) {
	now := time.Now()
	switch {
	case ca.keyInFile() && ca.ca.NotAfter.Sub(now) > caRenew:
		return ca, nil // its listeners' cert is made at a connection
	case ca.keyInFile():
		return s.makeInFile()
	case ca.ca.NotAfter.Sub(now) <= caRenew && now.Before(ca.ca.NotAfter):
		return s.replace(ctx, ca, s.makeInVault)
	case ca.ca.NotAfter.Sub(now) <= caRenew:
		return s.replace(ctx, ca, s.Make) // it has expired: another one even without the Vault
	case ca.ServesUntil().Sub(now) > keptRenew:
		return ca, nil
	}
	key, err := s.keyOf(ctx, ca)
	if errors.Is(err, fs.ErrNotExist) {
		return s.replace(ctx, ca, s.Make)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the local CA: %w", err)
	}
	server, err := ca.signServer(key, keptLife)
	if err != nil {
		return nil, err
	}
	renewed := ca.with(server)
	if err := s.save(renewed); err != nil {
		return nil, err
	}
	return renewed, nil
}

// replace makes another CA, and has the Vault forget the key of the former.
func (s CAStore) replace(
	ctx context.Context, old *LocalCA, another func(context.Context) (*LocalCA, error),
) (*LocalCA, error) {
	ca, err := another(ctx)
	if err != nil {
		return nil, err
	}
	if s.Vault != nil {
		_ = s.Vault.Delete(ctx, old.id()) // the key of an unused CA does no harm
	}
	return ca, nil
}

var errNoVault = errors.New("there is no vault")

func (s CAStore) makeInVault(ctx context.Context) (*LocalCA, error) {
	if s.Vault == nil {
		return nil, errNoVault
	}
	ca, err := newLocalCA(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a local CA: %w", err)
	}
	server, err := ca.signServer(ca.caKey, keptLife)
	if err != nil {
		return nil, fmt.Errorf("make a local CA: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(ca.caKey)
	if err != nil {
		return nil, fmt.Errorf("make a local CA: %w", err)
	}
	if err := s.Vault.Set(ctx, ca.id(), key); err != nil {
		return nil, fmt.Errorf("keep the key of the local CA: %w", err)
	}
	ca = ca.with(server)
	ca.caKey = nil
	if err := s.save(ca); err != nil {
		_ = s.Vault.Delete(ctx, ca.id()) // the file's error matters more
		return nil, err
	}
	return ca, nil
}

func (s CAStore) makeInFile() (*LocalCA, error) {
	ca, err := newLocalCA(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a local CA: %w", err)
	}
	return ca, s.save(ca)
}

func (s CAStore) save(ca *LocalCA) error {
	data, err := ca.marshal()
	if err != nil {
		return fmt.Errorf("save the local CA: %w", err)
	}
	return s.File.Save(data)
}

// keyOf asks the Vault for the key of ca. Any other key counts as none.
func (s CAStore) keyOf(ctx context.Context, ca *LocalCA) (crypto.Signer, error) {
	if s.Vault == nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, errNoVault)
	}
	der, err := s.Vault.Get(ctx, ca.id())
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !samePublic(signer.Public(), ca.ca.PublicKey) {
		return nil, fmt.Errorf("%w: it is another key", fs.ErrNotExist)
	}
	return signer, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// id names the CA in the Vault.
func (l *LocalCA) id() string {
	sum := sha256.Sum256(l.ca.Raw)
	return hex.EncodeToString(sum[:16])
}

// marshal is what is kept in the file: the CA, the client's cert and key, and
// either the CA's key, in second place, or the listeners' cert and key, in last.
func (l *LocalCA) marshal() ([]byte, error) {
	parts := [][]byte{l.caPEM}
	if l.keyInFile() {
		key, err := encodeKey(l.caKey)
		if err != nil {
			return nil, err
		}
		return bytes.Join(append(parts, key, l.clientPEM, l.keyPEM), nil), nil
	}
	signer, ok := l.server.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errNotLocalCA
	}
	key, err := encodeKey(signer)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: typeCert, Bytes: l.server.Leaf.Raw})
	return bytes.Join(append(parts, l.clientPEM, l.keyPEM, cert, key), nil), nil
}

var errNotLocalCA = errors.New("this is not a local CA and its client")

func parseLocalCA(data []byte) (*LocalCA, error) {
	var blocks [][]byte
	var types []string
	for len(blocks) < 5 {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		blocks, types = append(blocks, pem.EncodeToMemory(b)), append(types, b.Type)
	}
	switch {
	case len(blocks) >= 4 && types[1] == typeKey:
		return parseWithKey(blocks[0], blocks[1], blocks[2], blocks[3])
	case len(blocks) == 5:
		return parseWithServer(blocks[0], blocks[1], blocks[2], blocks[3], blocks[4])
	default:
		return nil, errNotLocalCA
	}
}

// parseWithKey parses a CA whose key is in the file.
func parseWithKey(caPEM, caKeyPEM, clientPEM, keyPEM []byte) (*LocalCA, error) {
	ca, err := tls.X509KeyPair(caPEM, caKeyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLocalCA, err)
	}
	l, err := parseParts(ca.Leaf, caPEM, clientPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	var ok bool
	if l.caKey, ok = ca.PrivateKey.(crypto.Signer); !ok {
		return nil, errNotLocalCA
	}
	return l, nil
}

// parseWithServer parses a CA whose key is in a Vault.
func parseWithServer(caPEM, clientPEM, keyPEM, serverPEM, serverKeyPEM []byte) (*LocalCA, error) {
	block, _ := pem.Decode(caPEM)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLocalCA, err)
	}
	l, err := parseParts(ca, caPEM, clientPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	server, err := tls.X509KeyPair(serverPEM, serverKeyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLocalCA, err)
	}
	if server.Leaf.CheckSignatureFrom(ca) != nil {
		return nil, errNotLocalCA
	}
	l.server = &server
	return l, nil
}

func parseParts(ca *x509.Certificate, caPEM, clientPEM, keyPEM []byte) (*LocalCA, error) {
	client, err := tls.X509KeyPair(clientPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLocalCA, err)
	}
	if !ca.IsCA || client.Leaf.CheckSignatureFrom(ca) != nil {
		return nil, errNotLocalCA
	}
	return &LocalCA{ca: ca, caPEM: caPEM, client: client.Leaf, clientPEM: clientPEM, keyPEM: keyPEM}, nil
}
