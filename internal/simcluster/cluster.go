package simcluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Cluster is a running simulated cluster: a root cluster behind its proxy,
// and the leaf clusters that joined it.
type Cluster struct {
	cfg      Config
	faults   *Faults
	counters counters
	serial   *atomic.Int64
	webCA    *authority
	root     *Site
	tls      *tls.Config // the router's; it holds the session ticket keys
	webCert  atomic.Pointer[tls.Certificate]
	webTLS   *tls.Config
	webDB    atomic.Pointer[tls.Config] // the web cert, and a client cert required

	web      *handoff
	kube     *handoff
	servers  []*http.Server
	sso      ssoSessions
	requests *requestStore
	touched  chan struct{} // capacity 1: a touch of a security key
	balanced atomic.Bool   // see Config.BehindLoadBalancer

	ctx    context.Context // ends with Close; connections are served under it
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	port     int
	listener net.Listener
	conns    map[*conn]struct{}
	leaves   map[string]*Site
	users    map[string]User
	usedTOTP map[string]string // by user: the last code
	roles    map[string]Role
	refused  map[string]refusal // by user
	closed   bool
}

// Start starts a simulated cluster. It runs until it is closed.
func Start(cfg Config) (*Cluster, error) {
	cfg = cfg.withDefaults()
	c := &Cluster{
		cfg:    cfg,
		serial: new(atomic.Int64),
		port:   cfg.Port,
		web:    newHandoff(),
		kube:   newHandoff(),
		conns:  make(map[*conn]struct{}),
		leaves: make(map[string]*Site),
		users:  make(map[string]User),
		roles:  make(map[string]Role),

		refused:  make(map[string]refusal),
		usedTOTP: make(map[string]string),
		touched:  make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.balanced.Store(cfg.BehindLoadBalancer)
	c.faults = newFaults(c)
	c.requests = newRequestStore(c)
	for _, u := range cfg.Users {
		c.putUser(u)
	}
	for _, r := range cfg.Roles {
		c.putRole(r)
	}
	if err := c.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("start simulated cluster %s: %w", cfg.Name, err), c.Close())
	}
	return c, nil
}

func (c *Cluster) build() error {
	var err error
	if c.webCA, err = newAuthority("Simulated web CA of "+c.cfg.Name, c.serial, c.now()); err != nil {
		return err
	}
	if c.root, err = newSite(c, c.cfg.Name, nil); err != nil {
		return err
	}
	for _, db := range c.cfg.Databases {
		c.root.AddDatabase(db)
	}
	for _, k := range c.cfg.Kubes {
		c.root.AddKube(k)
	}
	if err := c.setupTLS(); err != nil {
		return err
	}
	c.startHTTP()
	return c.listen()
}

// Close stops the cluster and waits until nothing of it runs.
func (c *Cluster) Close() error {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	sites := []*Site{c.root}
	for _, s := range c.leaves {
		sites = append(sites, s)
	}
	c.mu.Unlock()
	if already {
		return nil
	}
	c.stopListening()
	c.cancel()
	c.closeConns(func(*conn) bool { return true })
	for _, s := range sites {
		if s != nil {
			s.stop()
		}
	}
	var errs []error
	for _, srv := range c.servers {
		errs = append(errs, srv.Close())
	}
	c.wg.Wait()
	return errors.Join(errs...)
}

// spawn runs f in a goroutine that Close waits for, and reports whether it
// does: a closed cluster starts nothing more.
func (c *Cluster) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.wg.Go(f)
	return true
}

// now is the time by the cluster's clock.
func (c *Cluster) now() time.Time {
	return time.Now().Round(0).Add(c.faults.clock())
}

// ends waits until the cluster's clock, which may be moved meanwhile, shows an end; false
// means that ctx ended first.
func (c *Cluster) ends(ctx context.Context, end time.Time) bool {
	for {
		changed := c.faults.changed.Changed()
		if c.expired(end) {
			return true
		}
		select {
		case <-changed:
		case <-time.After(end.Sub(c.now())):
		case <-ctx.Done():
			return false
		}
	}
}

