package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLocalCAIsKept(t *testing.T) {
	store := FileStore(filepath.Join(t.TempDir(), "state", "kube-ca.pem"))
	a, err := OpenLocalCA(store)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(string(store))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	b, err := OpenLocalCA(store)
	if err != nil {
		t.Fatal(err)
	}
	certA, keyA := a.ClientPEM()
	certB, keyB := b.ClientPEM()
	if !bytes.Equal(a.CAPEM(), b.CAPEM()) || !bytes.Equal(certA, certB) || !bytes.Equal(keyA, keyB) {
		t.Error("the second time it is another CA")
	}
}

func TestLocalCAIsMadeAnew(t *testing.T) {
	fresh, err := newLocalCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	old, err := newLocalCA(time.Now().Add(-caLife + caRenew - time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newLocalCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pemOf := func(l *LocalCA) []byte {
		data, err := l.marshal()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	mixed := &LocalCA{caPEM: fresh.caPEM, caKey: fresh.caKey, clientPEM: other.clientPEM, keyPEM: other.keyPEM}
	swapped := &LocalCA{caPEM: fresh.caPEM, caKey: fresh.caKey, clientPEM: fresh.clientPEM, keyPEM: other.keyPEM}
	tests := map[string]struct {
		kept []byte
		anew bool
	}{
		"good":          {pemOf(fresh), false},
		"near_its_end":  {pemOf(old), true},
		"nothing":       {nil, true},
		"empty":         {[]byte{}, true},
		"cut_short":     {pemOf(fresh)[:1500], true},
		"other_client":  {pemOf(mixed), true},
		"other_key":     {pemOf(swapped), true},
		"not_pem":       {[]byte("hello"), true},
		"client_is_ca":  {append(append([]byte{}, pemOf(fresh)[bytes.Index(pemOf(fresh), fresh.clientPEM):]...), pemOf(fresh)...), true},
		"trailing_junk": {append(pemOf(fresh), "junk"...), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			store := &memStore{data: tt.kept}
			ca, err := OpenLocalCA(store)
			if err != nil {
				t.Fatal(err)
			}
			if anew := store.saves == 1; anew != tt.anew {
				t.Errorf("made anew: %v, want %v", anew, tt.anew)
			}
			if again, err := OpenLocalCA(store); err != nil || !bytes.Equal(again.CAPEM(), ca.CAPEM()) {
				t.Errorf("what was kept is another: %v", err)
			}
		})
	}
	store := &memStore{data: pemOf(fresh), err: errors.New("keychain is locked")}
	if _, err := OpenLocalCA(store); err == nil || store.saves != 0 {
		t.Errorf("a CA that cannot be read now was replaced: %v", err)
	}
}

// TestLocalCASignsNothingElse checks the name constraints: who steals the CA's
// key cannot pose as another host to a client that trusts it.
func TestLocalCASignsNothingElse(t *testing.T) {
	ca, err := newLocalCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.ca)
	for name, want := range map[string]bool{ServerName("prod"): true, "localhost": true, "example.com": false, "internal": false} {
		tmpl := template("x", time.Now(), time.Hour)
		tmpl.DNSNames = []string{name}
		tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		cert, _, err := sign(tmpl, ca.ca, key.Public(), ca.caKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); (err == nil) != want {
			t.Errorf("a cert for %s verifies: %v, want %v", name, err, want)
		}
	}
	server, err := ca.serverCert()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ServerName("prod"), "localhost", "127.0.0.1", "::1"} {
		if _, err := server.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("the listener's cert for %s: %v", name, err)
		}
	}
	if again, _ := ca.serverCert(); again != server {
		t.Error("a cert for each connection")
	}
	ca.server = &tls.Certificate{Leaf: &x509.Certificate{NotAfter: time.Now().Add(serverRenew - time.Hour)}}
	if again, _ := ca.serverCert(); time.Until(again.Leaf.NotAfter) < serverRenew {
		t.Error("a cert near its end is not made anew")
	}
}

func TestServerName(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"prod", "PROD", "Prod", "a.b", "a_b", "a-", "x-prod", strings.Repeat("a", 50), strings.Repeat("a", 51), strings.Repeat("a", 64)} {
		got := ServerName(name)
		if other, ok := seen[strings.ToLower(got)]; ok {
			t.Errorf("%s and %s are both %s", name, other, got)
		}
		seen[strings.ToLower(got)] = name
		if first, _, _ := strings.Cut(got, "."); len(first) > 63 || !ours(got) {
			t.Errorf("ServerName(%s) = %s", name, got)
		}
	}
	if got := ServerName("prod-k8s"); got != "prod-k8s.kube.berth.internal" {
		t.Errorf("ServerName(prod-k8s) = %s", got)
	}
	for _, name := range []string{"", Domain, "." + Domain, "a.b." + Domain, "prod"} {
		if ours(name) {
			t.Errorf("%q is called ours", name)
		}
	}
}
