//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simcluster/simdb"
	"berth/internal/simcluster/simkube"
	"berth/proxies"
)

const (
	user     = "alice"
	password = "alice-password"
	dbName   = "app"
	// patience bounds what should take less than a second.
	patience = time.Minute
)

// tunnel is one of the agent's, and what is behind it.
type tunnel struct {
	name     string
	protocol string // of the database; empty means Kubernetes
	resource string
	user     string // of the database
	database string
	port     int
	real     bool // whether real programs are behind it
}

func (t tunnel) addr() string { return fmt.Sprintf("127.0.0.1:%d", t.port) }

// plan is how many tunnels of each protocol there are: thirty in all.
var plan = []struct {
	protocol string
	count    int
}{
	{"postgres", 8}, {"cockroachdb", 1}, {"mysql", 6}, {"redis", 5}, {"mongodb", 1}, {"cassandra", 1},
	{"clickhouse", 1}, {"clickhouse-http", 2}, {"elasticsearch", 2},
	{"", 3},
}

// world is what the agent lives in during a run.
type world struct {
	out    io.Writer
	dir    string
	home   string // TELEPORT_HOME
	base   string // BERTH_HOME
	paths  paths.Paths
	caFile string
	berth  string // the program that the manager runs
	next   string // another version of it
	bus    *bus   // nil where this machine has none
	tray   *tray  // the same
	keep   bool   // the folder
	isRoot bool   // whether it may mount and change the network: of a namespace of its own

	proxy    string // its address
	cluster  string // its name
	password string // the user's

	sim     *simcluster.Cluster // nil where the cluster is real
	lab     *lab                // nil where it is simulated
	tunnels []tunnel
	kubes   map[string]*simkube.Server // by resource
	agent   *manager
	ipc     *client.Client
	ledger  *ledger
	port    int // of Kubernetes
	extra   string
}

// newWorld starts everything but the clients.
func newWorld(ctx context.Context, o options) (_ *world, err error) {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	w := &world{
		out: o.out, dir: dir, home: filepath.Join(dir, "tsh"), base: filepath.Join(dir, "b"),
		caFile: filepath.Join(dir, "web-ca.pem"), berth: filepath.Join(dir, "berth"), next: o.next,
		kubes: make(map[string]*simkube.Server), ledger: newLedger(), isRoot: o.inside, keep: o.keep,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := copyFile(o.berth, w.berth); err != nil {
		return nil, err
	}
	if err := w.startCluster(ctx, o); err != nil {
		return nil, err
	}
	if w.paths, err = paths.Resolve(func(key string) string { return map[string]string{paths.HomeVar: w.base}[key] }); err != nil {
		return nil, err
	}
	if w.isRoot {
		if err := mountOn(w.base); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.paths.MakeDirs(), w.makeTSH()); err != nil {
		return nil, err
	}
	if w.sim != nil {
		if err := w.login(); err != nil {
			return nil, err
		}
	}
	if err := w.writeConfig(); err != nil {
		return nil, err
	}
	if w.bus, err = startBus(ctx, dir); err != nil {
		fmt.Fprintln(w.out, "without a message bus, and so without a tray:", err)
	}
	if w.agent, err = newManager(dir, w.berth, w.env()); err != nil {
		return nil, err
	}
	w.ipc = client.Dial(w.paths.Socket)
	return w, nil
}

// close removes what newWorld made.
func (w *world) close() error {
	var errs []error
	if w.ipc != nil {
		errs = append(errs, w.ipc.Close())
	}
	if w.bus != nil {
		w.bus.stop()
	}
	if w.sim != nil {
		errs = append(errs, w.sim.Close())
	}
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	if w.keep {
		fmt.Fprintln(w.out, "kept:", w.dir)
		for _, name := range []string{w.paths.LogFile, filepath.Join(filepath.Dir(w.paths.LogFile), "tray.log")} {
			_ = copyFile(name, filepath.Join(w.dir, filepath.Base(name))) // the folder may be one of this run's namespace
		}
		return errors.Join(errs...)
	}
	if w.isRoot {
		_ = unix.Unmount(w.base, unix.MNT_DETACH) // it may not have been mounted yet
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// tsh is the program that stands in for tsh: this one, under that name.
func (w *world) tsh() string {
	if w.lab != nil {
		return w.lab.TSH
	}
	return filepath.Join(w.dir, "bin", "tsh")
}

func (w *world) makeTSH() error {
	if w.lab != nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(w.tsh()), 0o700); err != nil {
		return err
	}
	return os.Symlink(self, w.tsh())
}

// env is the environment of berth and its clients.
func (w *world) env() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "BERTH_"), strings.HasPrefix(name, "TELEPORT_"), strings.HasPrefix(name, "PG"),
			strings.HasPrefix(name, "DBUS_"), strings.HasPrefix(name, "XDG_"), name == "HOME", name == "KUBECONFIG", name == "DISPLAY":
			continue
		}
		env = append(env, kv)
	}
	env = append(env, "HOME="+w.dir, paths.HomeVar+"="+w.base, "TELEPORT_HOME="+w.home)
	if w.bus != nil {
		env = append(env, "DBUS_SESSION_BUS_ADDRESS="+w.bus.address)
	}
	return env
}

func (w *world) startCluster(ctx context.Context, o options) error {
	if o.real {
		return w.startReal(ctx, o)
	}
	return w.startSimulated()
}

