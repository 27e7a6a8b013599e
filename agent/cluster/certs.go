package cluster

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"golang.org/x/crypto/ssh"
)

// DBRoute says what a database cert is for. It is comparable: two tunnels with
// the same route share one cert.
type DBRoute struct {
	Cluster  string // root or leaf
	Service  string // the database's name in Teleport
	Protocol string
	User     string // database user; needed in the cert by all but postgres and mysql
	Database string // database name
	// Requests are the access requests whose roles this cert alone carries,
	// beside those of the session: ids, joined by commas.
	Requests string
}

func (r DBRoute) proto() proto.RouteToDatabase {
	return proto.RouteToDatabase{
		ServiceName: r.Service,
		Protocol:    r.Protocol,
		Username:    r.User,
		Database:    r.Database,
	}
}

func (r DBRoute) resource() (clusterName, name string) { return r.Cluster, r.Service }

func (r DBRoute) what() string { return "database" }

func (r DBRoute) fill(req *proto.UserCertsRequest) {
	req.RouteToDatabase = r.proto()
	req.AccessRequests = splitIDs(r.Requests)
	req.Usage = proto.UserCertsRequest_Database
	// Certs for a local proxy tunnel may outlive one minute even when
	// made with MFA, on the promise that they stay in memory.
	req.RequesterName = proto.UserCertsRequest_TSH_DB_LOCAL_PROXY_TUNNEL
}

// splitIDs undoes strings.Join(ids, ","); ids hold no comma.
func splitIDs(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

// target is the resource a cert is for. Targets are comparable: equal targets
// share a cert.
type target interface {
	resource() (clusterName, name string)
	what() string // the kind of resource, in words
	fill(req *proto.UserCertsRequest)
}

// Cert is a minted cert with the key it belongs to, both only in memory.
type Cert struct {
	TLS       *tls.Certificate // Leaf is set
	MintedAt  time.Time
	RefreshAt time.Time // when a newer one should be minted
	verified  bool      // it took a one-time code
}

// ValidUntil is the end of the cert.
func (c *Cert) ValidUntil() time.Time { return c.TLS.Leaf.NotAfter }

// servesAt reports whether no newer cert is wanted at a moment; there may be none yet.
func (c *Cert) servesAt(now time.Time) bool {
	return c != nil && now.Before(c.RefreshAt) && now.Before(c.ValidUntil())
}

// errStillborn says that the auth service issued a cert that had already
// ended, which it does on a connection that outlived its session.
var errStillborn = errors.New("the auth service issued a cert that has already ended")

// minRefresh is the least time between two mints of one route: near its end,
// two thirds of what is left would come round ever faster.
const minRefresh = 20 * time.Second

// refreshAt returns when to mint the successor of a cert that was minted at
// mintedAt and ends at notAfter: after two thirds of its life.
func refreshAt(mintedAt, notAfter time.Time) time.Time {
	life := notAfter.Sub(mintedAt)
	at := mintedAt.Add(life * 2 / 3)
	if at.Sub(mintedAt) < minRefresh {
		at = mintedAt.Add(minRefresh)
	}
	return at
}

// certCache keeps the newest cert of every route.
type certCache struct {
	mu    sync.Mutex
	certs map[target]*Cert
}

func (cc *certCache) get(r target) *Cert {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.certs[r]
}

func (cc *certCache) put(r target, c *Cert) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.certs == nil {
		cc.certs = make(map[target]*Cert)
	}
	cc.certs[r] = c
}

// Forget drops the certs kept for a resource, so that the next one is new.
func (c *Cluster) Forget(clusterName, name string) {
	c.certs.mu.Lock()
	defer c.certs.mu.Unlock()
	maps.DeleteFunc(c.certs.certs, func(r target, _ *Cert) bool {
		ofCluster, resource := r.resource()
		return ofCluster == clusterName && resource == name
	})
}

// ForgetBefore drops the certs that were minted before a moment.
func (c *Cluster) ForgetBefore(at time.Time) {
	c.certs.mu.Lock()
	defer c.certs.mu.Unlock()
	maps.DeleteFunc(c.certs.certs, func(_ target, cert *Cert) bool { return cert.MintedAt.Before(at) })
}

// DBCert returns a cert for the route that is valid now. If the present cert is
// due for refresh, a new one is minted first; when that fails and the present
// one is still valid, it is returned together with the error. Callers asking
// for the same route at the same time share one call to the auth service.
func (c *Cluster) DBCert(ctx context.Context, r DBRoute) (*Cert, error) { return c.cert(ctx, r) }

