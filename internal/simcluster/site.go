package simcluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gravitational/teleport/api/constants"

	"berth/certwatch"
	"berth/internal/simcluster/simdb"
	"berth/internal/simcluster/simkube"
)

// Site is one Teleport cluster: the root, or a leaf behind it.
type Site struct {
	c     *Cluster
	name  string
	root  *Site // nil for the root itself
	auth  *authService
	trust atomic.Pointer[trust]
	away  atomic.Bool // of a leaf: it is not connected to the root
	// parting is set until the root has said so to a client.
	parting atomic.Bool

	recorder recorder

	mu    sync.Mutex
	dbs   map[string]Database
	kubes map[string]Kube
}

// trust is a cluster's CAs, and what follows from them. It is immutable: a
// rotation makes another.
type trust struct {
	userCA *authority
	hostCA *authority

	authTLS   *tls.Config // host cert, client cert required: the auth service
	hostTLS   *tls.Config // host cert only
	clientTLS *tls.Config // host cert, client cert of the root required
	dbTLS     *tls.Config // the same, but databases refuse those without a cert themselves
}

// newSite makes a cluster with its own CAs; root is nil for the root cluster.
func newSite(c *Cluster, name string, root *Site) (*Site, error) {
	s := &Site{c: c, name: name, root: root, dbs: make(map[string]Database), kubes: make(map[string]Kube)}
	userCA, err := newAuthority(name, c.serial, c.now())
	if err != nil {
		return nil, err
	}
	hostCA, err := newAuthority(name, c.serial, c.now())
	if err != nil {
		return nil, err
	}
	if err := s.setTrust(userCA, hostCA); err != nil {
		return nil, err
	}
	s.auth = newAuthService(s)
	return s, nil
}

// setTrust makes CAs the cluster's.
func (s *Site) setTrust(userCA, hostCA *authority) error {
	c := s.c
	cert, err := hostCA.serverCert("proxy."+s.name, s.hostNames(), c.now())
	if err != nil {
		return err
	}
	t := &trust{userCA: userCA, hostCA: hostCA}
	t.hostTLS = &tls.Config{Certificates: []tls.Certificate{cert}, Time: c.now, MinVersion: tls.VersionTLS12}
	t.clientTLS = t.hostTLS.Clone()
	t.authTLS = t.hostTLS.Clone()
	users := userCA
	if s.root != nil {
		users = s.root.trust.Load().userCA // a leaf maps the root's users
	}
	trusted := pool(users)
	for _, cfg := range []*tls.Config{t.clientTLS, t.authTLS} {
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
		cfg.ClientCAs = trusted
		cfg.VerifyConnection = c.verifySession
	}
	t.authTLS.ClientAuth = tls.VerifyClientCertIfGiven // who has none may ask what is no secret
	t.dbTLS = t.clientTLS.Clone()
	t.dbTLS.ClientAuth = tls.VerifyClientCertIfGiven
	s.trust.Store(t)
	return nil
}

// hostNames are the names in the host cert: those clients look for on any
// Teleport service, and the proxy's own.
func (s *Site) hostNames() []string {
	kube := constants.KubeTeleportProxyALPNPrefix
	return []string{
		constants.APIDomain,
		"*." + constants.APIDomain,
		hex.EncodeToString([]byte(s.name)) + "." + constants.APIDomain,
		kube + constants.APIDomain,
		kube + s.c.cfg.ProxyHost,
		"localhost",
		s.c.cfg.ProxyHost,
		s.name,
	}
}

func (s *Site) stop() { s.auth.stop() }

// Name returns the cluster's name.
func (s *Site) Name() string { return s.name }

// HostCAPEM returns the host CA, which signs all of the cluster's server certs
// but the web cert.
func (s *Site) HostCAPEM() []byte { return s.trust.Load().hostCA.pem }

// HostCAPool returns the same CA as a pool.
func (s *Site) HostCAPool() *x509.CertPool { return pool(s.trust.Load().hostCA) }

// UserCAPool returns the CA that signs the certs of the cluster's users.
func (s *Site) UserCAPool() *x509.CertPool { return pool(s.trust.Load().userCA) }

// key names one of the site's databases in faults and counters.
func (s *Site) key(service string) string {
	if s.root == nil {
		return service
	}
	return s.name + "/" + service
}

// AddDatabase adds a database, or replaces it.
func (s *Site) AddDatabase(db Database) {
	if db.Backend == nil {
		db.Backend = simdb.ForProtocol(db.Protocol)
	}
	if db.URI == "" {
		db.URI = "localhost:0"
	}
	db.Replicas = max(db.Replicas, 1)
	db.version = s.findVersion(db)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dbs[db.Name] = db
}

// RemoveDatabase takes a database away; its open connections stay.
func (s *Site) RemoveDatabase(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dbs, name)
}

// AddKube adds a Kubernetes cluster, or replaces it.
func (s *Site) AddKube(k Kube) {
	if k.Handler == nil {
		k.Handler = simkube.New(simkube.Config{Name: k.Name, Log: s.c.cfg.Log})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kubes[k.Name] = k
}

func (s *Site) database(name string) (Database, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	db, ok := s.dbs[name]
	return db, ok
}

// databases returns the databases that an identity may see, by name.
func (s *Site) databases(id certwatch.Identity) []Database {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.dbs))
	s.mu.Unlock()
	all = slices.DeleteFunc(all, func(db Database) bool { return !s.visible(id, db) })
	slices.SortFunc(all, func(a, b Database) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// RemoveKube takes a Kubernetes cluster away; what is being answered goes on.
func (s *Site) RemoveKube(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kubes, name)
}

// Simkube returns the stand-in behind a Kubernetes cluster; nil means that
// there is none.
func (s *Site) Simkube(name string) *simkube.Server {
	k, _ := s.kube(name)
	switch h := k.Handler.(type) {
	case *simkube.Server:
		return h
	case *simkube.Endpoint:
		return h.Server
	default:
		return nil
	}
}

func (s *Site) kube(name string) (Kube, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kubes[name]
	return k, ok
}

// kubeClusters returns the Kubernetes clusters that an identity may see, by
// name.
func (s *Site) kubeClusters(id certwatch.Identity) []Kube {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.kubes))
	s.mu.Unlock()
	all = slices.DeleteFunc(all, func(k Kube) bool { return !s.visibleKube(id, k) })
	slices.SortFunc(all, func(a, b Kube) int { return strings.Compare(a.Name, b.Name) })
	return all
}
