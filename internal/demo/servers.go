package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"

	"berth/internal/plain"
	"berth/internal/simcluster/simdb"
)

// serversWait is how long the real servers may take to start.
const serversWait = time.Minute

// An Engine is a database in this process that knows MySQL's protocol and SQL.
type Engine interface {
	Dial(ctx context.Context) (net.Conn, error)
	Query(ctx context.Context, database, sql string) (*simdb.Result, error)
	Close() error
}

// server is what answers for one of the demo's databases.
type server struct {
	title   string // its name for people
	backend simdb.Backend
	program *program // nil unless a real server runs
	close   func() error
}

// kind is a kind of database of the demo.
type kind struct {
	protocol string
	title    string
	install  string // the package of the real server, as Debian names it
	real     func(ctx context.Context, parent string) (*realServer, error)
	forward  func(simdb.Dialer) simdb.Backend
	standIn  func(*demo, context.Context) (*server, error)
}

func serverKinds() []kind {
	return []kind{
		{
			"postgres", "PostgreSQL", "postgresql", startPostgres,
			func(d simdb.Dialer) simdb.Backend { return simdb.ForwardPostgres{Dial: d} }, (*demo).standInPostgres,
		},
		{
			"mysql", "MariaDB", "mariadb-server", startMySQL,
			func(d simdb.Dialer) simdb.Backend { return simdb.ForwardMySQL{Dial: d} }, (*demo).standInMySQL,
		},
		{
			"redis", "Redis", "redis-server", startRedis,
			func(d simdb.Dialer) simdb.Backend { return simdb.Forward{Dial: d} }, (*demo).standInRedis,
		},
	}
}

// startServers starts a server for each database: one of this machine's if it
// has it, else a stand-in.
func (d *demo) startServers(ctx context.Context) error { return d.startEach(ctx, serverKinds()) }

func (d *demo) startEach(ctx context.Context, kinds []kind) error {
	errs := make([]error, len(kinds))
	if !d.StandIns {
		errs = d.startRealServers(ctx, kinds)
	}
	for i, k := range kinds {
		if d.servers[k.protocol] != nil {
			continue
		}
		switch err := errs[i]; {
		case err == nil: // stand-ins are wanted
		case ctx.Err() != nil:
			return fmt.Errorf("start %s: %w", k.title, err)
		case errors.Is(err, errNotInstalled):
			d.missing = append(d.missing, k.install)
		default:
			d.failed = append(d.failed,
				fmt.Sprintf("A stand-in answers for %s, which does not start: %s", k.title, plain.Line(err.Error())))
		}
		s, err := k.standIn(d, ctx)
		if err != nil {
			return err
		}
		d.servers[k.protocol] = s
	}
	return nil
}

// startRealServers starts what this machine has, all at once, and returns why
// each of the others is not there.
func (d *demo) startRealServers(ctx context.Context, kinds []kind) []error {
	ctx, cancel := context.WithTimeout(ctx, serversWait)
	defer cancel()
	reals, errs := make([]*realServer, len(kinds)), make([]error, len(kinds))
	var wg sync.WaitGroup
	for i, k := range kinds {
		wg.Go(func() { reals[i], errs[i] = k.real(ctx, d.dir) })
	}
	wg.Wait()
	for i, k := range kinds {
		if r := reals[i]; r != nil {
			d.servers[k.protocol] = &server{
				title: r.title, backend: k.forward(r.dial), program: r.program, close: r.program.close,
			}
		}
	}
	return errs
}

func noClose() error { return nil }

// standInRedis is a Redis in this process.
func (d *demo) standInRedis(ctx context.Context) (*server, error) {
	m, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start a stand-in for Redis: %w", err)
	}
	m.Server().SetPreHook(func(c *miniserver.Peer, cmd string, args ...string) bool {
		if cmd != "COMMAND" || len(args) == 0 {
			return false
		}
		// It would answer as if nothing more precise were asked, and redis-cli
		// would abort over "COMMAND DOCS", which it asks at its start.
		c.WriteError("ERR unknown subcommand '" + args[0] + "'")
		return true
	})
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", m.Addr())
	}
	if err := fillRedis(ctx, dial); err != nil {
		m.Close()
		return nil, fmt.Errorf("fill the stand-in for Redis: %w", err)
	}
	return &server{
		title: "miniredis", backend: simdb.Forward{Dial: dial},
		close: func() error { m.Close(); return nil },
	}, nil
}

// standInMySQL is a MySQL in this process; without an Engine it has no tables.
func (d *demo) standInMySQL(ctx context.Context) (*server, error) {
	if d.NewEngine == nil {
		return &server{title: "simulated MySQL", backend: simdb.NewMySQL(), close: noClose}, nil
	}
	e, err := d.NewEngine(database)
	if err != nil {
		return nil, err
	}
	if _, err := fillMySQL(ctx, e.Dial); err != nil {
		return nil, errors.Join(fmt.Errorf("fill the stand-in for MySQL: %w", err), e.Close())
	}
	return &server{title: "go-mysql-server", backend: simdb.ForwardMySQL{Dial: e.Dial}, close: e.Close}, nil
}

// standInPostgres is a small Postgres in this process, which leaves all that
// concerns tables to an Engine.
func (d *demo) standInPostgres(ctx context.Context) (*server, error) {
	pg := simdb.NewPostgres()
	s := &server{title: "Postgres stand-in", backend: pg, close: noClose}
	if d.NewEngine == nil {
		return s, nil
	}
	e, err := d.NewEngine(database)
	if err != nil {
		return nil, err
	}
	for _, statement := range sample {
		if _, err := e.Query(ctx, database, statement); err != nil {
			return nil, errors.Join(fmt.Errorf("fill the stand-in for Postgres: %w", err), e.Close())
		}
	}
	c := catalog{engine: e}
	pg.Query, s.close = c.query, e.Close
	return s, nil
}
