// Package cluster is one session's live connection to a Teleport cluster: it
// lists what the session may reach and mints the short-lived certs tunnels
// use, through the api client, with keys that exist only in memory.
//
// A Cluster belongs to one login session and never changes identity. When the
// session changes (a login, an assumed request) the caller makes a new one and
// closes the old: an open gRPC connection keeps the identity it was opened
// with, and would go on minting for it.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravitational/teleport/api/breaker"
	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"berth/certwatch"
	"berth/internal/wake"
	"berth/proxies/route"
)

const (
	// dialTimeout bounds one attempt to connect to the proxy. The api's own
	// default is 30 s, all of which it uses even for a refused connection.
	dialTimeout = 5 * time.Second
	// rpcTimeout bounds one call to the auth service. Minting takes
	// milliseconds; a listing of thousands of resources takes seconds.
	rpcTimeout = 10 * time.Second
	// keepAlive is the interval of TCP's own probes; gRPC has others.
	keepAlive = 30 * time.Second
	// window is how much of a stream may be under way: enough for 20 MB/s at a
	// tenth of a second.
	window = 2 << 20
	// pingTimeout is how long a connection that may be dead is trusted.
	pingTimeout = 3 * time.Second
)

// Config says which session a Cluster is for and how it reaches the proxy.
type Config struct {
	// Profile is the profile to act for. Its Session must not be nil and its
	// key must be usable.
	Profile *certwatch.Profile
	Logger  *slog.Logger
	// OnStanding is called when what Fault or ConnUpgradeRequired returns has changed,
	// from a goroutine that must not wait. nil means no call.
	OnStanding func()
}

// Cluster is a session's connection to its root cluster, and through it to
// the leaf clusters. Its methods are safe for concurrent use.
type Cluster struct {
	profile *certwatch.Profile
	session *certwatch.Session
	root    string
	log     *slog.Logger
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	verdictWait time.Duration
	stand       standing
	onStanding  func()
	mustUpgrade atomic.Bool  // connections need an upgrade, as far as is known
	skew        atomic.Int64 // what Skew returns; 0 means not known
	answered    atomic.Bool  // the auth service has answered, so what is known is right
	flight      singleflight.Group
	certs       certCache
	databases   *listing[Database]
	kubes       *listing[KubeCluster]
	leafCAs     recent[map[string]*x509.CertPool]
	factors     recent[Factors]
	cuts        recent[bool]

	mu      sync.Mutex
	closed  bool
	clients map[string]*client.Client // by cluster name: the root's and the leaves'
}

// errNoUsableSession is returned by New for a profile that cannot act: logged
// out, or with a key berth cannot use (a hardware key).
var errNoUsableSession = errors.New("profile has no session berth can use")

// New returns a Cluster for the session of cfg.Profile. It does not touch the
// network; the first call that needs the auth service connects.
func New(cfg Config) (*Cluster, error) {
	p := cfg.Profile
	if p == nil || p.Session == nil || p.Session.Cert.PrivateKey == nil {
		return nil, errNoUsableSession
	}
	root := p.RootCluster
	if root == "" {
		root = p.Cluster
	}
	c := &Cluster{
		profile:   p,
		session:   p.Session,
		root:      root,
		log:       cfg.Logger.With("component", "cluster", "profile", p.ProxyAddr),
		clients:   make(map[string]*client.Client),
		databases: databases(), kubes: kubes(), onStanding: cfg.OnStanding, verdictWait: verdictWait,
	}
	if c.onStanding == nil {
		c.onStanding = func() {}
	}
	c.stand.ask = wake.NewSignal()
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.mustUpgrade.Store(p.ConnUpgradeRequired)
	return c, nil
}

// Root is the name of the root cluster.
func (c *Cluster) Root() string { return c.root }

// Profile is the profile the Cluster acts for.
func (c *Cluster) Profile() *certwatch.Profile { return c.profile }

