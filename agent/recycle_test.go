package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/wake"
)

// pooled is a connection of a pool, which looks at it before it is used after a
// second of idleness, and opens another when it has gone, as pools do.
type pooled struct {
	connect func(ctx context.Context) (*pgx.Conn, error)
	conn    *pgx.Conn
	used    time.Time
}

func (p *pooled) query(ctx context.Context) error {
	if p.conn != nil && time.Since(p.used) > time.Second && p.conn.Ping(ctx) != nil {
		p.close(ctx)
	}
	if p.conn == nil {
		var err error
		if p.conn, err = p.connect(ctx); err != nil {
			return err
		}
	}
	_, err := p.conn.Exec(ctx, "select 1")
	p.used = time.Now()
	return err
}

func (p *pooled) close(ctx context.Context) {
	if p.conn != nil {
		_ = p.conn.Close(ctx) // it may have gone
	}
	p.conn = nil
}

// TestConnectionsEndWithTheirCert: where the cluster cuts connections at the end
// of their certs, status says when, idle ones are ended politely before, so that
// a pool loses no query, and what is cut in a transaction is named afterwards.
func TestConnectionsEndWithTheirCert(t *testing.T) {
	testneeds.Time(t, "it waits for the end of certs")
	t.Parallel()
	e := newEnv(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access", DisconnectExpiredCert: true}}})
	item, port := e.pgTunnel("pg")
	left, keptPort := e.pgTunnel("left", "recycle: false")
	e.config(item, left)
	e.Login()
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.AwaitState("left", state.TunnelReady)
	end := e.shortSession(20 * time.Second)

	idle, open, kept := e.mustPG(port), e.mustPG(port), e.mustPG(keptPort)
	if _, err := open.Exec(t.Context(), "begin"); err != nil {
		t.Fatal(err)
	}
	e.Await("when the connections end", func(s state.Snapshot) bool {
		return s.Tunnels[0].EndingConnections == 2 && s.Tunnels[0].EndingAt != nil && s.Tunnels[0].EndingAt.Equal(end)
	})
	var queries atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			c := pooled{connect: func(ctx context.Context) (*pgx.Conn, error) { return e.pg(ctx, port) }}
			for again := true; again; again = wake.Sleep(ctx, 1300*time.Millisecond) {
				if err := c.query(context.WithoutCancel(ctx)); err != nil {
					t.Errorf("a query of the pool: %v", err)
				}
				queries.Add(1)
			}
			c.close(context.WithoutCancel(ctx))
		})
	}
	e.Login() // from here on new connections last longer

	time.Sleep(time.Until(end.Add(500 * time.Millisecond)))
	stop()
	workers.Wait()
	t.Logf("%d queries of the pool over the end", queries.Load())
	_, err := idle.Exec(t.Context(), "select 1")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "57P01" || !strings.Contains(pgErr.Hint, "Connect again") {
		t.Errorf("the idle connection ends with %v, want 57P01", err)
	}
	if _, err := open.Exec(t.Context(), "select 1"); err == nil || strings.Contains(err.Error(), "57P01") {
		t.Errorf("the connection in a transaction ends with %v; want it cut by the cluster", err)
	}
	if _, err := kept.Exec(t.Context(), "select 1"); err == nil || strings.Contains(err.Error(), "57P01") {
		t.Errorf("the connection of a tunnel that recycles none ends with %v; want it cut by the cluster", err)
	}
	e.awaitEvent("pg", state.EventBroken, "cut by the cluster at the end of the certificate")
	e.awaitEvent("pg", state.EventBroken, "ended politely")
	if tun := e.AwaitState("pg", state.TunnelReady); tun.Problem != nil {
		t.Errorf("the tunnel has a problem: %+v", tun.Problem)
	}
}
