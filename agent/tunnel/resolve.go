package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/proxies/route"
)

// resolver finds, for a tunnel, the credential its clients are dialled with.
// One resolver serves all tunnels and keeps no state of theirs.
type resolver struct {
	sessions *sessions.Sessions
	memory   *memory.Store
	config   func() *config.Config
	launcher *launcher
	trust    trust
	paces    paces
	log      *slog.Logger
	// requestCommand returns the command that asks for access to what a tunnel
	// was refused, or nothing.
	requestCommand func(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string
	// assumable asks whether a session can have the roles of a request.
	assumable func(ctx context.Context, f sessions.Session, id string) error
	// grantRefused takes from a tunnel the access requests that a refusal shows
	// to be over, and reports whether there were any.
	grantRefused func(tunnel string, err error) bool
	needCode     func(login.CodeNeed)
	codeGone     func(tunnel string, of any)
	codeCame     func() // a code has brought a cert, which may serve several tunnels
}

// resolve finds what serves a tunnel's clients now. If the session ends meanwhile, the one
// that has taken its place is asked.
func (r *resolver) resolve(ctx context.Context, t *tunnel, reason Reason) resolution {
	for {
		f := r.sessions.Discover(ctx, t.spec.Cluster, t.spec.User, time.Now())
		res := r.resolveWith(ctx, t, reason, f)
		if res.err == nil || ctx.Err() != nil || f.Cluster == nil || !f.Cluster.Closed() {
			return res
		}
	}
}

func (r *resolver) resolveWith(ctx context.Context, t *tunnel, reason Reason, f sessions.Session) resolution {
	now := time.Now()
	res := resolution{engine: t.lastEngine(), protocol: r.memory.ProtocolOf(t.spec.Cluster, t.spec.Resource)}
	if f.Profile != nil {
		res.id, res.profile, res.user = f.Profile.ID(), f.Profile.ProxyAddr, f.Profile.User
		res.named = r.sessions.UserAt(res.profile, res.user)
	}
	switch {
	case f.Profile == nil:
		return r.waiting(t, res, r.noProfile(t))
	case f.Profile.Settling:
		// The homes were being written when they were first read; certwatch
		// will report shortly.
		res.state, res.err = state.TunnelConnecting, sessions.ErrSettling
		res.next = now.Add(time.Second)
		return res
	case t.spec.User != "" && f.Profile.User != t.spec.User:
		return r.waiting(t, res, &otherUserError{want: t.spec.User, is: f.Profile.User, valid: f.Valid(now)})
	case !f.Valid(now):
		return r.waiting(t, res, sessions.ErrLoginNeeded)
	case now.Before(f.Profile.Session.ValidFrom):
		return r.failed(t, res, &clockSkewError{validFrom: f.Profile.Session.ValidFrom})
	}
	if fault := r.fault(ctx, f, reason); fault != nil {
		res.unasked = reason == Changed
		return r.kept(t, res, fault)
	}
	set, err := r.config().ProxyTrust(f.Profile.ProxyAddr)
	if err != nil {
		return r.failed(t, res, err)
	}
	found := r.connect(ctx, t, res, f, set, reason)
	if found.err == nil || f.Cluster == nil {
		return found
	}
	// What one call met may be so for all of them.
	var denied *cluster.AccessDeniedError
	if errors.As(found.err, &denied) || unreachable(found.err) {
		f.Cluster.Check(ctx)
	}
	if fault := f.Fault(); fault != nil {
		return r.kept(t, res, fault)
	}
	return found
}

// fault returns what keeps the session from its cluster and leaves nothing to
// try. Where a client waits, or a connection may be dead, the cluster is asked
// first.
func (r *resolver) fault(ctx context.Context, f sessions.Session, reason Reason) *cluster.Fault {
	if f.Cluster == nil {
		return nil
	}
	if reason == Verify {
		// It doubts the session where it fails.
		if err := f.Cluster.Ping(ctx); err != nil {
			f.Cluster.Check(ctx)
		}
	}
	fault := f.Cluster.Fault()
	if fault != nil && reason == client {
		fault = f.Cluster.Examine(ctx)
	}
	if fault == nil {
		return nil
	}
	if old, ok := errors.AsType[*cluster.OutdatedError](fault.Err); ok {
		// A connection that was open before the rotation still mints, and certs of
		// the new CA.
		if !old.Trust {
			f.Cluster.ForgetBefore(fault.Since)
		}
		return nil
	}
	return fault
}

// examine asks the cluster whether it still accepts the session, and then tries
// the way itself, as a client would. A session whose key only tsh can use has but the
// way; where that is not to be tried, err stands.
func (r *resolver) examine(ctx context.Context, t *tunnel, err error) error {
	for {
		f := r.sessions.ForCluster(t.spec.Cluster, t.spec.User, time.Now())
		if !mayTry(f) {
			return err
		}
		if why := r.examineWith(ctx, t, f); why == nil || ctx.Err() != nil || f.Cluster == nil || !f.Cluster.Closed() { // as in resolve
			return why
		}
	}
}

func (r *resolver) examinable(t *tunnel) bool {
	return mayTry(r.sessions.ForCluster(t.spec.Cluster, t.spec.User, time.Now()))
}

// mayTry reports whether a session's way may be tried: not where a person would have to
// touch its key for that, or it is over.
func mayTry(f sessions.Session) bool {
	return f.Cluster != nil || f.Valid(time.Now()) && !strings.Contains(f.Profile.Session.Identity.PrivateKeyPolicy, "touch")
}

func (r *resolver) examineWith(ctx context.Context, t *tunnel, f sessions.Session) error {
	ctx, cancel := context.WithTimeout(ctx, examTime)
	defer cancel()
	if f.Cluster != nil {
		if fault := f.Cluster.Examine(ctx); fault != nil {
			return fault.Err
		}
		if t.spec.Cluster != f.Cluster.Root() {
			if err := f.Cluster.PingLeaf(ctx, t.spec.Cluster); err != nil {
				return err
			}
		}
	}
	t.mu.Lock()
	cur, protocol := t.cur, t.status.protocol
	t.mu.Unlock()
	if !cur.servesAt(time.Now()) {
		return nil // there is no way to try; the resolution says why
	}
	err := connectAs(ctx, t.spec.Kind, cur, protocol)
	if err != nil && f.Cluster != nil && cur.isAhead() && time.Since(t.exam.remade) > remakeEvery {
		// It was issued while the cluster's clock, or this machine's, was wrong.
		t.exam.remade = time.Now()
		f.Cluster.Forget(t.spec.Cluster, t.spec.Resource)
		t.wake(Changed)
	}
	return err
}

// kept is the outcome when the session is kept from its cluster.
func (r *resolver) kept(t *tunnel, res resolution, fault *cluster.Fault) resolution {
	res = r.failed(t, res, fault.Err)
	if res.problem != nil {
		res.problem, res.dated = faultProblem(fault, res.profile, res.named), true
	}
	return res
}

// connect finds the credential that goes with a valid session.
func (r *resolver) connect(
	ctx context.Context, t *tunnel, res resolution, f sessions.Session, set config.ProxyTrust, reason Reason,
) resolution {
	w, err := kinds[t.spec.Kind].find(ctx, r, t.spec, f)
	res.dbUsers = w.dbUsers
	if w.protocol != "" {
		res.protocol = w.protocol
		if err := r.memory.RememberProtocol(t.spec.Cluster, t.spec.Resource, w.protocol); err != nil {
			r.log.Warn("saved state not written", "err", err)
		}
	}
	if err == nil {
		res.engine, res.engineReason, err = w.engine(t.spec)
	}
	if err == nil && res.engine == state.EngineTSH && w.codes != nil {
		err = &noFactorError{why: "tsh carries it (" + res.engineReason + "), and berth cannot give tsh one-time codes"}
	}
	switch {
	case err != nil:
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	case res.engine == state.EngineTSH:
		return r.viaTSH(ctx, t, res, f, set, w.keyed, reason == client || t.wanting.Load() > 0)
	}
	t.stopChild()
	r.learnCuts(ctx, t, f)
	return r.native(ctx, t, res, f, set, w)
}

// asGranted asks the cluster for what the session does not see, with the roles that the
// tunnel alone has. It returns unknown where it has none.
func (r *resolver) asGranted(
	ctx context.Context, tunnel string, f sessions.Session, unknown error, ask func(*cluster.Cluster) error,
) error {
	ids := r.memory.Grants(tunnel)
	if len(ids) == 0 {
		return unknown
	}
	err := f.Cluster.As(ctx, ids, ask)
	r.grantRefused(tunnel, err)
	return err
}

// native mints (or reuses) a cert and makes of it what serves clients.
func (r *resolver) native(ctx context.Context, t *tunnel, res resolution, f sessions.Session, set config.ProxyTrust, w way) resolution {
	requests, began := r.grants(t.spec.Name), time.Now()
	cert, err := w.mint(ctx, requests)
	if err != nil && requests != "" && r.grantRefused(t.spec.Name, err) {
		cert, err = w.mint(ctx, r.grants(t.spec.Name))
	}
	if errors.Is(err, cluster.ErrCodeNeeded) {
		r.askCode(t, f, w.codes)
		res.needsCode = true
	}
	switch {
	case res.needsCode && cert == nil:
		return r.waitsForCode(t, res, f)
	case err != nil && cert == nil:
		if !f.Cluster.Closed() { // else the session in its place is asked, and nothing has failed
			t.minted(nil, time.Since(began), err)
		}
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	t.minted(cert, time.Since(began), err)
	if res.cred, err = w.dialled(ctx, t, cert, set); err != nil {
		return r.failed(t, res, err)
	}
	if w.codes != nil {
		res.cred.verifiedFor = &f.Profile.Session.Identity
	}
	res.state, res.err = state.TunnelReady, nil
	res.next = slices.MinFunc([]time.Time{cert.RefreshAt, cert.ValidUntil()}, time.Time.Compare)
	if res.needsCode {
		res.next = cert.ValidUntil()
	}
	return res
}

// learnCuts notes what a tunnel's cluster says of itself. What a cut has shown
// before stands where the cluster does not say.
func (r *resolver) learnCuts(ctx context.Context, t *tunnel, f sessions.Session) {
	cuts, err := f.Cluster.CutsExpired(ctx, t.spec.Cluster)
	if err != nil {
		r.log.Debug("not known whether the cluster cuts connections", "cluster", t.spec.Cluster, "err", err)
		return
	}
	if cuts {
		t.cuts.note(t.spec.Cluster, true)
	}
}

// viaTSH has a supervised tsh carry the tunnel. One that asks for a security key
// is started when it is wanted, by a client: before, there may be no person to touch it.
func (r *resolver) viaTSH(
	ctx context.Context, t *tunnel, res resolution, f sessions.Session, set config.ProxyTrust, keyed, wanted bool,
) resolution {
	res.onDemand = keyed
	if keyed && !wanted && t.currentChild() == nil {
		return r.waitsForKey(t, res)
	}
	c, until, err := r.childFor(ctx, t, f, set, keyed)
	if err != nil {
		return r.failed(t, res, err)
	}
	if keyed && wanted && c.proc.TryAgain() {
		return r.waitsForKey(t, res)
	}
	res.state, res.problem = c.state(t.spec, sessions.LoginCommand(res.profile, f.Profile.User))
	if c.proc.Status().PIN {
		r.askPIN(t, f, c)
		res.needsCode = true
	}
	if keyed && res.state != state.TunnelReady { // clients wait for the key, not in a dial
		if res.state == state.TunnelConnecting {
			return r.waitsForKey(t, res)
		}
		if res.err = c.proc.Status().LastError; res.err == nil { // it asks for the key
			res.err = errKeyNeeded
		}
		res.next = until
		return res
	}
	if res.state == state.TunnelWaitingForLogin { // it asks for the key
		res.err = errKeyNeeded
	}
	res.cred = kinds[t.spec.Kind].viaChild(t, c, until)
	if res.cred.probe == nil { // what tsh does with its session only a client finds out; the proxy can be asked
		to := route.Route{ProxyAddr: f.Profile.ProxyAddr, RootCAs: set.RootCAs, Insecure: set.Insecure}
		res.cred.probe = probing(f.Cluster, route.Probe{}, to)
	}
	res.next = until
	return res
}

// waitsForKey is the outcome when a person must touch a security key.
func (r *resolver) waitsForKey(t *tunnel, res resolution) resolution {
	res.state, res.err = state.TunnelWaitingForLogin, errKeyNeeded
	res.problem = problemFor(res.err, t.spec, res.profile, res.named, t.lastProfile())
	res.next = time.Now().Add(time.Minute) // as in waiting
	return res
}

// waitsForCode is the outcome when a person must give a one-time code. The cert
// of the session before goes on serving as long as it may: a new one would not
// let the tunnel do more.
func (r *resolver) waitsForCode(t *tunnel, res resolution, f sessions.Session) resolution {
	if until, ok := t.verifiedUntil(&f.Profile.Session.Identity); ok {
		res.state, res.keep, res.next = state.TunnelReady, true, until
		return res
	}
	res.state, res.err, res.onDemand = state.TunnelWaitingForLogin, cluster.ErrCodeNeeded, true
	res.problem = problemFor(res.err, t.spec, res.profile, res.named, t.lastProfile())
	res.next = time.Now().Add(time.Minute) // as in waiting
	return res
}

// askCode has people asked for the code of a tunnel.
func (r *resolver) askCode(t *tunnel, f sessions.Session, c *codes) {
	requests := r.grants(t.spec.Name)
	r.needCode(login.CodeNeed{
		Profile: f.Profile, Tunnel: t.spec.Name, Of: t,
		Held: func() bool { return t.wanting.Load() > 0 },
		Met: func() bool {
			_, err := c.verified(requests)
			return err == nil
		},
		Answer: func(ctx context.Context, code string) error {
			if err := c.verify(ctx, requests, code); err != nil {
				return err
			}
			r.codeCame()
			return nil
		},
	})
}

// askPIN has people asked for the PIN that the tunnel's tsh waits for. A proxy far
// away may have let the client through to it before it asked.
func (r *resolver) askPIN(t *tunnel, f sessions.Session, c *child) {
	r.needCode(login.CodeNeed{
		Profile: f.Profile, Tunnel: t.spec.Name, Of: t, PIN: true,
		Held:   func() bool { return waiting(t.px.Status(), c) > 0 },
		Met:    func() bool { return !c.proc.Status().PIN },
		Answer: c.proc.AnswerPIN,
	})
}

// grants are the access requests whose roles the tunnel alone has, as a route
// names them.
func (r *resolver) grants(tunnel string) string { return strings.Join(r.memory.Grants(tunnel), ",") }

// suggestRequest adds to a refusal by the cluster the command that asks for
// access, where there is something to ask for.
func (r *resolver) suggestRequest(ctx context.Context, t *tunnel, res resolution, f sessions.Session) resolution {
	if res.problem == nil || res.err == nil || !refused(res.err) {
		return res
	}
	if cmd := r.requestCommand(ctx, f, t.spec); cmd != "" {
		res.problem.Action = cmd
	}
	return res
}

// suggestForClients looks for the request that would help the tunnel's clients,
// where the other side refuses them for want of rights.
func (r *resolver) suggestForClients(ctx context.Context, t *tunnel) {
	if t.refusals.suggest(func() string {
		f := r.sessions.ForCluster(t.spec.Cluster, t.spec.User, time.Now())
		if f.Profile == nil {
			return ""
		}
		return r.requestCommand(ctx, f, t.spec)
	}) {
		t.onChange()
	}
}

// noProfile is the error of a tunnel without a session. It is a *config.PolicyError
// as well where the policy would refuse the login.
func (r *resolver) noProfile(t *tunnel) error {
	proxy := cmp.Or(t.lastProfile().Proxy, r.sessions.ForbiddenProxy(t.spec.Cluster))
	if err := r.config().Policy.AllowsProxy(proxy); err != nil && proxy != "" {
		return fmt.Errorf("%w: %w", sessions.ErrNoProfile, err)
	}
	return sessions.ErrNoProfile
}

// waiting is the outcome when only a login helps, or not even that: where the policy
// forbids the proxy, no client is held.
func (r *resolver) waiting(t *tunnel, res resolution, err error) resolution {
	t.currentChild().gate()
	res.state, res.err = state.TunnelWaitingForLogin, err
	if _, ok := errors.AsType[*config.PolicyError](err); ok {
		res.state = state.TunnelError
	}
	res.problem = problemFor(err, t.spec, res.profile, res.named, t.owner(res))
	// Only a changed session helps, and that wakes the tunnel at once; the
	// distant next look is for clocks that were set. A leaf cluster that joins
	// wakes nothing.
	res.next = time.Now().Add(time.Minute)
	if errors.Is(err, sessions.ErrNoProfile) && len(r.sessions.Usable(time.Now())) > 0 {
		res.next = time.Now().Add(leafEvery)
	}
	return res
}

// failed is the outcome when the attempt met an error. A cert that is still
// valid goes on serving: a failed refresh never displaces it.
func (r *resolver) failed(t *tunnel, res resolution, err error) resolution {
	res.err = err
	if _, ok := errors.AsType[*cluster.SessionExpiredError](err); ok {
		return r.waiting(t, res, sessions.ErrLoginNeeded)
	}
	res.problem = problemFor(err, t.spec, res.profile, res.named, t.owner(res))
	res.state = state.TunnelError
	if _, ok := errors.AsType[*cluster.LeafAwayError](err); ok {
		res.next = time.Now().Add(leafEvery)
	}
	if refused(err) {
		t.currentChild().gate()
	}
	if t.servesSameIdentity(res) && !refused(err) {
		res.keep = true
		if !unreachable(err) {
			res.state = state.TunnelReady
		}
	}
	return res
}

func (r *resolver) noCode(t *tunnel) { r.codeGone(t.spec.Name, t) }

func (r *resolver) release(t *tunnel) {
	t.stopChild()
	if f := r.sessions.ForCluster(t.spec.Cluster, t.spec.User, time.Now()); f.Cluster != nil {
		f.Cluster.Forget(t.spec.Cluster, t.spec.Resource)
	}
}

// leafEvery is how often a leaf cluster that is away, or is yet to join, is looked
// for.
const leafEvery = 3 * time.Second

// refused reports whether err is the cluster's own no, after which an older
// cert has no business being used.
func refused(err error) bool {
	var denied *cluster.AccessDeniedError
	var unknown *cluster.UnknownDatabaseError
	var unknownKube *cluster.UnknownKubeError
	var locked *cluster.RefusedError
	return errors.As(err, &denied) || errors.As(err, &locked) || errors.As(err, &unknown) || errors.As(err, &unknownKube)
}

func unreachable(err error) bool {
	var away *cluster.UnreachableError
	return errors.As(err, &away) || errors.Is(err, route.ErrUnreachable)
}