func (c *Cluster) cert(ctx context.Context, r target) (*Cert, error) {
	now := time.Now()
	cur := c.certs.get(r)
	if cur.servesAt(now) {
		return cur, nil
	}
	fresh, err := c.mintShared(ctx, r)
	if err == nil {
		return fresh, nil
	}
	if cur != nil && now.Before(cur.ValidUntil()) {
		return cur, err
	}
	return nil, err
}

func (c *Cluster) mintShared(ctx context.Context, r target) (*Cert, error) {
	key := fmt.Sprintf("mint %#v", r)
	ch := c.flight.DoChan(key, func() (any, error) {
		// Another's call may have ended since this caller looked for a cert.
		if cert := c.certs.get(r); cert.servesAt(time.Now()) {
			return cert, nil
		}
		// The call is shared, so it must not die with the one who happened
		// to ask first; it has its own clock.
		cert, err := c.mint(context.WithoutCancel(ctx), r, "")
		if err != nil {
			return nil, err
		}
		c.certs.put(r, cert)
		return cert, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-ch:
		if res.Err != nil {
			return nil, res.Err
		}
		return res.Val.(*Cert), nil
	}
}

// mint asks the root's auth service for a cert: leaf clusters are addressed
// by the cert's route, never minted at (a leaf cannot mint for a mapped user).
// code is a one-time code; empty means none.
func (c *Cluster) mint(ctx context.Context, r target, code string) (*Cert, error) {
	clusterName, resource := r.resource()
	op := fmt.Sprintf("mint cert for %s %q in %s", r.what(), resource, clusterName)
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	req := proto.UserCertsRequest{
		PublicKey:      key.ssh, //nolint:staticcheck // SA1019: v16 servers read only this one
		SSHPublicKey:   key.ssh,
		TLSPublicKey:   key.tls, // v17 and later
		Username:       c.session.Identity.User,
		Expires:        c.session.ValidUntil,
		RouteToCluster: clusterName,
	}
	r.fill(&req)
	if code != "" {
		verify(&req, code)
	}
	mintedAt := time.Now().Round(0)
	var certs *proto.Certs
	err = c.call(ctx, c.root, op, func(ctx context.Context, clt *client.Client) (err error) {
		certs, err = clt.GenerateUserCerts(ctx, req)
		return err
	})
	if err != nil {
		if strings.Contains(err.Error(), "remote cluster") && strings.Contains(err.Error(), "not found") {
			return nil, &UnknownClusterError{Cluster: clusterName, Root: c.root}
		}
		if kube, ok := r.(KubeRoute); ok && strings.Contains(err.Error(), "is not registered") {
			return nil, &UnknownKubeError{Cluster: kube.Cluster, KubeCluster: kube.KubeCluster}
		}
		if len(req.AccessRequests) > 0 {
			return nil, requestError(strings.Join(req.AccessRequests, ","), err)
		}
		return nil, err
	}
	cert, err := key.pair(certs.TLS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	c.noteSkew(cert.Leaf.NotBefore, mintedAt, time.Now().Round(0))
	notAfter := cert.Leaf.NotAfter
	if !mintedAt.Before(notAfter) {
		return nil, fmt.Errorf("%s: %w", op, errStillborn)
	}
	c.log.Debug("cert minted", "cluster", clusterName, "resource", resource, "valid_until", notAfter)
	minted := &Cert{TLS: cert, MintedAt: mintedAt, RefreshAt: refreshAt(mintedAt, notAfter), verified: code != ""}
	if minted.verified { // a newer one would take another code, and end no later
		minted.RefreshAt = notAfter.Add(-min(verifiedLead, notAfter.Sub(mintedAt)/10))
	}
	return minted, nil
}

// memKey is a private key that is never written anywhere, with its public half
// in both forms the auth service wants.
type memKey struct {
	signer crypto.Signer
	ssh    []byte // authorized_keys form
	tls    []byte // PKIX, PEM
}

func newKey() (*memKey, error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("encode ssh public key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return &memKey{
		signer: signer,
		ssh:    ssh.MarshalAuthorizedKey(sshPub),
		tls:    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	}, nil
}

// pair joins the key with the cert chain the auth service returned for it.
func (k *memKey) pair(chainPEM []byte) (*tls.Certificate, error) {
	cert := &tls.Certificate{PrivateKey: k.signer}
	for block, rest := pem.Decode(chainPEM); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert.Certificate = append(cert.Certificate, block.Bytes)
		}
	}
	if len(cert.Certificate) == 0 {
		return nil, errors.New("the auth service returned no TLS cert")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("parse the issued cert: %w", err)
	}
	pub, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(k.signer.Public()) {
		return nil, errors.New("the issued cert is for another key")
	}
	cert.Leaf = leaf
	return cert, nil
}
