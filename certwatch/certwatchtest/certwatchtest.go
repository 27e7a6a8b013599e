// Package certwatchtest issues logins for tests: keys and certificates with
// Teleport's attributes, signed by a throwaway CA, ready to be written into a
// TELEPORT_HOME with package tshhome.
package certwatchtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"berth/certwatch"
	"berth/internal/tshhome"
)

// ProxyAddr is the proxy that logins are for, unless they say otherwise, and
// ProfileName the name of its profile.
const (
	ProxyAddr   = "proxy.test:443"
	ProfileName = "proxy.test"
)

// CA signs the certificates of one cluster.
type CA struct {
	Cluster string
	PEM     []byte // the CA's certificate

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ssh  ssh.Signer
}

// NewCA makes the CA of a cluster.
func NewCA(t testing.TB, cluster string) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cluster, Organization: []string{cluster}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return &CA{Cluster: cluster, PEM: encode("CERTIFICATE", der), cert: cert, key: key, ssh: signer}
}

// Login says what to issue. Its zero value is a good session of user "alice"
// in the v17 layout.
type Login struct {
	Layout   tshhome.Layout
	Identity certwatch.Identity // no User means "alice"
	Cluster  string             // the selected cluster; empty means the CA's own
	Proxy    string             // empty means ProxyAddr

	// The certificates' bounds. Zero means a minute ago, and in an hour.
	NotBefore, NotAfter time.Time
	SSHNotAfter         time.Time // zero means NotAfter

	TLSKey, SSHKey crypto.Signer // nil means a new key; v16 has no SSHKey
	NoSSH          bool          // no SSH certificate
}

// Issue issues what l says and returns it as the files' contents.
func (ca *CA) Issue(t testing.TB, l Login) (tshhome.Profile, tshhome.Credentials) {
	t.Helper()
	l = ca.complete(t, l)
	c := tshhome.Credentials{
		CAs:        map[string][]byte{ca.Cluster: ca.PEM},
		KnownHosts: []byte("@cert-authority proxy.test ssh-rsa AAAA\n"),
		Cert:       ca.x509(t, l),
		SSHCerts:   map[string][]byte{},
	}
	must(t, c.SetKeys(l.Layout, l.TLSKey, l.SSHKey))
	if !l.NoSSH {
		c.SSHCerts[l.Cluster] = ca.sshCert(t, l, c.SSHPub)
	}
	return tshhome.Profile{
		WebProxyAddr: l.Proxy, SSHProxyAddr: l.Proxy, KubeProxyAddr: l.Proxy,
		User: l.Identity.User, Cluster: l.Cluster,
		TLSRoutingEnabled: true, AuthConnector: "local", MFAMode: "auto", PrivateKeyPolicy: "none",
	}, c
}

// complete fills in l's zero fields.
func (ca *CA) complete(t testing.TB, l Login) Login {
	t.Helper()
	setDefault(&l.Layout, tshhome.V17)
	setDefault(&l.Identity.User, "alice")
	setDefault(&l.Identity.TeleportCluster, ca.Cluster)
	setDefault(&l.Cluster, ca.Cluster)
	setDefault(&l.Identity.RouteToCluster, l.Cluster)
	setDefault(&l.Proxy, ProxyAddr)
	setDefault(&l.NotBefore, time.Now().Add(-time.Minute))
	setDefault(&l.NotAfter, time.Now().Add(time.Hour))
	setDefault(&l.SSHNotAfter, l.NotAfter)
	tlsKey, sshKey := Keys(t)
	if l.TLSKey == nil {
		l.TLSKey = tlsKey
	}
	if l.SSHKey == nil {
		l.SSHKey = sshKey
	}
	return l
}

// Keys makes a pair of keys as v17's tsh does.
func Keys(t testing.TB) (tlsKey, sshKey crypto.Signer) {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return ec, ed
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (ca *CA) x509(t testing.TB, l Login) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: l.Identity.Subject(),
		NotBefore: l.NotBefore, NotAfter: l.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, l.TLSKey.Public(), ca.key)
	must(t, err)
	return encode("CERTIFICATE", der)
}

func (ca *CA) sshCert(t testing.TB, l Login, pub []byte) []byte {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey(pub)
	must(t, err)
	roles, err := json.Marshal(map[string]any{"version": "v1", "roles": l.Identity.Roles})
	must(t, err)
	requests, err := json.Marshal(map[string]any{"access_requests": l.Identity.ActiveRequests})
	must(t, err)
	cert := &ssh.Certificate{
		Key: key, CertType: ssh.UserCert, KeyId: l.Identity.User, ValidPrincipals: l.Identity.Logins,
		ValidAfter: uint64(l.NotBefore.Unix()), ValidBefore: uint64(l.SSHNotAfter.Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{
			"teleport-roles":            string(roles),
			"teleport-active-requests":  string(requests),
			"teleport-route-to-cluster": l.Cluster,
			"private-key-policy":        "none",
			"login-ip":                  "127.0.0.1",
			"permit-pty":                "",
		}},
	}
	must(t, cert.SignCert(rand.Reader, ca.ssh))
	return ssh.MarshalAuthorizedKey(cert)
}

// RSAKey makes an RSA key as v16's tsh does.
func RSAKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
