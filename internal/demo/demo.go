// Package demo is what berth-demo runs: a simulated Teleport cluster and a real
// agent in one process, so that berth can be tried on a machine that has
// neither.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/agent"
	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/logfile"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/proxies"
	"berth/proxies/db"
)

// Options say how to run the demo.
type Options struct {
	Out     io.Writer
	Version string
	// Berth is the program that the printed lines call; empty means the one
	// beside this program, else the one on PATH.
	Berth string
	// StandIns has stand-ins answer for databases whose real servers this machine
	// has.
	StandIns bool
	// NewEngine makes a database in this process, for the stand-ins; without it
	// they have no tables.
	NewEngine func(database string) (Engine, error)
	// Check takes the tour without a person.
	Check bool
	// ClusterOnly leaves the agent to someone else: the demo prints the
	// BERTH_HOME whose config leads to its databases, and ends when Lifeline does.
	ClusterOnly bool
	Lifeline    io.Reader
	// Policy is this machine's. The demo's agent is not bound by it, since it leads
	// to nothing but the demo's own cluster; the demo says so where there is one.
	Policy config.PolicyFile
	// SessionTTL is how long a session of the simulated cluster lasts, at
	// least minSessionTTL.
	SessionTTL time.Duration
}

// minSessionTTL is the shortest session with which there is time to look at
// anything between two renewals.
const minSessionTTL = 3 * time.Second

// ErrShortSession is the error for a session shorter than minSessionTTL.
var ErrShortSession = errors.New("the session is too short")

// startWait bounds how long the demo's parts may take to be ready.
const startWait = time.Minute

// Who logs in to the simulated cluster, and with what.
const (
	user     = "alice"
	password = "demo"
)

// Run runs the demo until ctx ends, or with Check until the tour is done; a
// tour that was cut short is an error. It leaves nothing behind.
func Run(ctx context.Context, o Options) (err error) {
	if o.SessionTTL < minSessionTTL {
		return fmt.Errorf("%w: %s, use %s or more", ErrShortSession, o.SessionTTL, minSessionTTL)
	}
	dir, err := os.MkdirTemp("", "berth-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	d := &demo{Options: o, dir: dir, tshHome: filepath.Join(dir, "tsh"), servers: make(map[string]*server)}
	defer func() { err = errors.Join(err, d.clean()) }()
	if !o.Check && !o.ClusterOnly {
		fmt.Fprintln(o.Out, "Starting databases, a cluster and an agent ...")
	}
	if err = d.prepare(ctx); err == nil {
		err = d.run(ctx)
	}
	if ctx.Err() != nil && !o.Check {
		err = nil // Ctrl-C is how a demo ends
	}
	return err
}

// run runs the demo's parts until one of them ends.
func (d *demo) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	if !d.ClusterOnly {
		g.Go(func() error { return d.runAgent(gctx) })
	}
	g.Go(func() error { return d.renew(gctx) })
	g.Go(func() error { return d.decide(gctx) })
	for _, s := range d.servers {
		if s.program != nil {
			g.Go(func() error { return s.program.watch(gctx) })
		}
	}
	g.Go(func() error {
		defer cancel()
		if d.ClusterOnly {
			return d.lend(gctx)
		}
		return d.show(gctx)
	})
	return g.Wait()
}

