package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"berth/agent/cluster"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/proxies/db"
	"berth/proxies/route"
)

const (
	user     = "alice"
	dbName   = "app"
	protocol = "postgres" // carried as plain bytes; the backend speaks its own
	// most is how many databases, and so tunnels, there are.
	most = 50
	// pingEvery is how often Teleport's proxy pings.
	pingEvery = 30 * time.Second
	// startWait bounds what should take less than a second.
	startWait = 60 * time.Second
)

// world is the agent's surroundings during a measurement: a simulated cluster, a home that is
// logged in to it, and a way to its databases without berth.
type world struct {
	binary  string // berth
	dir     string
	home    string // TELEPORT_HOME
	caFile  string
	sim     *simcluster.Cluster
	backend *bulk
	direct  route.Route // to the first database
	load    *loadMeter
	agents  int // started so far
}

func databaseName(i int) string { return fmt.Sprintf("db-%02d", i+1) }

func newWorld(ctx context.Context, berth string, load *loadMeter) (_ *world, err error) {
	berth, err = filepath.Abs(berth)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(berth); err != nil {
		return nil, fmt.Errorf("the berth binary: %w", err)
	}
	// The name is short because sockets are to lie in it.
	dir, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{
		binary: berth, dir: dir, home: filepath.Join(dir, "tsh"), caFile: filepath.Join(dir, "web-ca.pem"),
		backend: &bulk{}, load: load,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	var databases []simcluster.Database
	for i := range most {
		databases = append(databases, simcluster.Database{Name: databaseName(i), Protocol: protocol, Backend: w.backend})
	}
	var kubes []simcluster.Kube
	for i := range mostKubes {
		kubes = append(kubes, simcluster.Kube{Name: kubeName(i)})
	}
	if w.sim, err = simcluster.Start(simcluster.Config{
		Databases: databases, Kubes: kubes, KubeHandler: kubeUpstream(), PingInterval: pingEvery,
	}); err != nil {
		return nil, err
	}
	if err := w.sim.WriteWebCA(w.caFile); err != nil {
		return nil, err
	}
	if err := w.sim.Login(w.home, user); err != nil {
		return nil, err
	}
	w.direct, err = w.directRoute(ctx)
	return w, err
}

func (w *world) close() error {
	var err error
	if w.sim != nil {
		err = w.sim.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// directRoute is the route to the first database that a tunnel of an agent
// takes, with a cert minted in the same way.
func (w *world) directRoute(ctx context.Context) (route.Route, error) {
	r, err := mintRoute(ctx, w.home, cluster.DBRoute{
		Cluster: w.sim.Name(), Service: databaseName(0), Protocol: protocol, User: user, Database: dbName,
	})
	r.RootCAs = w.sim.WebCAPool()
	return r, err
}

// mintRoute mints a cert for a database with the session in home. A user who may
// vouch for the proxy is left to the caller.
func mintRoute(ctx context.Context, home string, to cluster.DBRoute) (_ route.Route, err error) {
	p, err := loadProfile(ctx, home, to.Cluster)
	if err != nil {
		return route.Route{}, err
	}
	proto, ok := db.Lookup(to.Protocol)
	if !ok {
		return route.Route{}, fmt.Errorf("unknown protocol %q", to.Protocol)
	}
	c, err := cluster.New(cluster.Config{Profile: p, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return route.Route{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cert, err := c.DBCert(ctx, to)
	if err != nil {
		return route.Route{}, err
	}
	return route.Route{ProxyAddr: p.ProxyAddr, ALPN: proto.ALPN, Cert: cert.TLS}, nil
}

// loadProfile returns the profile in home that is logged in to a cluster.
func loadProfile(ctx context.Context, home, clusterName string) (*certwatch.Profile, error) {
	for began := time.Now(); ; {
		profiles, err := certwatch.Load(home)
		if err != nil {
			return nil, err
		}
		settling := false
		for _, p := range profiles {
			if p.RootCluster == clusterName && p.Session != nil {
				return p, nil
			}
			settling = settling || p.Settling
		}
		if !settling || time.Since(began) > startWait {
			return nil, fmt.Errorf("no session for %s in %s", clusterName, home)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil { // it was written just now
			return nil, err
		}
	}
}

// way is one of the two ways to the first database.
type way struct {
	name string
	dial func(context.Context) (net.Conn, error)
}

// without is the way without berth.
func (w *world) without() way {
	return way{"direct", w.direct.Dial}
}

// through is the way through a tunnel.
func through(addr string) way {
	return way{"tunnel", func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}}
}
