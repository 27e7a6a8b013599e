package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"berth/agent/memory"
	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/db"
)

const (
	// clientRetry is the least time between two attempts that clients cause:
	// a client that hammers a failing tunnel must not hammer the cluster.
	clientRetry = time.Second
	// retryMax caps the pause between attempts a tunnel makes by itself.
	retryMax = 30 * time.Second
	// wakeEvery is the longest a tunnel sleeps: timers stand still while a
	// machine is suspended, so every deadline is looked at on the wall clock.
	wakeEvery = 15 * time.Second
)

// tunnel is one configured tunnel: its listeners, and the credential clients
// are dialled with, kept current by one goroutine.
type tunnel struct {
	spec     state.TunnelSpec
	resolver *resolver
	px       carrier
	log      *slog.Logger
	onChange func()
	history  *history
	watchman *watchman
	foreign  foreigners
	kick     chan kickReason // capacity 1

	mu       sync.Mutex
	cur      *credential
	status   resolution
	attempts int           // resolutions finished so far
	changed  chan struct{} // closed and replaced at every change of the above
	dialErr  *dialFailure  // the newest failure since the last success
}

// carrier is the part of a tunnel that serves clients: a proxies.Tunnel, or a
// kube.Tunnel.
type carrier interface {
	Bind() error
	Run(ctx context.Context) error
	Released() <-chan struct{}
	Status() proxies.Status
	CloseConnections()
	MarkConnections()
	CloseMarked()
}

// kickReason says who wants a tunnel resolved anew.
type kickReason int

const (
	kickChanged kickReason = iota // the session or the config changed: at once
	kickClient                    // a client waits: at once, but not more often than clientRetry
	kickVerify                    // a dial failed: find out why
)

// resolution is the outcome of one attempt to find a tunnel's credential.
type resolution struct {
	state        state.TunnelState
	problem      *state.Problem
	err          error
	profile      string // proxy address
	protocol     string
	engine       state.Engine
	engineReason string
	cred         *credential
	next         time.Time // when to resolve again by itself; zero: only when something changes
	keep         bool      // the credential there was may go on being used
}

type dialFailure struct {
	at  time.Time
	err error
}

// newTunnel returns a tunnel that still lacks its carrier.
func newTunnel(spec state.TunnelSpec, r *resolver, log *slog.Logger, h *history, w *watchman, onChange func()) *tunnel {
	return &tunnel{
		spec:     spec,
		watchman: w,
		resolver: r,
		log:      log.With("tunnel", spec.Name),
		onChange: onChange,
		history:  h,
		kick:     make(chan kickReason, 1),
		changed:  make(chan struct{}),
		status:   resolution{state: state.TunnelConnecting, engine: state.EngineNative},
	}
}

// newDBCarrier is the part of a tunnel that serves clients of a database.
func (t *tunnel) newDBCarrier(grace time.Duration, log *slog.Logger) *proxies.Tunnel {
	return proxies.New(proxies.Config{
		Name:     t.spec.Name,
		Port:     t.spec.Port,
		Source:   t.source,
		Hold:     t.spec.HoldDuration(),
		Grace:    grace,
		Logger:   log,
		OnChange: t.onChange,
		OnEvent:  t.observe,
		Refuse:   t.refuse,
		Guard:    t.watchman.of(t.spec),
		AnswerDue: func(sent int64) bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			proto, ok := db.Lookup(t.status.protocol)
			return !ok || proto.AnswerDue(sent)
		},
	})
}

// run serves the tunnel until ctx ends.
func (t *tunnel) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := t.px.Run(ctx); err != nil && ctx.Err() == nil {
			t.log.Error("tunnel ended", "err", err)
		}
	})
	t.keepResolved(ctx)
	t.resolver.children.stop(t.spec.Name)
	wg.Wait()
}

// keepResolved is the dull loop: resolve, publish, sleep until something
// changes or time is up.
func (t *tunnel) keepResolved(ctx context.Context) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: 500 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: retryMax,
	}
	pause.Reset()
	var next, last time.Time
	reason := kickChanged
	for {
		if reason == kickClient && time.Since(last) < clientRetry {
			if !sleep(ctx, clientRetry-time.Since(last)) {
				return
			}
		}
		res := t.resolver.resolve(ctx, t, reason)
		if ctx.Err() != nil {
			return
		}
		last = time.Now()
		if res.err != nil && res.next.IsZero() {
			res.next = last.Add(pause.NextBackOff())
		} else if res.err == nil {
			pause.Reset()
		}
		next = res.next.Round(0)
		t.adopt(res)
		var ok bool
		if reason, ok = t.sleepUntil(ctx, next); !ok {
			return
		}
		if reason == kickChanged {
			pause.Reset()
		}
	}
}

