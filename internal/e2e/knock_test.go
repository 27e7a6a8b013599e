//go:build e2e && linux

package e2e

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// knockEvery is how often a knocker dials.
const knockEvery = 5 * time.Millisecond

// knocker dials an address again and again and counts how often no one
// listens. It says nothing and hangs up.
type knocker struct {
	addr    string
	dials   int
	refused []error
	slowest time.Duration
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// knock starts a knocker that ends with the test or with check.
func knock(t *testing.T, addr string) *knocker {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	k := &knocker{addr: addr, stop: cancel}
	k.wg.Go(func() {
		ticker := time.NewTicker(knockEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				k.dial(ctx)
			}
		}
	})
	t.Cleanup(func() { cancel(); k.wg.Wait() })
	return k
}

func (k *knocker) dial(ctx context.Context) {
	begin := time.Now()
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", k.addr)
	if ctx.Err() != nil {
		if err == nil {
			_ = conn.Close()
		}
		return
	}
	k.dials++
	k.slowest = max(k.slowest, time.Since(begin))
	if err != nil {
		k.refused = append(k.refused, err)
		return
	}
	_ = conn.Close() // nothing was said on it
}

// check ends the knocking; the port must have been open all the time.
func (k *knocker) check(t *testing.T) {
	t.Helper()
	k.stop()
	k.wg.Wait()
	if len(k.refused) > 0 {
		t.Errorf("%s refused %d of %d dials, first: %v", k.addr, len(k.refused), k.dials, k.refused[0])
	}
	if k.dials < 10 {
		t.Errorf("only %d dials were made: that shows nothing", k.dials)
	}
	t.Logf("%s: %d dials, %d refused, slowest %s", k.addr, k.dials, len(k.refused), k.slowest.Round(10*time.Microsecond))
}

// session is a database connection that is left open over a change.
type session struct {
	conn *pgx.Conn
	pid  int // of its PostgreSQL backend: a new one would be a new connection
}

// openSession connects and keeps the connection until the test ends.
func openSession(t *testing.T, url string) *session {
	t.Helper()
	s := &session{}
	var err error
	if s.conn, err = connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close(context.WithoutCancel(t.Context())) }) // it may have been cut on purpose
	if err := s.conn.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&s.pid); err != nil {
		t.Fatal(err)
	}
	return s
}

// mustLive checks that the connection is the one that was opened.
func (s *session) mustLive(t *testing.T, when string) {
	t.Helper()
	var pid int
	if err := s.conn.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Errorf("the connection that was open died %s: %v", when, err)
	} else if pid != s.pid {
		t.Errorf("backend %d answers %s, want %d", pid, when, s.pid)
	}
}

// connect connects as the url says; each of its ways is bounded by a minute
// and a half, more than any tunnel holds a client.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	return pgx.Connect(ctx, url)
}

// query runs one statement on a connection of its own.
func query(ctx context.Context, url, sql string) (string, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var answer string
	err = conn.QueryRow(ctx, sql).Scan(&answer)
	return answer, err
}
