package simcluster

import (
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"berth/certwatch"
)

// joinPrincipal is in every user cert that Teleport issues.
const joinPrincipal = "-teleport-internal-join"

// order lists the keys to certify: keys that are nil get no cert.
type order struct {
	identity certwatch.Identity
	notAfter time.Time
	tls      crypto.PublicKey
	ssh      ssh.PublicKey
	issued   time.Time // zero means now
}

// issued are the certs of one order.
type issued struct {
	tls      []byte // PEM
	ssh      []byte // authorized_keys form
	notAfter time.Time
}

// issue signs the certs of an order with the root's user CA.
func (c *Cluster) issue(o order) (issued, error) {
	out := issued{notAfter: o.notAfter.Truncate(time.Second)}
	now := o.issued
	if now.IsZero() {
		now = c.now()
	}
	if o.tls != nil {
		der, err := c.root.trust.Load().userCA.signClient(o.tls, o.identity.Subject(), now, out.notAfter)
		if err != nil {
			return issued{}, err
		}
		out.tls = certPEM(der)
	}
	if o.ssh != nil {
		cert, err := c.root.trust.Load().userCA.signSSH(o.ssh, o.identity, now, out.notAfter)
		if err != nil {
			return issued{}, err
		}
		out.ssh = ssh.MarshalAuthorizedKey(cert)
	}
	return out, nil
}

// signSSH issues an SSH user cert with Teleport's extensions.
func (ca *authority) signSSH(pub ssh.PublicKey, id certwatch.Identity, now, notAfter time.Time) (*ssh.Certificate, error) {
	ext, err := sshExtensions(id)
	if err != nil {
		return nil, fmt.Errorf("encode SSH extensions for %q: %w", id.User, err)
	}
	cert := &ssh.Certificate{
		Key:             pub,
		Serial:          uint64(ca.serial.Add(1)),
		CertType:        ssh.UserCert,
		KeyId:           id.User,
		ValidPrincipals: id.Logins,
		ValidAfter:      uint64(now.Add(-backdate).Unix()),
		ValidBefore:     uint64(notAfter.Unix()),
		Permissions:     ssh.Permissions{Extensions: ext},
	}
	if err := cert.SignCert(rand.Reader, ca.signer); err != nil {
		return nil, fmt.Errorf("sign SSH cert for %q: %w", id.User, err)
	}
	return cert, nil
}

func sshExtensions(id certwatch.Identity) (map[string]string, error) {
	roles, err := json.Marshal(map[string]any{"version": "v1", "roles": id.Roles})
	if err != nil {
		return nil, err
	}
	traits, err := json.Marshal(id.Traits)
	if err != nil {
		return nil, err
	}
	ext := map[string]string{
		"permit-agent-forwarding": "",
		"permit-port-forwarding":  "",
		"permit-pty":              "",
		"teleport-roles":          string(roles),
		"teleport-traits":         string(traits),
		"private-key-policy":      id.PrivateKeyPolicy,
		"login-ip":                id.LoginIP,
	}
	if id.RouteToCluster != "" {
		ext["teleport-route-to-cluster"] = id.RouteToCluster
	}
	if id.MFADeviceID != "" {
		ext["mfa-verified"] = id.MFADeviceID
	}
	if len(id.ActiveRequests) > 0 {
		ids, err := json.Marshal(map[string][]string{"access_requests": id.ActiveRequests})
		if err != nil {
			return nil, err
		}
		ext["teleport-active-requests"] = string(ids)
	}
	return ext, nil
}

// errBadLogin is all a client learns about a login that did not succeed.
var errBadLogin = errors.New("invalid username or password")

// loginIdentity returns the identity of a fresh login.
func (c *Cluster) loginIdentity(u User) certwatch.Identity {
	id := certwatch.Identity{
		User:             u.Name,
		Roles:            slices.Clone(u.Roles),
		Logins:           append(slices.Clone(u.Logins), joinPrincipal),
		RouteToCluster:   c.cfg.Name,
		TeleportCluster:  c.cfg.Name,
		Traits:           map[string][]string{"logins": u.Logins},
		PrivateKeyPolicy: c.cfg.PrivateKeyPolicy,
		LoginIP:          "127.0.0.1",
	}
	c.grants(&id)
	return id
}

// sessionTTL clips the wanted length of a session to what the roles allow.
func (c *Cluster) sessionTTL(u User, want time.Duration) time.Duration {
	limit := c.cfg.SessionTTL
	for _, r := range c.userRoles(u.Roles) {
		if r.MaxSessionTTL > 0 {
			limit = min(limit, r.MaxSessionTTL)
		}
	}
	if want <= 0 {
		return limit
	}
	return min(want, limit)
}

// login issues the certs of a new session.
func (c *Cluster) login(u User, ttl time.Duration, tlsKey crypto.PublicKey, sshKey ssh.PublicKey) (issued, error) {
	certs, err := c.issue(order{
		identity: c.loginIdentity(u),
		notAfter: c.now().Add(c.sessionTTL(u, ttl)),
		tls:      tlsKey,
		ssh:      sshKey,
	})
	if err != nil {
		return issued{}, err
	}
	c.counters.logins.Add(1)
	return certs, nil
}

// knownHosts returns the known_hosts line of a cluster's host CA.
func (s *Site) knownHosts() string {
	hosts := []string{s.c.cfg.ProxyHost, s.name, "*." + s.name}
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.trust.Load().hostCA.signer.PublicKey())))
	return "@cert-authority " + strings.Join(hosts, ",") + " " + key + " type=host"
}

// publicKeyOf returns the plain key inside an SSH public key.
func publicKeyOf(key ssh.PublicKey) (crypto.PublicKey, error) {
	ck, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fmt.Errorf("unsupported public key type %q", key.Type())
	}
	return ck.CryptoPublicKey(), nil
}

// parseAuthorizedKey parses a public key in authorized_keys form. Its error is
// worded as x/crypto's, which clients look for.
func parseAuthorizedKey(b []byte) (ssh.PublicKey, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(b)
	return key, err
}
