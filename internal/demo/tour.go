package demo

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/tidwall/redcon"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

// tour does what a person would: runs a query through every tunnel, keeps a
// connection open across a renewal, and looks at the status.
func (d *demo) tour(ctx context.Context, tunnels []state.Tunnel) error {
	steps := []struct {
		name string
		do   func(context.Context, map[string]state.Tunnel) error
	}{
		{"Postgres answers a query through demo-pg", d.tryPostgres},
		{"MySQL answers a query through demo-mysql", d.tryMySQL},
		{"Redis answers PING through demo-redis", d.tryRedis},
		{"Kubernetes lists its pods through " + kubeTunnel, d.tryKube},
		{"an open Postgres connection outlives a renewal, and new ones use the new cert", d.tryRenewal},
		{"the status is all ready", d.tryStatus},
	}
	byProtocol := make(map[string]state.Tunnel)
	for _, t := range tunnels {
		byProtocol[t.Protocol] = t
	}
	failed := 0
	for _, s := range steps {
		sctx, cancel := context.WithTimeout(ctx, 2*d.SessionTTL+startWait)
		err := s.do(sctx, byProtocol)
		cancel()
		if ctx.Err() != nil {
			return fmt.Errorf("the tour was cut short: %w", context.Cause(ctx))
		}
		if err != nil {
			failed++
			fmt.Fprintf(d.Out, "FAIL  %s: %v\n", s.name, err)
			continue
		}
		fmt.Fprintf(d.Out, "ok    %s\n", s.name)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d steps of the tour failed", failed, len(steps))
	}
	return nil
}

func connectPostgres(ctx context.Context, t state.Tunnel) (*pgx.Conn, error) {
	proto, ep, err := endpointOf(t)
	if err != nil {
		return nil, err
	}
	url, err := proto.Format("url", ep)
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, url)
}

func (d *demo) tryPostgres(ctx context.Context, tunnels map[string]state.Tunnel) (err error) {
	conn, err := connectPostgres(ctx, tunnels["postgres"])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var who string
	if err := conn.QueryRow(ctx, "select current_user", pgx.QueryExecModeSimpleProtocol).Scan(&who); err != nil {
		return err
	}
	if who != user {
		return fmt.Errorf("current_user is %q, want %q", who, user)
	}
	return nil
}

func (d *demo) tryMySQL(ctx context.Context, tunnels map[string]state.Tunnel) (err error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = user, "tcp", tunnels["mysql"].Address, "app"
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	pool := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, pool.Close()) }()
	var one int
	if err := pool.QueryRowContext(ctx, "select 1").Scan(&one); err != nil {
		return err
	}
	if one != 1 {
		return fmt.Errorf("select 1 gave %d", one)
	}
	return nil
}

func (d *demo) tryRedis(ctx context.Context, tunnels map[string]state.Tunnel) (err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", tunnels["redis"].Address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write(redcon.AppendBulkString(redcon.AppendArray(nil, 1), "PING")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if answer != "+PONG\r\n" {
		return fmt.Errorf("PING gave %q", answer)
	}
	return nil
}

// tryRenewal keeps one connection open until a renewal has happened, and then
// checks that it still answers and that a new one is served with another cert.
func (d *demo) tryRenewal(ctx context.Context, tunnels map[string]state.Tunnel) (err error) {
	old, err := connectPostgres(ctx, tunnels["postgres"])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, old.Close(ctx)) }()
	before, err := certSerial(ctx, old)
	if err != nil {
		return err
	}
	seen := d.renewals.Load()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.New("no new cert was used after a renewal")
		case <-tick.C:
		}
		if still, err := certSerial(ctx, old); err != nil || still != before {
			return fmt.Errorf("the open connection did not go on: cert %s, then %s: %w", before, still, err)
		}
		if d.renewals.Load() == seen {
			continue
		}
		fresh, err := connectPostgres(ctx, tunnels["postgres"])
		if err != nil {
			return fmt.Errorf("new connection after the renewal: %w", err)
		}
		after, err := certSerial(ctx, fresh)
		if err = errors.Join(err, fresh.Close(ctx)); err != nil {
			return err
		}
		if after != before {
			return nil
		}
	}
}

// certSerial asks the simulated Postgres which cert it was reached with.
func certSerial(ctx context.Context, c *pgx.Conn) (string, error) {
	rows, err := c.Query(ctx, "select * from session_identity", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var name, value, serial string
	for rows.Next() {
		if err := rows.Scan(&name, &value); err != nil {
			return "", err
		}
		if name == "serial" {
			serial = value
		}
	}
	return serial, rows.Err()
}

func (d *demo) tryStatus(ctx context.Context, _ map[string]state.Tunnel) (err error) {
	c := client.Dial(d.paths.Socket)
	defer func() { err = errors.Join(err, c.Close()) }()
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, t := range s.Tunnels {
		if t.State != state.TunnelReady {
			return fmt.Errorf("tunnel %s is %s", t.Name, t.State)
		}
		for _, addr := range t.Addresses {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err != nil {
				return fmt.Errorf("tunnel %s: %w", t.Name, err)
			}
			if err := conn.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}