// ConnUpgradeRequired reports whether connections to the proxy must be wrapped
// in an HTTP upgrade because a load balancer in front of it strips ALPN. Until
// the auth service has answered once a call may probe the proxy, for at most
// 5 s: a failed probe looks like a proxy that needs no upgrade.
func (c *Cluster) ConnUpgradeRequired() bool {
	if c.mustUpgrade.Load() || c.answered.Load() {
		return c.mustUpgrade.Load()
	}
	need, _, _ := c.flight.Do("probe", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		// The probe sends no credential, so there is nothing a false proxy
		// could learn: it need not verify the web cert, which may be signed
		// by a CA only the config knows.
		return client.IsALPNConnUpgradeRequired(ctx, c.profile.ProxyAddr, true), nil
	})
	if need == true {
		c.mustUpgrade.Store(true)
	}
	return c.mustUpgrade.Load()
}

// backDated is how far the auth service dates a cert's beginning back: the skew
// it tolerates. Measured with v16.
const backDated = time.Minute

// Skew returns how far this machine's clock is ahead of the auth service's, or
// behind it when negative, measured with the last minted cert; zero before the
// first. It is right to about a second.
func (c *Cluster) Skew() time.Duration { return time.Duration(c.skew.Load()) }

// noteSkew learns the auth service's clock from a cert that it issued between
// asked and now.
func (c *Cluster) noteSkew(notBefore, asked, now time.Time) {
	issued := notBefore.Add(backDated)
	ours := asked.Add(now.Sub(asked) / 2)
	c.skew.Store(int64(ours.Sub(issued)))
}

// RequireConnUpgrade is for a caller that learnt, from a connection that
// agreed on no ALPN, that the upgrade is needed after all: networks change
// while a session lives.
func (c *Cluster) RequireConnUpgrade() {
	if !c.mustUpgrade.Swap(true) {
		c.reset()
		c.onStanding() // the ways that were made without are of no use
	}
}

// reset drops the connections to the auth service; the next call makes new
// ones.
func (c *Cluster) reset() {
	c.mu.Lock()
	old := c.clients
	c.clients = make(map[string]*client.Client)
	c.mu.Unlock()
	_ = closeAll(old) // they have failed
}

// closeAll closes connections, all at once. That may take seconds where the network
// swallows what is sent, so the caller holds no lock.
func closeAll(clients map[string]*client.Client) error {
	var closing errgroup.Group
	for _, clt := range clients {
		closing.Go(clt.Close)
	}
	return closing.Wait()
}

// Close ends the connections to the auth service. Certs already minted stay
// valid until they end.
func (c *Cluster) Close() error {
	c.mu.Lock()
	c.closed = true
	old := c.clients
	c.clients = nil
	c.mu.Unlock()
	c.stand.mu.Lock() // no check begins after this
	c.cancel()
	c.stand.mu.Unlock()
	c.stand.moved.Wake()
	err := closeAll(old) // seconds, where the network swallows what is sent
	c.stand.checks.Wait()
	return err
}

// Closed reports whether the session is over: another has taken its place, or a logout.
// That ends the calls under way.
func (c *Cluster) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Ping checks that the root cluster's auth service answers and still accepts
// the session. A connection that looks healthy and does not answer within 3 s,
// as after a suspend, is dropped, so that the next call makes a new one.
// Callers at the same time share one ping.
func (c *Cluster) Ping(ctx context.Context) error {
	_, err, _ := c.flight.Do("ping", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout) // shared, see mintShared
		defer cancel()
		err := c.call(ctx, c.root, "ping "+c.root, func(ctx context.Context, clt *client.Client) error {
			_, err := clt.Ping(ctx)
			return err
		})
		if _, ok := errors.AsType[*UnreachableError](err); ok {
			c.reset()
		}
		return nil, err
	})
	return err
}

// PingLeaf checks that a leaf's auth service answers through the root: it returns
// a LeafAwayError when only the leaf is away.
func (c *Cluster) PingLeaf(ctx context.Context, leaf string) error {
	return c.callOnce(ctx, leaf, "ping "+leaf, func(ctx context.Context, clt *client.Client) error {
		_, err := clt.Ping(ctx)
		return err
	})
}

// call makes one call to a cluster's auth service, which changes nothing there,
// and makes it again where the connection was at fault and another is well.
func (c *Cluster) call(ctx context.Context, name, op string, rpc func(context.Context, *client.Client) error) error {
	err := c.callOnce(ctx, name, op, rpc)
	if _, away := errors.AsType[*UnreachableError](err); !away || ctx.Err() != nil {
		return err
	}
	switch fault, decided := c.verdict(ctx, c.verdictWait); {
	case !decided:
		return err
	case fault != nil:
		return fault.Err
	}
	return c.callOnce(ctx, name, op, rpc)
}

