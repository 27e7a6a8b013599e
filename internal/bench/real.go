package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/cluster"
)

// realCluster is a PostgreSQL behind a real Teleport, to compare berth with
// tsh at.
type realCluster struct {
	home, cluster, database, user, name string
	kube                                string
}

func (r *realCluster) flags(fs *flag.FlagSet) {
	fs.StringVar(&r.home, "home", "", "for the group real: a TELEPORT_HOME `folder` that is logged in to a real cluster")
	fs.StringVar(&r.cluster, "cluster", "", "for the group real: the `name` of that cluster")
	fs.StringVar(&r.database, "database", "", "for the group real: the `name` of a PostgreSQL there")
	fs.StringVar(&r.kube, "kube", "", "for the group real: the `name` of a Kubernetes cluster there, to measure kubectl")
	fs.StringVar(&r.user, "db-user", "postgres", "for the group real: the database `user`")
	fs.StringVar(&r.name, "db-name", "postgres", "for the group real: the `name` of the database in it")
}

// tshVar names the folder with the real tsh, as for the end-to-end tests.
const tshVar = "BERTH_E2E_TELEPORT_BIN"

// rival is one of the ways to the same PostgreSQL.
type rival struct {
	name string
	dial func(ctx context.Context) (net.Conn, error)
	pid  int // of the process in between; 0 means none
}

// real compares berth with "tsh proxy db --tunnel" and with neither.
func (b *bench) real(ctx context.Context) (err error) {
	bin := os.Getenv(tshVar)
	if bin == "" || b.options.real.home == "" {
		b.say("  skipped: set %s to the folder that holds tsh, -home and -cluster to a login, and -database to a PostgreSQL or -kube to a Kubernetes cluster behind Teleport", tshVar)
		return nil
	}
	r := b.options.real
	if r.kube != "" {
		if err := b.realKube(ctx, filepath.Join(bin, "tsh")); err != nil {
			return err
		}
	}
	if r.database == "" {
		return nil
	}
	route, err := mintRoute(ctx, r.home, cluster.DBRoute{
		Cluster: r.cluster, Service: r.database, Protocol: protocol, User: r.user, Database: r.name,
	})
	if err != nil {
		return err
	}
	rivals := []rival{{name: "direct", dial: route.Dial}}

	a, err := r.startBerth(ctx, b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	rivals = append(rivals, rival{name: "berth", dial: through(a.addr(0)).dial, pid: a.pid()})

	tsh, addr, err := r.startTSH(ctx, filepath.Join(bin, "tsh"))
	if err != nil {
		return err
	}
	defer func() {
		_ = tsh.Process.Kill()
		_ = tsh.Wait() // it was killed
	}()
	rivals = append(rivals, rival{name: "tsh", dial: through(addr).dial, pid: tsh.Process.Pid})

	if err := b.realIdle(ctx, rivals); err != nil {
		return err
	}
	if err := b.realConnect(ctx, rivals); err != nil {
		return err
	}
	return b.realStream(ctx, rivals)
}

// realKube compares kubectl through berth with what tsh offers.
func (b *bench) realKube(ctx context.Context, tsh string) (err error) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return err
	}
	r := b.options.real
	a, err := launchKube(ctx, b.world, filepath.Join(b.dir, "real-kube"), fmt.Sprintf(
		"version: 1\nhomes: [%q]\ntunnels:\n  - {name: real, kind: kube, engine: native, cluster: %q, resource: %q}\n",
		r.home, r.cluster, r.kube), 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := b.kubeRate(ctx, a, rateRun{tunnel: "real", cluster: r.cluster, kube: r.kube, loads: []rateLoad{
		{"real cluster, a list of pods", "/api/v1/namespaces/default/pods", 1},
		{"real cluster, a list of pods", "/api/v1/namespaces/default/pods", 10},
	}}); err != nil {
		return err
	}
	return b.kubectls(ctx, a, kubectlRun{
		kubectl: kubectl, tsh: tsh, home: r.home, cluster: r.cluster, kube: r.kube, tunnel: "real", real: true,
	})
}

// startBerth runs an agent with one tunnel. The CA of a private web cert is
// known from SSL_CERT_FILE, to all rivals alike.
func (r realCluster) startBerth(ctx context.Context, b *bench) (*agent, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("version: 1\nhomes: [%q]\ntunnels:\n"+
		"  - {name: real, kind: db, engine: native, cluster: %q, resource: %q, db_user: %q, db_name: %q, port: %d}\n",
		r.home, r.cluster, r.database, r.user, r.name, ports[0])
	a, err := launch(ctx, b.binary, filepath.Join(b.dir, "real"), config, ports, &b.load)
	if err != nil {
		return nil, err
	}
	if err := a.awaitTunnels(ctx); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
}

