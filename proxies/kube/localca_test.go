package kube

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

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
		t.Error("a cert near its end is not replaced")
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
