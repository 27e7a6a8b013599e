package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/cluster"
	"berth/internal/e2elab"
)

// rival is one of the ways to the same PostgreSQL.
type rival struct {
	way
	addr string // empty: without a process in between
	pid  int    // of that; 0 means none
}

// real compares berth with tsh and with neither, on a real cluster.
func (b *bench) real(ctx context.Context) (err error) {
	if os.Getenv(e2elab.BinVar) == "" {
		b.say("  skipped: set %s to the folder that holds teleport, tsh and tctl", e2elab.BinVar)
		return nil
	}
	l, err := b.startLab(ctx, "TestLab")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	b.say("  Teleport %s at %s", l.Version, l.Proxy)
	return errors.Join(b.realDB(ctx, l), b.realIdle(ctx, l), b.realKube(ctx, l))
}

func (b *bench) realDB(ctx context.Context, l *lab) (err error) {
	direct, err := l.directRoute(ctx)
	if err != nil {
		return err
	}
	a, err := b.startReal(ctx, l, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	tsh, addr, err := l.startTSH(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = tsh.Process.Kill()
		_ = tsh.Wait() // it was killed
	}()
	berth := rival{through(a.addr(0)), a.addr(0), a.pid()}
	other := rival{through(addr), addr, tsh.Process.Pid}
	berth.name, other.name = "berth", "tsh"
	rivals := []rival{berth, other, {way: direct}}
	return errors.Join(b.realBytes(ctx, l, rivals), b.realBench(ctx, l, rivals[:2]), b.realConnect(ctx, l, rivals))
}

// directRoute is the way that berth takes, without berth.
func (l *lab) directRoute(ctx context.Context) (way, error) {
	r, err := mintRoute(ctx, l.Home, cluster.DBRoute{
		Cluster: l.Cluster, Service: l.Database, Protocol: protocol, User: l.DBUser, Database: l.DBName,
	})
	if err != nil {
		return way{}, err
	}
	pem, err := os.ReadFile(l.CAFile)
	if err != nil {
		return way{}, err
	}
	r.RootCAs = x509.NewCertPool()
	if !r.RootCAs.AppendCertsFromPEM(pem) {
		return way{}, fmt.Errorf("no certificate in %s", l.CAFile)
	}
	return way{"no hop", r.Dial}, nil
}

// startReal runs an agent with n tunnels to the PostgreSQL, and waits until they
// are ready.
func (b *bench) startReal(ctx context.Context, l *lab, n int) (*agent, error) {
	ports, err := freePorts(n)
	if err != nil {
		return nil, err
	}
	var config strings.Builder
	fmt.Fprintf(&config, "version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, ca_file: %q}\ntunnels:\n", l.Home, l.Proxy, l.CAFile)
	for i, port := range ports {
		fmt.Fprintf(&config, "  - {name: real-%d, kind: db, engine: native, cluster: %q, resource: %q, db_user: %q, db_name: %q, port: %d}\n",
			i, l.Cluster, l.Database, l.DBUser, l.DBName, port)
	}
	b.agents++
	a, err := launch(ctx, b.binary, filepath.Join(b.dir, strconv.Itoa(b.agents)), config.String(), ports, &b.load)
	if err != nil {
		return nil, err
	}
	if err := a.awaitTunnels(ctx); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	return a, nil
}

// startTSH runs "tsh proxy db --tunnel" and waits until it listens.
func (l *lab) startTSH(ctx context.Context) (*exec.Cmd, string, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, l.TSH, "proxy", "db", "--tunnel", "--cluster="+l.Cluster, "--db-user="+l.DBUser,
		"--db-name="+l.DBName, "--port="+strconv.Itoa(ports[0]), l.Database)
	cmd.Env = append(os.Environ(), "TELEPORT_HOME="+l.Home, "TELEPORT_TOOLS_VERSION=off", "SSL_CERT_FILE="+l.CAFile)
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

// connectPG logs in to the PostgreSQL.
func (l *lab) connectPG(ctx context.Context, w way) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig("host=127.0.0.1 port=1 sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Database = l.DBUser, l.DBName
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dial(ctx) }
	return pgconn.ConnectConfig(ctx, cfg)
}

// realIdle shows the memory of an agent with fifty tunnels from its start on.
func (b *bench) realIdle(ctx context.Context, l *lab) (err error) {
	a, err := b.startReal(ctx, l, most)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	began, highest := time.Now(), int64(0)
	for time.Since(began) < b.span(20*time.Second, 5*time.Second) {
		m, err := memoryOf(a.pid())
		if err != nil {
			return err
		}
		highest = max(highest, m.rss)
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	got, err := b.watch(ctx, a.pid(), b.span(40*time.Second, time.Second))
	if err != nil {
		return err
	}
	own := float64(got.rss - got.file)
	size, usage := idleRows(fmt.Sprintf("real cluster, %d tunnels at rest", most), []unused{got})
	size.budget, size.verdict = "≤ 14 MB of its own", within(own, 14e6)
	b.add(row{
		what: fmt.Sprintf("real cluster, %d tunnels: most memory in the first 20 s", most), measured: mb(float64(highest)),
		budget: "≤ 45 MB", verdict: within(float64(highest), 45e6),
	}, size, usage)
	return nil
}

// realKube compares kubectl through berth with what tsh offers.
func (b *bench) realKube(ctx context.Context, l *lab) (err error) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return err
	}
	a, err := launchKube(ctx, b.world, filepath.Join(b.dir, "real-kube"), fmt.Sprintf(
		"version: 1\nhomes: [%q]\nprofiles:\n  - {proxy: %q, ca_file: %q}\n"+
			"tunnels:\n  - {name: real, kind: kube, engine: native, cluster: %q, resource: %q}\n",
		l.Home, l.Proxy, l.CAFile, l.Cluster, l.Kube), 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	return b.kubectls(ctx, a, kubectlRun{
		kubectl: kubectl, tsh: l.TSH, home: l.Home, caFile: l.CAFile, cluster: l.Cluster, kube: l.Kube, tunnel: "real", real: true,
	})
}