// callOnce makes one call to a cluster's auth service, within rpcTimeout, and
// classifies what goes wrong. While the session is known to be kept from its
// cluster the call waits for the next check, and is not made if that fails.
func (c *Cluster) callOnce(ctx context.Context, name, op string, rpc func(context.Context, *client.Client) error) error {
	if fault := c.Fault(); fault != nil && !isOutdated(fault.Err) {
		if fault = c.Check(ctx); fault != nil {
			return fault.Err
		}
	}
	clt, err := c.client(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	defer c.doubtWhenSlow()()
	if err := rpc(ctx, clt); err != nil {
		return c.failed(ctx, name, c.classify(ctx, name, op, err))
	}
	c.answered.Store(true)
	return nil
}

// failed draws from the error of a call what it may mean for all others.
func (c *Cluster) failed(ctx context.Context, name string, err error) error {
	var away *UnreachableError
	var denied *AccessDeniedError
	switch {
	case errors.As(err, &away) && c.Closed():
		return errClosed
	case name != c.root && errors.As(err, &away):
		// It is the root's proxy that was dialled: does the root answer?
		c.drop(name)
		c.doubt(false)
		switch fault, decided := c.verdict(ctx, c.verdictWait); {
		case !decided:
			return err
		case fault != nil:
			return fault.Err
		}
		return &LeafAwayError{Leaf: name, Root: c.root, Err: away.Err}
	case name != c.root && isOutdated(err):
		// Whether the root's CA was rotated too is asked. If it was not, the connection to
		// the root is well.
		c.drop(name)
		c.doubt(false)
	case errors.As(err, &away), isOutdated(err):
		c.doubt(true)
	case errors.As(err, &denied):
		c.doubtRefusal()
	}
	return err
}

func isOutdated(err error) bool {
	_, ok := errors.AsType[*OutdatedError](err)
	return ok
}

// drop closes the connection to a leaf: its way through the root is gone.
func (c *Cluster) drop(name string) {
	c.mu.Lock()
	clt := c.clients[name]
	delete(c.clients, name)
	c.mu.Unlock()
	if clt != nil {
		_ = clt.Close() // the call on it has failed
	}
}

// ClusterCAs returns the host CAs of a cluster: from the profile where login
// stored them, else asked of the root's auth service, which also knows leaf
// clusters that joined after the login.
func (c *Cluster) ClusterCAs(ctx context.Context, name string) (*x509.CertPool, error) {
	if len(c.session.CAs[name]) > 0 {
		return c.session.CAPool(name), nil
	}
	if name == c.root {
		return nil, fmt.Errorf("profile %s has no CA for cluster %q", c.profile.ProxyAddr, name)
	}
	leaves, err := c.leaves(ctx, listTTL)
	if err == nil && leaves[name] == nil {
		leaves, err = c.leaves(ctx, missTTL) // it may have joined since
	}
	if err != nil {
		return nil, err
	}
	pool, ok := leaves[name]
	if !ok {
		return nil, &UnknownClusterError{Cluster: name, Root: c.root}
	}
	return pool, nil
}

// Clusters returns the root and the leaves that it trusts now, by name; of the
// leaves those of the login where the root cannot be asked.
func (c *Cluster) Clusters(ctx context.Context) []string {
	leaves, err := c.leaves(ctx, missTTL)
	if err != nil {
		return append([]string{c.root}, slices.DeleteFunc(slices.Sorted(maps.Keys(c.session.CAs)), c.isRoot)...)
	}
	return append([]string{c.root}, slices.DeleteFunc(slices.Sorted(maps.Keys(leaves)), c.isRoot)...)
}

func (c *Cluster) isRoot(name string) bool { return name == c.root }

// Knows reports whether the session can address the named cluster, without
// asking anyone: its root cluster, or a leaf that was trusted at login.
func Knows(p *certwatch.Profile, name string) bool {
	if p.RootCluster == name || p.Cluster == name {
		return true
	}
	if p.Session == nil {
		return false
	}
	_, ok := p.Session.CAs[name]
	return ok
}

// leaves returns the host CAs of the clusters the root trusts, as of maxAge ago
// at most.
func (c *Cluster) leaves(ctx context.Context, maxAge time.Duration) (map[string]*x509.CertPool, error) {
	return c.leafCAs.get(c.root, maxAge, func() (map[string]*x509.CertPool, error) {
		var cas []types.CertAuthority
		err := c.call(context.WithoutCancel(ctx), c.root, "list trusted clusters of "+c.root, func(ctx context.Context, clt *client.Client) (err error) {
			cas, err = clt.GetCertAuthorities(ctx, types.HostCA, false)
			return err
		})
		pools := make(map[string]*x509.CertPool, len(cas))
		for _, ca := range cas {
			pool := x509.NewCertPool()
			for _, kp := range ca.GetTrustedTLSKeyPairs() {
				pool.AppendCertsFromPEM(kp.Cert)
			}
			pools[ca.GetClusterName()] = pool
		}
		return pools, err
	})
}

// client returns the api client for a cluster's auth service, reached through
// the root's proxy. Dialling happens in the background of the first call, so a
// refused connection is reported at once instead of after the dial timeout.
func (c *Cluster) client(ctx context.Context, name string) (*client.Client, error) {
	if now := time.Now(); !now.Before(c.session.ValidUntil) {
		return nil, &SessionExpiredError{Profile: c.profile.ProxyAddr, At: c.session.ValidUntil}
	}
	c.mu.Lock()
	clt, closed := c.clients[name], c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if clt != nil {
		return clt, nil
	}
	pool, err := c.ClusterCAs(ctx, name)
	if err != nil {
		return nil, err
	}
	clt, err = c.connect(name, pool)
	if err != nil {
		return nil, fmt.Errorf("connect to cluster %s through %s: %w", name, c.profile.ProxyAddr, err)
	}
	c.mu.Lock()
	other, closed := c.clients[name], c.closed
	if other == nil && !closed {
		c.clients[name] = clt
	}
	c.mu.Unlock()
	switch {
	case closed:
		_ = clt.Close() // nothing was sent
		return nil, errClosed
	case other != nil: // it was faster
		_ = clt.Close()
		return other, nil
	default:
		return clt, nil
	}
}

var errClosed = errors.New("the session is over: a login or a logout came in between")

func (c *Cluster) connect(name string, pool *x509.CertPool) (*client.Client, error) {
	return client.New(context.Background(), client.Config{
		Dialer: c.dialer(),
		Credentials: []client.Credentials{client.LoadTLS(&tls.Config{
			Certificates: []tls.Certificate{c.session.Cert},
			RootCAs:      pool,
			MinVersion:   tls.VersionTLS12,
		})},
		ALPNSNIAuthDialClusterName: name,
		DialInBackground:           true,
		DialTimeout:                dialTimeout,
		// The api module's own breaker refuses every call for half a minute
		// after an outage is over; gRPC's backoff spares the proxy already.
		CircuitBreakerConfig: breaker.NoopBreakerConfig(),
		DialOpts: []grpc.DialOption{
			// Else gRPC lets 16 MB of a recording wait here for whoever reads it.
			grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
			// gRPC's own default lets the pause grow to 120 s, during which
			// every call fails without a try although the proxy is back.
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
				MinConnectTimeout: dialTimeout,
			}),
		},
	})
}

// dialer dials the proxy, which has the TLS connection to the auth service in it:
// that one is always verified, with the cluster's CA.
func (c *Cluster) dialer() client.ContextDialer {
	addr, upgrade := c.profile.ProxyAddr, c.ConnUpgradeRequired()
	if !upgrade && utils.GetProxyURL(addr) == nil {
		return client.ContextDialerFunc(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return route.Connect(ctx, network, addr)
		})
	}
	through := client.NewDialer(context.Background(), keepAlive, dialTimeout,
		// Only the outer TLS of a connection upgrade, which carries nothing else.
		client.WithInsecureSkipVerify(true), client.WithALPNConnUpgrade(upgrade), client.WithALPNConnUpgradePing(true))
	return client.ContextDialerFunc(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return route.Hedge(ctx, func(ctx context.Context) (net.Conn, error) { return through.DialContext(ctx, network, addr) })
	})
}
