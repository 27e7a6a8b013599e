package simcluster

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Counters counts the events of a cluster so far. Databases are named by
// their service name, those of a leaf as "leaf/service".
type Counters struct {
	Accepted     int            // TCP connections accepted by the proxy
	Open         int            // of those, still open
	Logins       int            // sessions issued, Cluster.Login included
	FailedLogins int            // wrong passwords and the like
	Mints        map[string]int // certs issued by route: "db/pg", "kube/prod", "" for a plain reissue
	DBOpen       map[string]int // database connections open
	DBTotal      map[string]int // database connections so far
	// DBOffers are the ALPN protocols that the last client of a database offered.
	DBOffers  map[string][]string
	KubeTotal map[string]int // requests to Kubernetes clusters so far
	RPCs      map[string]int // calls of the auth services by bare method name
	Upgrades  int            // connection upgrades
	Pings     int            // pings sent on "-ping" protocols
}

type counters struct {
	accepted, logins, failedLogins, upgrades, pings atomic.Int64

	mu                           sync.Mutex
	mints, dbOpen, dbTotal, rpcs map[string]int
	kubeTotal                    map[string]int
	dbOffers                     map[string][]string
}

func count(m *map[string]int, key string, n int) {
	if *m == nil {
		*m = make(map[string]int)
	}
	(*m)[key] += n
}

func (c *counters) minted(route string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.mints, route, 1)
}

func (c *counters) called(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.rpcs, method, 1)
}

// dbOpened counts a database connection; the func returned counts its end.
func (c *counters) dbOpened(key string, offered []string) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dbOffers == nil {
		c.dbOffers = make(map[string][]string)
	}
	c.dbOffers[key] = offered
	count(&c.dbOpen, key, 1)
	count(&c.dbTotal, key, 1)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		count(&c.dbOpen, key, -1)
	}
}

// kubeAsked counts a request to a Kubernetes cluster.
func (c *counters) kubeAsked(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.kubeTotal, key, 1)
}

// Counters returns what has happened so far.
func (c *Cluster) Counters() Counters {
	c.mu.Lock()
	open := len(c.conns)
	c.mu.Unlock()
	n := &c.counters
	n.mu.Lock()
	defer n.mu.Unlock()
	return Counters{
		Accepted:     int(n.accepted.Load()),
		Open:         open,
		Logins:       int(n.logins.Load()),
		FailedLogins: int(n.failedLogins.Load()),
		Mints:        maps.Clone(n.mints),
		DBOpen:       maps.Clone(n.dbOpen),
		DBTotal:      maps.Clone(n.dbTotal),
		DBOffers:     maps.Clone(n.dbOffers),
		KubeTotal:    maps.Clone(n.kubeTotal),
		RPCs:         maps.Clone(n.rpcs),
		Upgrades:     int(n.upgrades.Load()),
		Pings:        int(n.pings.Load()),
	}
}
