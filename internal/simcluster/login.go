package simcluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"berth/certwatch"
	"berth/internal/tshhome"
)

// KeyKind is a kind of private key.
type KeyKind string

// The kinds of keys a login may make.
const (
	ECDSA   KeyKind = "ecdsa"
	Ed25519 KeyKind = "ed25519"
	RSA     KeyKind = "rsa" // what a real v16 makes; slow to generate
)

// LoginOption changes what Cluster.Login does.
type LoginOption func(*login)

type login struct {
	ttl      time.Duration
	home     tshhome.Home
	key      KeyKind
	cluster  string
	requests []string
	profile  func(*tshhome.Profile)
}

// WithTTL asks for a session of that length; it is clipped as a real one is.
// A negative one leaves a home whose session ended that long ago.
func WithTTL(ttl time.Duration) LoginOption { return func(l *login) { l.ttl = ttl } }

// WithLayout chooses the home's layout; else it is that of the cluster's
// version.
func WithLayout(layout tshhome.Layout) LoginOption {
	return func(l *login) { l.home.Layout = layout }
}

// WithKey chooses the kind of the user's key; else it is ECDSA, for speed.
func WithKey(k KeyKind) LoginOption { return func(l *login) { l.key = k } }

// WithLeaf selects a leaf cluster, as "tsh login LEAF" does.
func WithLeaf(name string) LoginOption { return func(l *login) { l.cluster = name } }

// WithRequests assumes approved access requests.
func WithRequests(ids ...string) LoginOption { return func(l *login) { l.requests = ids } }

// WithProfile changes the profile's yaml before it is written.
func WithProfile(change func(*tshhome.Profile)) LoginOption {
	return func(l *login) { l.profile = change }
}

// Login leaves in home what a "tsh login" of that user leaves there. No
// password is asked for.
func (c *Cluster) Login(home, user string, opts ...LoginOption) error {
	u, ok := c.user(user)
	if !ok {
		return fmt.Errorf("log in to %s as %q: %w", c.cfg.Name, user, errBadLogin)
	}
	l := login{key: ECDSA, cluster: c.cfg.Name}
	for _, opt := range opts {
		opt(&l)
	}
	l.home.Dir = home
	if l.home.Layout == 0 {
		l.home.Layout = c.Layout()
	}
	profile := c.Profile(user, l.cluster)
	if l.profile != nil {
		l.profile(&profile)
	}
	creds, err := c.credentials(u, l)
	if err != nil {
		return fmt.Errorf("log in to %s as %q: %w", c.cfg.Name, user, err)
	}
	return l.home.Login(profile, creds)
}

// Layout returns the layout that tsh of the cluster's version writes.
func (c *Cluster) Layout() tshhome.Layout {
	if strings.HasPrefix(c.cfg.Version, "16.") {
		return tshhome.V16
	}
	return tshhome.V17
}

// Profile returns the profile yaml of a user with a cluster selected.
func (c *Cluster) Profile(user, clusterName string) tshhome.Profile {
	addr := c.ProxyAddr()
	return tshhome.Profile{
		WebProxyAddr:        addr,
		SSHProxyAddr:        addr,
		KubeProxyAddr:       addr,
		PostgresProxyAddr:   addr,
		MySQLProxyAddr:      addr,
		User:                user,
		Cluster:             clusterName,
		TLSRoutingEnabled:   true,
		ConnUpgradeRequired: c.balanced.Load(),
		AuthConnector:       "local",
		MFAMode:             "auto",
		PrivateKeyPolicy:    ProfilePolicy(c.cfg.PrivateKeyPolicy),
	}
}

// ProfilePolicy returns how a profile names a cluster's private key policy:
// "none", as the cluster and its certs call the default, is left empty.
func ProfilePolicy(policy string) string {
	if policy == "none" {
		return ""
	}
	return policy
}

func (c *Cluster) credentials(u User, l login) (tshhome.Credentials, error) {
	tlsKey, err := NewKey(l.key)
	if err != nil {
		return tshhome.Credentials{}, err
	}
	sshKey := tlsKey
	if l.home.Layout == tshhome.V17 {
		if sshKey, err = NewKey(Ed25519); err != nil {
			return tshhome.Credentials{}, err
		}
	}
	sshPub, err := ssh.NewPublicKey(sshKey.Public())
	if err != nil {
		return tshhome.Credentials{}, err
	}
	certs, err := c.issueLogin(u, l, tlsKey.Public(), sshPub)
	if err != nil {
		return tshhome.Credentials{}, err
	}
	creds := NewCredentials(LoginResponse{
		Username: u.Name, Cert: certs.ssh, TLSCert: certs.tls, HostSigners: c.hostSigners(),
	}, c.cfg.Name)
	if l.cluster != c.cfg.Name {
		creds.SSHCerts[l.cluster] = certs.ssh
	}
	return creds, creds.SetKeys(l.home.Layout, tlsKey, sshKey)
}

// issueLogin is login with the things only tests ask for.
func (c *Cluster) issueLogin(u User, l login, tlsKey crypto.PublicKey, sshKey ssh.PublicKey) (issued, error) {
	if c.site(l.cluster) == nil {
		return issued{}, fmt.Errorf("cluster %q is not found", l.cluster)
	}
	id := c.loginIdentity(u)
	id.RouteToCluster = l.cluster
	if _, err := c.requests.assume(&id, l.requests, nil); err != nil {
		return issued{}, err
	}
	o := order{identity: id, tls: tlsKey, ssh: sshKey}
	if l.ttl < 0 { // a whole session that is over
		o.notAfter = c.now().Add(l.ttl)
		o.issued = o.notAfter.Add(-c.sessionTTL(u, 0))
	} else {
		o.notAfter = c.now().Add(c.sessionTTL(u, l.ttl))
	}
	certs, err := c.issue(o)
	if err == nil {
		c.counters.logins.Add(1)
	}
	return certs, err
}

// NewCredentials returns the files of a login, all but the keys: see SetKeys.
// root is the cluster that was logged in to.
func NewCredentials(resp LoginResponse, root string) tshhome.Credentials {
	creds := tshhome.Credentials{
		Cert:     resp.TLSCert,
		SSHCerts: map[string][]byte{root: resp.Cert},
		CAs:      make(map[string][]byte),
	}
	for _, signer := range resp.HostSigners {
		for _, ca := range signer.TLSCerts {
			creds.CAs[signer.ClusterName] = append(creds.CAs[signer.ClusterName], ca...)
		}
		for _, line := range signer.CheckingKeys {
			creds.KnownHosts = append(append(creds.KnownHosts, line...), '\n')
		}
	}
	return creds
}

// NewKey makes a private key.
func NewKey(kind KeyKind) (crypto.Signer, error) {
	switch kind {
	case RSA:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return nil, fmt.Errorf("unknown kind of key %q", kind)
	}
}

// Identity returns the identity a login of the user gets, for tests to compare
// with; ok is false if there is no such user.
func (c *Cluster) Identity(user string) (id certwatch.Identity, ok bool) {
	u, ok := c.user(user)
	if !ok {
		return certwatch.Identity{}, false
	}
	return c.loginIdentity(u), true
}