// Name returns the root cluster's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// ProxyAddr returns host:port of the proxy, the host as clients know it.
func (c *Cluster) ProxyAddr() string {
	return net.JoinHostPort(c.cfg.ProxyHost, strconv.Itoa(c.Port()))
}

// ProxyHost returns the host part of ProxyAddr: the profile's name.
func (c *Cluster) ProxyHost() string { return c.cfg.ProxyHost }

// Port returns the proxy's port, which stays the same for the cluster's life.
func (c *Cluster) Port() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.port
}

// WebCAPool returns the CA of the proxy's web cert. Real clusters often have
// such a private one, which clients need to trust.
func (c *Cluster) WebCAPool() *x509.CertPool { return pool(c.webCA) }

// WriteWebCA writes the web CA to a file, for SSL_CERT_FILE or ca_file.
func (c *Cluster) WriteWebCA(path string) error {
	if err := os.WriteFile(path, c.webCA.pem, 0o600); err != nil {
		return fmt.Errorf("write web CA: %w", err)
	}
	return nil
}

// ReplaceWebCert has the proxy show another web cert to new connections: of the
// same CA, as when one is renewed, or of a CA that no client knows.
func (c *Cluster) ReplaceWebCert(trusted bool) error {
	ca := c.webCA
	if !trusted {
		var err error
		if ca, err = newAuthority("A stranger's web CA", c.serial, c.now()); err != nil {
			return err
		}
	}
	return c.showCertOf(ca)
}

// Faults makes the cluster misbehave.
func (c *Cluster) Faults() *Faults { return c.faults }

// Root returns the root cluster.
func (c *Cluster) Root() *Site { return c.root }

// AddDatabase adds a database to the root cluster, or replaces it.
func (c *Cluster) AddDatabase(db Database) { c.root.AddDatabase(db) }

// RemoveDatabase takes a database away from the root cluster.
func (c *Cluster) RemoveDatabase(name string) { c.root.RemoveDatabase(name) }

// AddLeaf joins a leaf cluster to the root: with its own CAs and its own auth
// service, reached through the root's proxy.
func (c *Cluster) AddLeaf(name string, dbs ...Database) (*Site, error) {
	leaf, err := newSite(c, name, c.root)
	if err != nil {
		return nil, fmt.Errorf("add leaf cluster %s: %w", name, err)
	}
	for _, db := range dbs {
		leaf.AddDatabase(db)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.leaves[name]; ok || name == c.cfg.Name {
		leaf.stop()
		return nil, fmt.Errorf("add leaf cluster %s: the name is taken", name)
	}
	c.leaves[name] = leaf
	return leaf, nil
}

// site returns the root or a leaf by its name, nil if there is none.
func (c *Cluster) site(name string) *Site {
	if name == c.cfg.Name {
		return c.root
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaves[name]
}

// putUser adds a user, or replaces one.
func (c *Cluster) putUser(u User) {
	if u.Roles == nil {
		u.Roles = []string{"access"}
	}
	if u.Logins == nil {
		u.Logins = []string{u.Name}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users[u.Name] = u
}

// putRole adds a role, or replaces one.
func (c *Cluster) putRole(r Role) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roles[r.Name] = r
}

func (c *Cluster) user(name string) (User, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.users[name]
	return u, ok
}

// SetLogin changes what a user logs in with; an empty otp means that no code is
// asked for.
func (c *Cluster) SetLogin(name, password, otp string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.users[name]
	u.Password, u.OTP = password, otp
	c.users[name] = u
}

// SetRoles changes which roles the next logins of a user get.
func (c *Cluster) SetRoles(name string, roles ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.users[name]
	u.Roles = roles
	c.users[name] = u
}

// userRoles returns those of the named roles that exist.
func (c *Cluster) userRoles(names []string) []Role {
	c.mu.Lock()
	defer c.mu.Unlock()
	var roles []Role
	for _, name := range names {
		if r, ok := c.roles[name]; ok {
			roles = append(roles, r)
		}
	}
	return roles
}