// clean removes whatever the demo made.
func (d *demo) clean() error {
	var errs []error
	if d.sim != nil {
		errs = append(errs, d.sim.Close())
	}
	for _, s := range d.servers {
		errs = append(errs, s.close())
	}
	errs = append(errs, os.RemoveAll(d.dir))
	// A socket's path is short; in a long temporary folder it lives elsewhere.
	if dir := d.paths.SocketDir(); dir != "" && dir != "." && !strings.HasPrefix(dir, d.dir) {
		if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

type demo struct {
	Options
	dir, tshHome string
	paths        paths.Paths
	sim          *simcluster.Cluster
	servers      map[string]*server // by protocol
	missing      []string           // packages of the servers that this machine does not have
	failed       []string           // sentences about servers that do not start
	renewals     atomic.Int64
}

func databases() []simcluster.Database {
	return []simcluster.Database{
		{Name: "orders", Protocol: "postgres", Description: "orders", Labels: map[string]string{"env": "demo"}},
		{Name: "shop", Protocol: "mysql", Description: "web shop", Labels: map[string]string{"env": "demo"}},
		{Name: "cache", Protocol: "redis", Description: "session cache", Labels: map[string]string{"env": "demo"}},
	}
}

// kubes are the Kubernetes clusters of the demo, each with a stand-in for its
// API server.
func kubes() []simcluster.Kube {
	return []simcluster.Kube{{Name: "harbor", Labels: map[string]string{"env": "demo"}}}
}

// prepare starts the databases and the cluster, logs in, and writes a config with a tunnel to
// each database and each Kubernetes cluster.
func (d *demo) prepare(ctx context.Context) error {
	if err := d.startServers(ctx); err != nil {
		return err
	}
	dbs := databases()
	for i := range dbs {
		dbs[i].Backend = d.servers[dbs[i].Protocol].backend
	}
	sim, err := simcluster.Start(simcluster.Config{
		Name: "demo.berth", SessionTTL: d.SessionTTL, Databases: dbs, Kubes: kubes(), Roles: roles(),
		Users: []simcluster.User{{Name: user, Password: password}},
	})
	if err != nil {
		return fmt.Errorf("start simulated cluster: %w", err)
	}
	d.sim = sim
	for i, name := range []string{"ssh", "kube", "db", "command"} {
		session, err := simcluster.Golden(name, user, time.Now().Add(-time.Duration(i+1)*time.Hour))
		if err != nil {
			return err
		}
		d.sim.Record(session)
	}
	if err := d.sim.Login(d.tshHome, user); err != nil {
		return fmt.Errorf("log in to the simulated cluster: %w", err)
	}
	return d.configure()
}

func (d *demo) configure() error {
	p, err := paths.Resolve(func(key string) string {
		if key == paths.HomeVar {
			return d.berthHome()
		}
		return os.Getenv(key) // as another terminal will resolve them
	})
	if err != nil {
		return err
	}
	d.paths = p
	if err := p.MakeDirs(); err != nil {
		return err
	}
	if !d.ClusterOnly {
		if err := os.WriteFile(p.Demo(), nil, 0o600); err != nil {
			return fmt.Errorf("mark the demo's folder: %w", err)
		}
	}
	caFile := filepath.Join(d.dir, "web-ca.pem")
	if err := d.sim.WriteWebCA(caFile); err != nil {
		return err
	}
	tsh, err := d.makeTSH()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("version: 1\nhomes: [%q]\ntsh: {path: %q}\nprofiles:\n  - {proxy: %q, ca_file: %q}\n",
		d.tshHome, tsh, d.sim.ProxyAddr(), caFile)
	if err := os.WriteFile(p.Config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the demo's config: %w", err)
	}
	names := map[string]string{"orders": "demo-pg", "shop": "demo-mysql", "cache": "demo-redis"}
	used := make(map[int]bool)
	for _, database := range databases() {
		spec := state.TunnelSpec{
			Name: names[database.Name], Kind: state.KindDB, Cluster: d.sim.Name(), Resource: database.Name,
			DBUser: user, DBName: "app",
		}
		spec.Port = d.freePort(spec, used)
		if database.Protocol == "redis" {
			spec.DBName = "0"
		}
		if err := config.AddTunnel(p.Config, spec); err != nil {
			return err
		}
	}
	if d.ClusterOnly {
		return nil // the agent of another would keep the key of its local CA in the keychain
	}
	for _, k := range kubes() {
		// Not the port that Kubernetes tunnels share: another berth may use it.
		spec := state.TunnelSpec{Name: kubeTunnel, Kind: state.KindKube, Cluster: d.sim.Name(), Resource: k.Name}
		spec.Port = d.freePort(spec, used)
		if err := config.AddTunnel(p.Config, spec); err != nil {
			return err
		}
	}
	return nil
}

// freePort returns a port that is neither used nor busy, and adds it to used. It
// follows from the demo's folder too, so that two demos that start at once do
// not choose the same one.
func (d *demo) freePort(spec state.TunnelSpec, used map[int]bool) int {
	port := proxies.DerivePort(filepath.Base(d.dir), string(spec.Kind), spec.Resource, func(port int) bool {
		return used[port] || proxies.PortBusy(port)
	})
	used[port] = true
	return port
}

// kubeTunnel is the name of the tunnel to Kubernetes.
const kubeTunnel = "demo-kube"

func (d *demo) berthHome() string { return filepath.Join(d.dir, "berth") }

func (d *demo) runAgent(ctx context.Context) error {
	log, closeLog := logfile.New(d.paths.LogFile, slog.LevelDebug, nil, nil)
	defer closeLog()
	return agent.Run(ctx, agent.Options{Paths: d.paths, Version: d.Version, Logger: log})
}

// renew logs in again within two thirds of each session, which ends on a whole second
// and so up to one early, as a person with tsh in a terminal would, so that certificates change while connections are open. A user
// who has logged out stays logged out, and assumed requests stay assumed.
func (d *demo) renew(ctx context.Context) error {
	every := time.NewTicker((d.SessionTTL - time.Second) * 2 / 3)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		s := d.session()
		if s == nil {
			continue
		}
		if err := d.sim.Login(d.tshHome, user, simcluster.WithRequests(s.Identity.ActiveRequests...)); err != nil {
			return fmt.Errorf("renew the simulated login: %w", err)
		}
		d.renewals.Add(1)
	}
}

// session returns the session in the home, which may have expired; nil means
// that the user is logged out.
func (d *demo) session() *certwatch.Session {
	profiles, err := certwatch.Load(d.tshHome)
	if err != nil {
		return nil
	}
	for _, p := range profiles {
		if p.Session != nil {
			return p.Session
		}
	}
	return nil
}

// homeMark begins the line that says where the config is.
const homeMark = "BERTH_HOME="

// lend says where the config is, and keeps the cluster until the lifeline ends.
func (d *demo) lend(ctx context.Context) error {
	if _, err := fmt.Fprintln(d.Out, homeMark+d.berthHome()); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, d.Lifeline)
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

// show waits until the tunnels are ready and then takes the tour, or tells a
// person how to.
func (d *demo) show(ctx context.Context) error {
	tunnels, err := d.awaitReady(ctx)
	if err != nil {
		return err
	}
	if d.Check {
		return d.tour(ctx, tunnels)
	}
	if err := d.explain(tunnels); err != nil {
		return err
	}
	return d.narrate(ctx)
}

// awaitReady returns the tunnels when all of them are ready.
func (d *demo) awaitReady(parent context.Context) (_ []state.Tunnel, err error) {
	ctx, cancel := context.WithTimeout(parent, startWait)
	defer cancel()
	c := client.Dial(d.paths.Socket)
	defer func() { err = errors.Join(err, c.Close()) }()
	var last state.Snapshot
	for s, err := range c.Follow(ctx) {
		if err != nil {
			continue // the agent is still starting
		}
		last = s
		ready := 0
		for _, t := range s.Tunnels {
			if t.State == state.TunnelReady {
				ready++
			}
		}
		if ready == len(databases())+len(kubes()) {
			return s.Tunnels, nil
		}
	}
	if parent.Err() != nil {
		return nil, parent.Err()
	}
	for _, t := range last.Tunnels {
		if t.Problem != nil {
			return nil, fmt.Errorf("the demo's tunnels are not ready: %s", t.Problem.Text)
		}
	}
	return nil, fmt.Errorf("the demo's tunnels are not ready after %s", startWait)
}

func endpointOf(t state.Tunnel) (db.Protocol, db.Endpoint, error) {
	proto, ok := db.Lookup(t.Protocol)
	if !ok {
		return db.Protocol{}, db.Endpoint{}, fmt.Errorf("tunnel %s has the unknown protocol %q", t.Name, t.Protocol)
	}
	ep := db.Endpoint{TunnelName: t.Name, DBUser: user, DBName: "app"}
	if t.Protocol == "redis" {
		ep.DBName = "0"
	}
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return proto, ep, fmt.Errorf("address of tunnel %s: %w", t.Name, err)
	}
	ep.Host = host
	ep.Port, err = strconv.Atoi(port)
	return proto, ep, err
}
