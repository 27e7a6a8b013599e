package cluster

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"golang.org/x/crypto/ssh"

	"berth/certwatch"
)

// Reissue says which access requests a new pair of certs is to carry, beside
// those the session has.
type Reissue struct {
	Assume []string // ids to add
	Drop   []string // ids to leave out; "*" leaves out all
}

// SessionCerts are a session's reissued certs, for the same keys. They are to be
// installed into its home.
type SessionCerts struct {
	TLS        []byte // PEM
	SSH        []byte // in authorized_keys form, for the selected cluster
	Cluster    string // the selected cluster: the SSH cert is kept under its name
	ValidUntil time.Time
	Roles      []string
	Requests   []string // the active access requests
}

// Reissue asks for new certs for the session's own keys. They end when the
// session does, or earlier where a request says so.
func (c *Cluster) Reissue(ctx context.Context, r Reissue) (*SessionCerts, error) {
	const op = "reissue certs"
	if c.session.SSH == nil {
		return nil, fmt.Errorf("%s: the session has no usable SSH cert to reissue", op)
	}
	pub, ok := c.session.Cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: %w", op, errNoUsableSession)
	}
	der, err := x509.MarshalPKIXPublicKey(pub.Public())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	sshPub := c.session.SSH.PublicKey
	req := proto.UserCertsRequest{
		PublicKey:          sshPub, //nolint:staticcheck // SA1019: v16 servers read only this one
		SSHPublicKey:       sshPub,
		TLSPublicKey:       pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		Username:           c.session.Identity.User,
		Expires:            c.session.ValidUntil,
		RouteToCluster:     c.profile.Cluster,
		AccessRequests:     r.Assume,
		DropAccessRequests: r.Drop,
	}
	var certs *proto.Certs
	err = c.call(ctx, c.root, op, func(ctx context.Context, clt *client.Client) (err error) {
		certs, err = clt.GenerateUserCerts(ctx, req)
		return err
	})
	if err != nil {
		return nil, requestError(strings.Join(r.Assume, ", "), err)
	}
	out, err := c.checkReissued(certs, pub)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return out, nil
}

// As calls f with a Cluster that has the roles of access requests as well: a
// session that exists only in memory, and only until f returns.
func (c *Cluster) As(ctx context.Context, requests []string, f func(*Cluster) error) error {
	const op = "mint a cert with access requests"
	key, err := newKey()
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var certs *proto.Certs
	err = c.call(ctx, c.root, op, func(ctx context.Context, clt *client.Client) (err error) {
		certs, err = clt.GenerateUserCerts(ctx, proto.UserCertsRequest{
			PublicKey:      key.ssh, //nolint:staticcheck // SA1019: v16 servers read only this one
			SSHPublicKey:   key.ssh,
			TLSPublicKey:   key.tls,
			Username:       c.session.Identity.User,
			Expires:        c.session.ValidUntil,
			RouteToCluster: c.root,
			AccessRequests: requests,
		})
		return err
	})
	if err != nil {
		return requestError(strings.Join(requests, ", "), err)
	}
	cert, err := key.pair(certs.TLS)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	session, profile := *c.session, *c.profile
	session.Cert, session.SSH, session.Identity = *cert, nil, certwatch.ParseIdentity(cert.Leaf.Subject)
	if cert.Leaf.NotAfter.Before(session.ValidUntil) {
		session.ValidUntil = cert.Leaf.NotAfter
	}
	profile.Session = &session
	with, err := New(Config{Profile: &profile, Logger: c.log})
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return errors.Join(f(with), with.Close())
}

// checkReissued makes sure that certs are for the session's keys and valid.
func (c *Cluster) checkReissued(certs *proto.Certs, signer crypto.Signer) (*SessionCerts, error) {
	block, _ := pem.Decode(certs.TLS)
	if block == nil {
		return nil, errors.New("the auth service returned no TLS cert")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse the issued TLS cert: %w", err)
	}
	if !samePublicKey(leaf.PublicKey, signer.Public()) {
		return nil, errors.New("the issued TLS cert is for another key")
	}
	sshCert, err := sshCertOf(certs.SSH)
	if err != nil {
		return nil, err
	}
	if want := c.session.SSH.PublicKey; string(ssh.MarshalAuthorizedKey(sshCert.Key)) != string(want) {
		return nil, errors.New("the issued SSH cert is for another key")
	}
	until := leaf.NotAfter
	if before := time.Unix(int64(sshCert.ValidBefore), 0); sshCert.ValidBefore != ssh.CertTimeInfinity && before.Before(until) {
		until = before
	}
	if !time.Now().Before(until) {
		return nil, errStillborn
	}
	id := certwatch.ParseIdentity(leaf.Subject)
	return &SessionCerts{
		TLS: certs.TLS, SSH: certs.SSH, Cluster: c.profile.Cluster, ValidUntil: until,
		Roles: slices.Sorted(slices.Values(id.Roles)), Requests: id.ActiveRequests,
	}, nil
}

func sshCertOf(b []byte) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, fmt.Errorf("parse the issued SSH cert: %w", err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("the auth service returned no SSH cert")
	}
	return cert, nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
