package tunnel

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"berth/agent/cluster"
	"berth/agent/memory"
	"berth/agent/state"
	"berth/agent/tunnel/history"
	"berth/certwatch"
	"berth/internal/survive"
	"berth/internal/wake"
	"berth/proxies"
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
	resolver resolving
	px       carrier
	log      *slog.Logger
	onChange func()
	meter    Meter
	// lastProfile is the profile that last served the tunnel's cluster.
	lastProfile func() memory.Profile
	history     *history.History
	foreign     foreigners
	exam        exam
	probe       probe
	refusals    refusals
	kick        chan Reason    // capacity 1
	changed     wake.Broadcast // cur, status or attempts have changed
	wanting     atomic.Int64   // clients that wait for a credential
	wanted      wake.Broadcast // another one does
	latency     atomic.Int64   // of the newest way to the proxy, in nanoseconds
	cuts        *cutters       // shared by all tunnels
	turns       *turnsAt       // shared by all of the cluster
	warm        *proxies.Warm  // for databases; it has what cur has

	mu       sync.Mutex // guards everything below
	cur      *credential
	drops    int // how often roles were dropped
	status   resolution
	attempts int          // resolutions finished so far
	dialErr  *dialFailure // the newest failure since the last success
	child    *child       // the tsh that carries the tunnel; nil: none does
}

// resolving finds a tunnel's credential: a *resolver.
type resolving interface {
	// resolve makes one attempt, with one session after the other where they replace each
	// other. It blocks no longer than the deadlines of the calls it makes.
	resolve(ctx context.Context, t *tunnel, reason Reason) resolution
	// examine finds out why a connection failed with err: by the session, by the
	// cluster, or by the way to the resource, which it tries itself. nil means
	// that all of them are well.
	examine(ctx context.Context, t *tunnel, err error) error
	// examinable reports whether examine can find out anything now.
	examinable(t *tunnel) bool
	// suggestForClients looks for the request that would help clients whom the
	// other side refuses.
	suggestForClients(ctx context.Context, t *tunnel)
	// release drops what is held for the tunnel, so that the next resolution
	// starts from nothing.
	release(t *tunnel)
	// noCode is called after each resolution that takes no one-time code, and
	// after the last one.
	noCode(t *tunnel)
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
	Leave(grace time.Duration, move proxies.Move) (calm <-chan struct{})
}

// Reason says why a tunnel is resolved again.
type Reason int

const (
	// Changed says that the session or the config is a new one.
	Changed Reason = iota
	// client says that one waits; not more often than clientRetry.
	client
	// Verify says that a connection failed or may be dead, so the proxy is asked
	// first.
	Verify
)

// run serves the tunnel until ctx ends.
func (t *tunnel) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := t.px.Run(ctx); err != nil && ctx.Err() == nil {
			t.log.Error("tunnel ended", "err", err)
		}
	})
	t.exam.open(ctx)
	t.keepResolved(ctx)
	t.mu.Lock()
	t.use(nil)
	t.mu.Unlock()
	t.resolver.noCode(t)
	t.exam.close()
	wg.Wait() // the child carries what drains
	t.stopChild()
	t.warm.Close()
}

// use makes cred the tunnel's credential; nil: it has none. Connections that wait
// for a client are closed unless they were made with it. The caller holds t.mu.
func (t *tunnel) use(cred *credential) {
	t.cur = cred
	var way proxies.Way
	if cred != nil && cred.spare != nil {
		way = proxies.Way{Key: cred.identity, Until: cred.validUntil, Dial: cred.spare}
	}
	t.warm.Use(way)
}

// keepResolved is the dull loop: resolve, publish, sleep until something
// changes or time is up.
func (t *tunnel) keepResolved(ctx context.Context) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: 500 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: retryMax,
	}
	pause.Reset()
	var next, last time.Time
	reason := Changed
	for {
		if reason == client {
			var ok bool
			if reason, ok = t.spare(ctx, clientRetry-time.Since(last)); !ok {
				return
			}
		}
		drops := t.dropped()
		res := t.resolve(ctx, reason)
		if ctx.Err() != nil {
			return
		}
		if res.cred != nil && t.dropped() != drops {
			reason = Changed // the credential has roles that were dropped meanwhile
			continue
		}
		last = time.Now()
		if res.err != nil && res.next.IsZero() {
			res.next = last.Add(pause.NextBackOff())
		} else if res.err == nil {
			pause.Reset()
		}
		next = res.next.Round(0)
		t.adopt(res)
		if !res.needsCode {
			t.resolver.noCode(t)
		}
		t.resolver.suggestForClients(ctx, t)
		var ok bool
		if reason, ok = t.sleepUntil(ctx, next); !ok {
			return
		}
		if reason == Changed {
			pause.Reset()
		}
	}
}

