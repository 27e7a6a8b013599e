//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/state"
)

const roleCut = "db-cut" // as roleDB, and its connections end with their certs

// TestConnectionsEndWithTheirCert lets sessions end under a pool's connections,
// each renewed before: no query is lost, and what is cut in a transaction ends
// when status said it would.
func TestConnectionsEndWithTheirCert(t *testing.T) {
	role := strings.Replace(fmt.Sprintf(roleTemplate, roleCut, "'*': '*'", "app"),
		"forward_agent: true", "forward_agent: true, disconnect_expired_cert: true", 1)
	if err := lab.teleport.apply(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, roleCut)
	p.login("--ttl=1")
	p.startAgent()
	p.addTunnel("prod")
	p.awaitReady("prod")
	link := p.berth("tunnel", "url", "prod")

	var queries, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			pool := idlePool{link: link}
			for ctx.Err() == nil {
				if err := pool.query(context.WithoutCancel(ctx)); err != nil {
					t.Errorf("at %s a query of the pool: %v", time.Now().Format("15:04:05.000"), err)
					failed.Add(1)
				}
				queries.Add(1)
				time.Sleep(1300 * time.Millisecond)
			}
		})
	}
	const rounds = 2
	for range rounds {
		idle, err := pgx.Connect(t.Context(), link)
		if err != nil {
			t.Fatal(err)
		}
		open, err := pgx.Connect(t.Context(), link)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.Exec(t.Context(), "begin"); err != nil {
			t.Fatal(err)
		}
		tun := p.tunnel("prod")
		if tun.EndingAt == nil || tun.EndingConnections < 2 || !strings.Contains(p.berth("status", "prod"), "connections end at ") {
			t.Fatalf("status does not say when the connections end: %+v", tun)
		}
		end := *tun.EndingAt
		time.Sleep(time.Until(end.Add(-25 * time.Second)))
		p.stagedLogin("--ttl=1") // new connections last until later
		cut := make(chan time.Time, 1)
		go func() {
			_, _ = open.Exec(context.WithoutCancel(t.Context()), "select pg_sleep(60)") // it is cut
			cut <- time.Now()
		}()
		off := (<-cut).Sub(end)
		t.Logf("a running query was cut %s after the end that status said", off.Round(time.Millisecond))
		if off.Abs() > 2*time.Second {
			t.Errorf("a running query ended %s after the end that status said", off)
		}
		_, err = idle.Exec(t.Context(), "select 1")
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "57P01" {
			t.Errorf("an idle connection ends with %v, want 57P01", err)
		}
	}
	stop()
	workers.Wait()
	t.Logf("%d queries of the pool over %d ends of certs, %d failed", queries.Load(), rounds, failed.Load())
	why := p.berth("tunnel", "why", "prod")
	for _, want := range []string{"cut by the cluster at the end of the certificate", "ended politely"} {
		if !strings.Contains(why, want) {
			t.Errorf("berth tunnel why does not say %q:\n%s", want, why)
		}
	}
	if tun := p.tunnel("prod"); tun.State != state.TunnelReady || tun.Problem != nil {
		t.Errorf("afterwards the tunnel is %s with %+v", tun.State, tun.Problem)
	}
}

// idlePool is a connection that is looked at before it is used after a second of
// idleness, and replaced when it has gone, as pools do.
type idlePool struct {
	link string
	conn *pgx.Conn
	used time.Time
}

func (p *idlePool) query(ctx context.Context) error {
	if p.conn != nil && time.Since(p.used) > time.Second && p.conn.Ping(ctx) != nil {
		_ = p.conn.Close(ctx) // it has gone
		p.conn = nil
	}
	if p.conn == nil {
		var err error
		if p.conn, err = pgx.Connect(ctx, p.link); err != nil {
			return err
		}
	}
	_, err := p.conn.Exec(ctx, "select 1")
	p.used = time.Now()
	return err
}