// freePorts returns what finds one free port after the other.
func freePorts() func() int {
	port := 15000 + os.Getpid()%8000
	return func() int {
		for port++; proxies.PortBusy(port); port++ {
			continue
		}
		return port
	}
}

func (w *world) startSimulated() error {
	cfg := simcluster.Config{
		Name: "chaos.test", PingInterval: 10 * time.Second, SessionTTL: 12 * time.Hour,
		Users: []simcluster.User{{Name: user, Password: password}},
		Roles: []simcluster.Role{
			{Name: "access", KubeGroups: []string{"system:masters"}, Request: simcluster.RequestRules{Roles: []string{"dba"}}},
			{Name: "dba", KubeGroups: []string{"system:masters"}},
			{Name: "outsider", NoDatabases: true, NoKubes: true},
		},
	}
	free := freePorts()
	w.port = free()
	for _, p := range plan {
		for i := range p.count {
			name := fmt.Sprintf("%s-%d", p.protocol, i+1)
			if p.protocol == "" {
				name = fmt.Sprintf("kube-%d", i+1)
			}
			t := tunnel{name: name, protocol: p.protocol, resource: name, user: user, database: dbName, port: w.port}
			if p.protocol == "redis" {
				t.database = "0"
			}
			if p.protocol == "" {
				w.kubes[name] = simkube.New(simkube.Config{Name: name, LogInterval: -1, BookmarkInterval: time.Hour})
				cfg.Kubes = append(cfg.Kubes, simcluster.Kube{Name: name, Handler: kubeHandler(name, w.kubes[name])})
			} else {
				t.port = free()
				cfg.Databases = append(cfg.Databases, simcluster.Database{Name: name, Protocol: p.protocol, Backend: backendOf(p.protocol, name)})
			}
			w.tunnels = append(w.tunnels, t)
		}
	}
	var err error
	if w.sim, err = simcluster.Start(cfg); err != nil {
		return err
	}
	w.proxy, w.cluster, w.password = w.sim.ProxyAddr(), w.sim.Name(), password
	return w.sim.WriteWebCA(w.caFile)
}

// backendOf returns the server of a database: it knows its own name.
func backendOf(protocol, name string) simdb.Backend {
	switch protocol {
	case "clickhouse-http", "elasticsearch", "opensearch", "dynamodb":
		return webBackend{name}
	case "redis":
		return newNamedRedis(name)
	default:
		return simdb.ForProtocol(protocol)
	}
}

// login does what "tsh login" does.
func (w *world) login() error {
	if w.lab != nil {
		return w.lab.does("login")
	}
	return w.sim.Login(w.home, user)
}

// config is the config file, with a comment that makes it another one.
func (w *world) config(comment string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\nversion: 1\nhomes: [%q]\nkube: {port: %d}\nmetrics: {enabled: true, pprof: true}\ntsh: {path: %q}\n"+
		"profiles:\n  - {proxy: %q, ca_file: %q}\n%stunnels:\n",
		comment, w.home, w.port, w.tsh(), w.proxy, w.caFile, w.extra)
	for _, t := range w.tunnels {
		if t.protocol == "" {
			fmt.Fprintf(&b, "  - {name: %s, kind: kube, cluster: %s, resource: %s}\n", t.name, w.cluster, t.resource)
			continue
		}
		fmt.Fprintf(&b, "  - {name: %s, kind: db, cluster: %s, resource: %s, db_user: %s, db_name: %q, port: %d}\n",
			t.name, w.cluster, t.resource, t.user, t.database, t.port)
	}
	return b.String()
}

func (w *world) writeConfig() error {
	return os.WriteFile(w.paths.Config, []byte(w.config("as it was")), 0o600)
}

// ready waits until every tunnel is.
func (w *world) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last state.Snapshot
	for s, err := range w.ipc.Follow(ctx) {
		if err != nil {
			continue // the agent is not there yet
		}
		if last = s; w.allReady(s) {
			return nil
		}
	}
	for _, t := range last.Tunnels {
		if t.State != state.TunnelReady && t.Problem != nil {
			return fmt.Errorf("tunnel %s is %s: %s", t.Name, t.State, t.Problem.Text)
		}
	}
	return fmt.Errorf("of %d tunnels not all are ready: %w", len(last.Tunnels), context.Cause(ctx))
}

func (w *world) allReady(s state.Snapshot) bool {
	n := 0
	for _, t := range s.Tunnels {
		if t.State == state.TunnelReady {
			n++
		}
	}
	return n == len(w.tunnels)
}

// untilReady waits until every tunnel is ready, and returns how long after a moment
// that was. It takes twice the time that a fault has to settle at most.
func (w *world) untilReady(ctx context.Context, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*settleTime)
	defer cancel()
	for s, err := range w.ipc.Follow(ctx) {
		if err == nil && w.allReady(s) {
			return time.Since(since), nil
		}
	}
	return 0, fmt.Errorf("tunnels are not ready: %w", context.Cause(ctx))
}

// runBerth runs one of berth's commands, which has to succeed.
func (w *world) runBerth(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := w.command(ctx, w.berth, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("berth %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// copyFile copies a program under a name that then changes at once.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", data, 0o755); err != nil { //nolint:gosec // G306: a program
		return err
	}
	return os.Rename(to+".new", to)
}
