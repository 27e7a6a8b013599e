// Package demo is "berth demo": a simulated Teleport cluster and a real agent
// in one process, so that berth can be tried on a machine that has neither.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/agent"
	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
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
	// Check takes the tour without a person.
	Check bool
	// SessionTTL is how long a session of the simulated cluster lasts.
	SessionTTL time.Duration
}

// startWait bounds how long the demo's parts may take to be ready.
const startWait = 15 * time.Second

const user = "alice"

// Run runs the demo until ctx ends, or with Check until the tour is done. It
// leaves nothing behind.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "berth-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{Options: o, dir: dir, tshHome: filepath.Join(dir, "tsh")}
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.sim.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.runAgent(gctx) })
	g.Go(func() error { return d.renew(gctx) })
	g.Go(func() error {
		defer cancel()
		return d.show(gctx)
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

type demo struct {
	Options
	dir, tshHome string
	paths        paths.Paths
	sim          *simcluster.Cluster
	renewals     counter
}

func databases() []simcluster.Database {
	return []simcluster.Database{
		{Name: "orders", Protocol: "postgres", Description: "orders, simulated", Labels: map[string]string{"env": "demo"}},
		{Name: "shop", Protocol: "mysql", Description: "web shop, simulated", Labels: map[string]string{"env": "demo"}},
		{Name: "cache", Protocol: "redis", Description: "session cache, simulated", Labels: map[string]string{"env": "demo"}},
	}
}

// prepare starts the cluster, logs in, and writes a config with a tunnel to
// each database.
func (d *demo) prepare() error {
	sim, err := simcluster.Start(simcluster.Config{
		Name: "demo.berth", SessionTTL: d.SessionTTL, Databases: databases(),
	})
	if err != nil {
		return fmt.Errorf("start simulated cluster: %w", err)
	}
	d.sim = sim
	if err := d.configure(); err != nil {
		return errors.Join(err, sim.Close())
	}
	return nil
}

func (d *demo) configure() error {
	caFile := filepath.Join(d.dir, "web-ca.pem")
	if err := d.sim.WriteWebCA(caFile); err != nil {
		return err
	}
	if err := d.sim.Login(d.tshHome, user); err != nil {
		return fmt.Errorf("log in to the simulated cluster: %w", err)
	}
	env := map[string]string{paths.HomeVar: filepath.Join(d.dir, "berth")}
	p, err := paths.Resolve(func(key string) string { return env[key] })
	if err != nil {
		return err
	}
	d.paths = p
	if err := p.MakeDirs(); err != nil {
		return err
	}
	text := fmt.Sprintf("version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, ca_file: %q}\n",
		d.tshHome, d.sim.ProxyAddr(), caFile)
	if err := os.WriteFile(p.Config, []byte(text), 0o600); err != nil {
		return err
	}
	names := map[string]string{"orders": "demo-pg", "shop": "demo-mysql", "cache": "demo-redis"}
	for _, database := range databases() {
		spec := config.Tunnel{
			Name: names[database.Name], Kind: state.KindDB, Cluster: d.sim.Name(), Resource: database.Name,
			DBUser: user, DBName: "app",
		}
		spec.Port = proxies.DerivePort(spec.Cluster, string(spec.Kind), spec.Resource, func(port int) bool {
			return proxies.PortBusy(port)
		})
		if database.Protocol == "redis" {
			spec.DBName = "0"
		}
		if err := config.AddTunnel(p.Config, spec); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) runAgent(ctx context.Context) error {
	log, closeLog := logfile.New(d.paths.LogFile, slog.LevelDebug, nil)
	defer closeLog()
	return agent.Run(ctx, agent.Options{Paths: d.paths, Version: d.Version, Logger: log})
}

// renew logs in anew at two thirds of each session, as a person with tsh in a
// terminal would, so that certificates change while connections are open.
func (d *demo) renew(ctx context.Context) error {
	every := time.NewTicker(d.SessionTTL * 2 / 3)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		if err := d.sim.Login(d.tshHome, user); err != nil {
			return fmt.Errorf("renew the simulated login: %w", err)
		}
		n := d.renewals.add()
		if !d.Check {
			fmt.Fprintf(d.Out, "%s  new login no. %d: every tunnel has a new cert, open connections go on\n",
				time.Now().Format("15:04:05"), n)
		}
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
	<-ctx.Done()
	return nil
}

func (d *demo) awaitReady(ctx context.Context) ([]state.Tunnel, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	c := client.Dial(d.paths.Socket)
	defer c.Close()
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
		if ready == len(databases()) {
			return s.Tunnels, nil
		}
	}
	for _, t := range last.Tunnels {
		if t.Problem != nil {
			return nil, fmt.Errorf("the demo's tunnels are not ready: %s", t.Problem.Text)
		}
	}
	return nil, fmt.Errorf("the demo's tunnels are not ready: %w", context.Cause(ctx))
}

// explain prints what to paste.
func (d *demo) explain(tunnels []state.Tunnel) error {
	fmt.Fprintf(d.Out, `berth demo: a simulated Teleport cluster, an agent, and %d tunnels on this machine.

In another terminal:

  export BERTH_HOME=%s
  berth status

`, len(tunnels), filepath.Join(d.dir, "berth"))
	for _, t := range tunnels {
		cmd, err := clientCommand(t)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.Out, "  %s\n", cmd)
	}
	_, err := fmt.Fprintf(d.Out, `
A session lasts %s and is renewed while you work: keep a client open and watch
it go on. Ctrl-C ends the demo and removes everything.

`, d.SessionTTL)
	return err
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

func clientCommand(t state.Tunnel) (string, error) {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return "", err
	}
	argv, err := proto.ClientCommand(ep)
	return db.Quote(argv), err
}
