package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"berth/agent/cluster"
	"berth/internal/wake"
	"berth/proxies/route"
)

const (
	// probeTime is how long a way may take to be open: a proxy that accepts and then
	// hangs is known by it.
	probeTime = 3 * time.Second
	// probePause is the least time between two probes of one tunnel, however often
	// it is asked for.
	probePause = 5 * time.Second
	// probesAtOnce is how many tunnels are tried at the same time.
	probesAtOnce = 8
)

// ProbeFresh is how old a probe may be that still says how a tunnel is.
const ProbeFresh = 30 * time.Second

// probe is the newest try of a tunnel's way.
type probe struct {
	turn wake.Turn   // whose one is made
	of   *credential // that it was made with
	at   time.Time
	err  error
}

// away remembers which proxies did not answer a probe, so that their other tunnels
// need not find out one after the other.
type away struct {
	mu    sync.Mutex // guards proxy
	proxy map[string]failedProbe
}

type failedProbe struct {
	at  time.Time
	err error
}

// lately returns why a proxy did not answer just now; nil when it has, or was not
// asked.
func (a *away) lately(proxy string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.proxy[proxy]; time.Since(f.at) < probePause {
		return f.err
	}
	return nil
}

func (a *away) note(proxy string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !unreachable(err) {
		delete(a.proxy, proxy)
		return
	}
	if a.proxy == nil {
		a.proxy = make(map[string]failedProbe)
	}
	a.proxy[proxy] = failedProbe{at: time.Now(), err: err}
}

// probing returns how a way is tried. What is slow has the cluster asked how the
// session stands, as a client's dial does; nil: there is no cluster to ask.
func probing(c *cluster.Cluster, p route.Probe, to route.Route) func(context.Context) error {
	try := func(ctx context.Context) (net.Conn, error) { return nil, p.Try(ctx, to) }
	if c != nil {
		try = c.Watched(try)
	}
	return func(ctx context.Context) error {
		_, err := try(ctx)
		return err
	}
}

// try tries the way to the tunnel's resource, unless that was done with the same
// credential lately. Without a credential there is no way, and the tunnel's state
// says why.
func (p *probe) try(ctx context.Context, t *tunnel, away *away, fresh time.Duration) (at time.Time, err error) {
	if !p.turn.Take(ctx) {
		return time.Time{}, ctx.Err()
	}
	defer p.turn.Give()
	t.mu.Lock()
	cur, proxy := t.cur, t.status.profile
	t.mu.Unlock()
	if !cur.validAt(time.Now()) {
		return time.Time{}, nil
	}
	if p.of.isLike(cur) && time.Since(p.at) < fresh {
		return p.at, p.err
	}
	began := time.Now()
	if err = away.lately(proxy); err == nil {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), probeTime, errProbeSlow)
		defer cancel()
		if err = cur.probe(ctx); err == nil {
			t.latency.Store(int64(time.Since(began)))
		}
		away.note(proxy, err)
	}
	p.of, p.at, p.err = cur, began.Round(0), err
	if f := t.dialFailure(); err == nil && f != nil && unreachable(f.err) {
		t.exam.doubt(t, f.err) // the proxy is back, and the tunnel says so as soon as it knows
	}
	return p.at, err
}

var errProbeSlow = errors.New(fmt.Sprint("no answer within ", probeTime))