// startTSH runs "tsh proxy db --tunnel" and waits until it listens.
func (r realCluster) startTSH(ctx context.Context, tsh string) (*exec.Cmd, string, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, tsh, "proxy", "db", "--tunnel", "--cluster="+r.cluster, "--db-user="+r.user, "--db-name="+r.name,
		"--port="+strconv.Itoa(ports[0]), r.database)
	cmd.Env = append(os.Environ(), "TELEPORT_HOME="+r.home, "TELEPORT_TOOLS_VERSION=off")
	var said strings.Builder
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	knockCtx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if err := knock(knockCtx, ports); err != nil {
		_ = cmd.Process.Kill()
		return nil, "", fmt.Errorf("start tsh: %w: %w: %s", err, cmd.Wait(), &said)
	}
	return cmd, net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), nil
}

func (b *bench) realIdle(ctx context.Context, rivals []rival) error {
	for _, v := range rivals {
		if v.pid == 0 {
			continue
		}
		got, err := b.rest(ctx, v.pid)
		if err != nil {
			return err
		}
		size, usage := idleRows("real cluster, idle tunnel: "+v.name, []idleAgent{got})
		b.add(size, usage)
	}
	return nil
}

// connectPG logs in to the PostgreSQL.
func (r realCluster) connectPG(ctx context.Context, v rival) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig("host=127.0.0.1 port=1 sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Database = r.user, r.name
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return v.dial(ctx) }
	return pgconn.ConnectConfig(ctx, cfg)
}

// realConnect measures a login to PostgreSQL.
func (b *bench) realConnect(ctx context.Context, rivals []rival) error {
	took := make([][]time.Duration, len(rivals))
	for round := range b.times(100, 5) {
		if round%20 == 0 {
			if err := b.calm(ctx); err != nil {
				return err
			}
		}
		for i, v := range rivals {
			began := time.Now()
			conn, err := b.options.real.connectPG(ctx, v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			took[i] = append(took[i], time.Since(began))
			if err := conn.Close(ctx); err != nil {
				return err
			}
		}
	}
	var parts []string
	for i, v := range rivals {
		parts = append(parts, v.name+" "+ms(median(took[i])))
	}
	b.add(row{what: "real cluster: a login to PostgreSQL (p50)", measured: strings.Join(parts, ", ")})
	return nil
}

// realFlow is how a large result came.
type realFlow struct{ rate, cpu float64 } // MB/s; CPU seconds per GB of the process in between

// realStream measures a large result of PostgreSQL.
func (b *bench) realStream(ctx context.Context, rivals []rival) error {
	got := make([][]realFlow, len(rivals))
	for round := range b.times(7, 1) {
		if err := b.calm(ctx); err != nil {
			return err
		}
		for i := range rivals {
			i = (i + round) % len(rivals)
			f, err := b.copyOut(ctx, rivals[i])
			if err != nil {
				return fmt.Errorf("%s: %w", rivals[i].name, err)
			}
			got[i] = append(got[i], f)
		}
	}
	rates := make([]float64, len(rivals))
	var parts, cpus []string
	for i, v := range rivals {
		rates[i] = median(each(got[i], func(f realFlow) float64 { return f.rate }))
		parts = append(parts, fmt.Sprintf("%s %.0f MB/s", v.name, rates[i]))
		if v.pid != 0 {
			cpus = append(cpus, fmt.Sprintf("%s %.2f", v.name, median(each(got[i], func(f realFlow) float64 { return f.cpu }))))
		}
	}
	b.add(row{
		what: "real cluster: a large result of PostgreSQL", measured: strings.Join(parts, ", "),
		budget: "berth ≥ tsh", verdict: atLeast(rates[1], rates[2]),
	}, row{
		what: "real cluster: CPU-s/GB of the process in between", measured: strings.Join(cpus, ", "),
	})
	return nil
}

// copyOut has PostgreSQL send a large result.
func (b *bench) copyOut(ctx context.Context, v rival) (f realFlow, err error) {
	conn, err := b.options.real.connectPG(ctx, v)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var from, to time.Duration
	if v.pid != 0 {
		if from, err = cpuOf(v.pid); err != nil {
			return f, err
		}
	}
	var n counted
	query := fmt.Sprintf("copy (select repeat('x', 8000) from generate_series(1, %d)) to stdout", b.times(60_000, 6000))
	began := time.Now()
	if _, err := conn.CopyTo(ctx, &n, query); err != nil {
		return f, err
	}
	took := time.Since(began)
	if v.pid != 0 {
		if to, err = cpuOf(v.pid); err != nil {
			return f, err
		}
	}
	return realFlow{rate: float64(n) / 1e6 / took.Seconds(), cpu: (to - from).Seconds() / (float64(n) / 1e9)}, nil
}

// counted counts what is written to it.
type counted int64

var _ io.Writer = (*counted)(nil)

func (c *counted) Write(p []byte) (int, error) {
	*c += counted(len(p))
	return len(p), nil
}