// sleepUntil returns when the wall clock reaches next (never, for the zero
// time) or somebody kicks the tunnel; false means ctx ended.
func (t *tunnel) sleepUntil(ctx context.Context, next time.Time) (kickReason, bool) {
	timer := time.NewTimer(wakeEvery)
	defer timer.Stop()
	for {
		wait := wakeEvery
		if !next.IsZero() {
			left := next.Sub(time.Now().Round(0))
			if left <= 0 {
				return kickChanged, true
			}
			wait = min(wait, left)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return 0, false
		case r := <-t.kick:
			return r, true
		case <-timer.C:
		}
	}
}

// adopt makes a resolution the tunnel's present one and wakes held clients.
func (t *tunnel) adopt(res resolution) {
	t.mu.Lock()
	was := t.status
	switch {
	case res.cred != nil:
		t.cur = res.cred
	case !res.keep:
		t.cur = nil
	}
	if res.problem != nil && was.problem != nil && was.problem.Code == res.problem.Code {
		res.problem.Since = was.problem.Since
	}
	t.status = res
	t.attempts++
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()

	if was.state != res.state {
		attrs := []any{"state", res.state, "engine", res.engine}
		if res.err != nil {
			attrs = append(attrs, "err", res.err)
		}
		t.log.Info("tunnel state", attrs...)
	}
	t.onChange()
}

func (t *tunnel) wake(r kickReason) {
	select {
	case t.kick <- r:
	default: // already kicked; the resolution sees the newest truth
	}
}

// observe learns from the life of connections whether the upstream works.
func (t *tunnel) observe(ev proxies.Event) {
	t.mu.Lock()
	res := t.status
	t.mu.Unlock()
	if away, ok := errors.AsType[*proxies.TurnedAwayError](ev.Err); ok {
		t.foreign.note(away, ev.At, t.log)
	}
	t.history.connection(ev, res.state == state.TunnelWaitingForLogin, func(err error) string { return t.shortly(err, res) })
	switch {
	case ev.Kind == proxies.EventRefused && isDialFailure(ev.Err):
		t.setDialFailure(&dialFailure{at: ev.At, err: ev.Err})
		t.wake(kickVerify)
	case ev.Kind == proxies.EventClosed && errors.Is(ev.Err, proxies.ErrClosedEarly):
		t.setDialFailure(&dialFailure{at: ev.At, err: ev.Err})
	case ev.Kind == proxies.EventClosed && ev.BytesIn > 0:
		t.setDialFailure(nil)
	}
}

// shortly puts an error into the few words a history has room for.
func (t *tunnel) shortly(err error, res resolution) string {
	if why, ok := turnedAway(err); ok {
		return why
	}
	p := problemFor(err, t.spec, res.profile, memory.Profile{})
	if p.Title == titleTunnelFailed {
		return err.Error()
	}
	return lowerFirst(p.Title)
}

// isDialFailure reports whether a refused client was refused by the upstream,
// and not because it left, the tunnel stopped or there was no credential.
func isDialFailure(err error) bool {
	var source *sourceError
	var away *proxies.TurnedAwayError
	return err != nil && !errors.As(err, &away) && !errors.As(err, &source) && !errors.Is(err, proxies.ErrHoldEnded) &&
		!errors.Is(err, proxies.ErrClientGone) && !errors.Is(err, proxies.ErrStopped) && !errors.Is(err, proxies.ErrClosed)
}

func (t *tunnel) setDialFailure(f *dialFailure) {
	t.mu.Lock()
	changed := (t.dialErr == nil) != (f == nil)
	t.dialErr = f
	t.mu.Unlock()
	if changed {
		t.onChange()
	}
}

func (t *tunnel) dialFailure() *dialFailure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dialErr
}

// restart closes the open connections and fetches a new cert.
func (t *tunnel) restart() {
	t.resolver.release(t.spec)
	t.mu.Lock()
	t.cur = nil // clients from now on wait for the new cert
	t.status.state = state.TunnelConnecting
	t.mu.Unlock()
	t.px.CloseConnections()
	t.setDialFailure(nil)
	t.wake(kickChanged)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