// resolve has the resolver find what serves clients. A bug displaces no cert.
func (t *tunnel) resolve(ctx context.Context, reason Reason) (res resolution) {
	defer t.turns.take(ctx, &t.wanted, func() bool { return t.wanting.Load() > 0 })()
	// The deep stack that minting needs goes with a goroutine of its own: each tunnel
	// would keep one.
	done := make(chan error)
	go func() {
		done <- survive.Do(t.log, "resolve a tunnel", func() error {
			res = t.resolver.resolve(ctx, t, reason)
			return nil
		})
	}()
	if err := <-done; err != nil {
		was := t.resolved()
		return resolution{
			engine: t.lastEngine(), id: was.id, profile: was.profile, user: was.user, named: was.named, state: state.TunnelError, err: err, keep: true,
			problem: problemFor(err, t.spec, was.profile, was.named, t.lastProfile()),
		}
	}
	return res
}

// spare has a client's attempt wait, unless there is another reason for one; false
// means ctx ended.
func (t *tunnel) spare(ctx context.Context, pause time.Duration) (Reason, bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, false
		case r := <-t.kick:
			if r != client {
				return r, true
			}
		case <-timer.C:
			return client, true
		}
	}
}

// sleepUntil returns when the wall clock reaches next (never, for the zero
// time) or the tunnel is kicked; false means ctx ended.
func (t *tunnel) sleepUntil(ctx context.Context, next time.Time) (Reason, bool) {
	timer := time.NewTimer(wakeEvery)
	defer timer.Stop()
	for {
		wait := wakeEvery
		if !next.IsZero() {
			left := next.Sub(time.Now().Round(0))
			if left <= 0 {
				return Changed, true
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
	another := false // credential, with which it may be otherwise
	t.mu.Lock()
	was := t.status
	switch {
	case res.cred != nil:
		if !t.cur.isLike(res.cred) {
			t.refusals.forget() // with another cert they may not come again
			another = t.cur != nil
		}
		res.cred.user = res.user
		t.use(res.cred)
	case !res.keep:
		t.use(nil)
	}
	if !res.dated && res.problem != nil && was.problem != nil && was.problem.Code == res.problem.Code {
		res.problem.Since = was.problem.Since
	}
	t.status = res
	t.attempts++
	t.mu.Unlock()
	if another {
		t.exam.reconsider(t, true)
	}
	t.changed.Wake()

	if was.state != res.state {
		attrs := []any{"state", res.state, "engine", res.engine}
		if res.err != nil {
			attrs = append(attrs, "err", res.err)
		}
		t.log.Info("tunnel state", attrs...)
	}
	t.onChange()
}

func (t *tunnel) wake(r Reason) {
	select {
	case t.kick <- r:
	default: // already kicked; the resolution sees the newest truth
	}
}

func (t *tunnel) setDialFailure(f *dialFailure) {
	t.mu.Lock()
	changed := (t.dialErr == nil) != (f == nil)
	t.dialErr = f
	t.mu.Unlock()
	if f != nil {
		t.exam.attend(t)
	}
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
	t.resolver.release(t)
	t.mu.Lock()
	t.use(nil) // clients from now on wait for the new cert
	t.status.state = state.TunnelConnecting
	t.mu.Unlock()
	t.px.CloseConnections()
	t.exam.forget(t)
	t.refusals.forget()
	t.wake(Changed)
}

// makeStale drops the credential, because its roles were dropped, and marks the
// open connections or closes them. Clients wait for the next credential.
func (t *tunnel) makeStale(closing bool) {
	t.mu.Lock()
	t.use(nil)
	t.drops++
	t.mu.Unlock()
	t.px.MarkConnections()
	if closing {
		t.px.CloseMarked()
	}
}

func (t *tunnel) dropped() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.drops
}

// owner is the profile that a login for the tunnel would be of.
func (t *tunnel) owner(res resolution) memory.Profile {
	p := t.lastProfile()
	p.User = cmp.Or(t.spec.User, res.user, p.User)
	return p
}

// resolved returns the tunnel's last resolution.
func (t *tunnel) resolved() resolution {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// heldForLogin returns the profile whose login would release the tunnel's
// clients; false means that none of them waits for one.
func (t *tunnel) heldForLogin() (id certwatch.ProfileID, held bool) {
	if t.px.Status().Waiting == 0 {
		return certwatch.ProfileID{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, another := errors.AsType[*otherUserError](t.status.err)
	touch := errors.Is(t.status.err, errKeyNeeded) // of the key, which no login asks for
	return t.status.id, t.status.state == state.TunnelWaitingForLogin && !another && !touch
}

// lastEngine is the engine of the last resolution: what a tunnel says while it
// cannot know better.
func (t *tunnel) lastEngine() state.Engine {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cmp.Or(engineWanted(t.spec), t.status.engine, state.EngineNative)
}

// engineWanted is the engine that the config demands; empty for either.
func engineWanted(spec state.TunnelSpec) state.Engine {
	if spec.Engine == state.EngineTSH {
		return state.EngineTSH
	}
	return ""
}

// servesSameIdentity reports whether the tunnel has a valid credential from
// the same profile as the failed resolution.
func (t *tunnel) servesSameIdentity(res resolution) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cur.validAt(time.Now()) && t.status.id == res.id
}

// minted counts a cert, unless the tunnel has it already.
func (t *tunnel) minted(cert *cluster.Cert, took time.Duration, err error) {
	t.mu.Lock()
	known := cert != nil && t.cur != nil && t.cur.identity == any(cert.TLS)
	t.mu.Unlock()
	if !known {
		t.meter.Minted(t.spec.Name, took, err)
	}
}

// renewed reports whether a new connection would last longer than until end.
func (t *tunnel) renewed(end time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cur.validAt(time.Now()) && t.cur.validUntil.After(end.Add(time.Second))
}

// verifiedUntil returns when the tunnel's present cert ends; false when it has
// none that a code has brought for an identity that may do the same.
func (t *tunnel) verifiedUntil(id *certwatch.Identity) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cur.validAt(time.Now()) || t.cur.verifiedFor == nil {
		return time.Time{}, false
	}
	had := t.cur.verifiedFor
	same := had.User == id.User && slices.Equal(had.Roles, id.Roles) && slices.Equal(had.ActiveRequests, id.ActiveRequests)
	return t.cur.validUntil, same
}

// nextEnd returns how many connections the cluster cuts next, and when; zero:
// none that is known of.
func (t *tunnel) nextEnd() (connections int, at time.Time) {
	px, ok := t.px.(interface{ NextEnd() (int, time.Time) })
	if !ok || !t.cuts.has(t.spec.Cluster) {
		return 0, time.Time{}
	}
	return px.NextEnd()
}

// takeChild sets the tsh that carries the tunnel and returns the one before.
func (t *tunnel) takeChild(c *child) (before *child) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, t.child = t.child, c
	return before
}

// currentChild returns the tsh that carries the tunnel; nil: none does.
func (t *tunnel) currentChild() *child {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.child
}

// stopChild ends the tunnel's tsh, if it has one, and waits for it. A credential that it
// carried no longer serves.
func (t *tunnel) stopChild() {
	c := t.takeChild(nil)
	if c == nil {
		return
	}
	t.mu.Lock()
	if t.cur != nil && t.cur.starting != nil {
		t.use(nil)
	}
	t.mu.Unlock()
	t.changed.Wake()
	c.stop()
}

// draw fills in what the tunnel's last resolution and last dial say.
func (t *tunnel) draw(s *state.Tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	res := t.status
	s.Profile, s.Protocol = res.profile, res.protocol
	s.Engine, s.EngineReason = res.engine, res.engineReason
	s.State, s.Problem = res.state, res.problem
	if res.engine != state.EngineTSH { // its way begins in another program
		s.Latency = state.Duration(time.Duration(t.latency.Load()).Round(100 * time.Microsecond))
	}
	if t.cur.validAt(time.Now()) {
		s.CertValidUntil, s.RunsAs = state.Instant(t.cur.validUntil), t.cur.user
	}
	if t.dialErr != nil && res.state == state.TunnelReady {
		s.State = state.TunnelError
		s.Problem = problemFor(t.dialErr.err, t.spec, res.profile, res.named, memory.Profile{})
		s.Problem.Since = t.dialErr.at.UTC()
	}
	if s.State != state.TunnelReady || s.Problem != nil {
		return
	}
	if p, tunnels := t.refusals.problem(t.spec, res.dbUsers); p != nil {
		s.Problem = p
		if tunnels {
			s.State = state.TunnelError
		}
	}
}
