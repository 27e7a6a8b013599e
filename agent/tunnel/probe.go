package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/agent/cluster"
	"berth/agent/state"
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
	turn sync.Mutex // held while one is made
	of   any        // the credential it was made with
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

// Check says of the tunnels with these names, or of all that were not stopped,
// whether a client that connects now gets through. Those that say so are tried:
// with the cert they have, over TCP and TLS to the proxy, and no byte of data. A try
// not older than fresh counts, and so does each of the last five seconds. An unknown
// name is not in the answer.
func (s *Set) Check(ctx context.Context, fresh time.Duration, names ...string) []state.Readiness {
	fresh = max(fresh, probePause)
	var picked []entry
	for _, e := range s.listed() {
		if slices.Contains(names, e.spec.Name) || len(names) == 0 && !e.stopped {
			picked = append(picked, e)
		}
	}
	list := make([]state.Readiness, len(picked))
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for i, e := range picked {
		g.Go(func() error {
			list[i] = s.check(ctx, e, fresh)
			return nil
		})
	}
	_ = g.Wait() // none fails
	return list
}

func (s *Set) check(ctx context.Context, e entry, fresh time.Duration) state.Readiness {
	is := e.draw(s.watchman.state(e.spec), "")
	r := state.Readiness{Name: is.Name, State: is.State, Protocol: is.Protocol}
	var err error
	if e.t != nil {
		r.ProbedAt, err = e.t.tryWay(ctx, &s.away, fresh)
	}
	switch {
	case is.State != state.TunnelReady && is.Problem != nil:
		r.Code = is.Problem.Code
	case is.State == state.TunnelReady && err != nil:
		r.State, r.Code = state.TunnelError, problemFor(err, e.spec, is.Profile, e.t.lastProfile()).Code
	}
	r.Ready = r.State == state.TunnelReady
	return r
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

// tryWay tries the way to the tunnel's resource, unless that was done with the same
// credential lately. Without a credential there is no way, and the tunnel's state
// says why.
func (t *tunnel) tryWay(ctx context.Context, away *away, fresh time.Duration) (at time.Time, err error) {
	t.probe.turn.Lock()
	defer t.probe.turn.Unlock()
	t.mu.Lock()
	cur, proxy := t.cur, t.status.profile
	t.mu.Unlock()
	if !cur.validAt(time.Now()) {
		return time.Time{}, nil
	}
	if t.probe.of == cur.identity && time.Since(t.probe.at) < fresh {
		return t.probe.at, t.probe.err
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
	t.probe.of, t.probe.at, t.probe.err = cur.identity, began.Round(0), err
	if f := t.dialFailure(); err == nil && f != nil && unreachable(f.err) {
		t.doubt(f.err) // the proxy is back, and the tunnel says so as soon as it knows
	}
	return t.probe.at, err
}

var errProbeSlow = errors.New(fmt.Sprint("no answer within ", probeTime))
