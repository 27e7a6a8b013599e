package agent

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/proxies/db"
	"berth/proxies/route"
)

// resolver finds, for a tunnel, the credential its clients are dialled with.
// One resolver serves all tunnels; it keeps no state of theirs but the tsh
// children it supervises.
type resolver struct {
	sessions *sessions.Sessions
	settings func(proxyAddr string) (proxySettings, error)
	saved    *memory.Store
	children *children
	trust    trust
	log      *slog.Logger
	// requestCommand is the command that asks for access to what a tunnel was
	// refused, or empty; grantRefused is told of a cert that was refused with
	// the access requests of the tunnel, and reports whether it took those
	// that are over from it.
	requestCommand func(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string
	grantRefused   func(tunnel string, err error) bool
}

// proxySettings is what the config says of one proxy.
type proxySettings struct {
	rootCAs  *x509.CertPool // nil: the system's
	caFile   string         // where rootCAs are from; empty: nowhere
	insecure bool
}

// resolve makes one attempt. It never blocks longer than the deadlines of the
// calls it makes.
func (r *resolver) resolve(ctx context.Context, t *tunnel, reason kickReason) resolution {
	now := time.Now()
	res := resolution{engine: t.lastEngine(), protocol: r.saved.ProtocolOf(t.spec.Cluster, t.spec.Resource)}
	f := r.sessions.Discover(ctx, t.spec.Cluster, now)
	if f.Profile != nil {
		res.profile = f.Profile.ProxyAddr
	}
	switch {
	case f.Profile == nil:
		return r.waiting(t, res, sessions.ErrNoProfile)
	case f.Profile.Settling:
		// The homes were being written when they were first read; certwatch
		// tells in a moment what came of it.
		res.state, res.err = state.TunnelConnecting, sessions.ErrSettling
		res.next = now.Add(time.Second)
		return res
	case !f.Valid(now):
		return r.waiting(t, res, sessions.ErrLoginNeeded)
	case now.Before(f.Profile.Session.ValidFrom):
		return r.failed(t, res, &clockSkewError{validFrom: f.Profile.Session.ValidFrom})
	}
	set, err := r.settings(f.Profile.ProxyAddr)
	if err != nil {
		return r.failed(t, res, err)
	}
	if reason == kickVerify && f.Cluster != nil {
		if err := f.Cluster.Ping(ctx); err != nil {
			return r.failed(t, res, err)
		}
		t.forgiveUnreachable()
	}
	if t.spec.Kind == state.KindKube {
		return r.resolveKube(ctx, t, res, f, set)
	}
	plan, err := r.plan(ctx, t.spec, f)
	res.engine, res.engineReason = plan.engine, plan.reason
	if plan.protocol != "" {
		res.protocol = plan.protocol
		if err := r.saved.RememberProtocol(t.spec.Cluster, t.spec.Resource, plan.protocol); err != nil {
			r.log.Warn("saved state not written", "err", err)
		}
	}
	if err != nil {
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	if plan.engine == state.EngineTSH {
		return r.viaTSH(ctx, t, res, f, set)
	}
	r.children.stop(t.spec.Name)
	return r.native(ctx, t, res, f, set, plan)
}

// grants are the access requests whose roles the tunnel alone has, as a route
// names them.
func (r *resolver) grants(tunnel string) string { return strings.Join(r.saved.Grants(tunnel), ",") }

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

// waiting is the outcome when only a login helps.
func (r *resolver) waiting(t *tunnel, res resolution, err error) resolution {
	r.children.gate(t.spec.Name)
	res.state, res.err = state.TunnelWaitingForLogin, err
	mem, _ := r.saved.ProfileOf(t.spec.Cluster)
	res.problem = problemFor(err, t.spec, res.profile, mem)
	// Nothing but a changed session helps, and that is told at once; the far
	// next look is for clocks that were set.
	res.next = time.Now().Add(time.Minute)
	return res
}

// failed is the outcome when the attempt met an error. A cert that is still
// valid goes on serving: a failed refresh never displaces it.
func (r *resolver) failed(t *tunnel, res resolution, err error) resolution {
	res.err = err
	if _, ok := errors.AsType[*cluster.SessionExpiredError](err); ok {
		return r.waiting(t, res, sessions.ErrLoginNeeded)
	}
	mem, _ := r.saved.ProfileOf(t.spec.Cluster)
	res.problem = problemFor(err, t.spec, res.profile, mem)
	res.state = state.TunnelError
	if refused(err) {
		r.children.gate(t.spec.Name)
	}
	if t.servesSameIdentity(res) && !refused(err) {
		res.keep = true
		if !unreachable(err) {
			res.state = state.TunnelReady
		}
	}
	return res
}

// refused reports whether err is the cluster's own no, after which an older
// cert has no business being used.
func refused(err error) bool {
	var denied *cluster.AccessDeniedError
	var unknown *cluster.UnknownDatabaseError
	var unknownKube *cluster.UnknownKubeError
	return errors.As(err, &denied) || errors.As(err, &unknown) || errors.As(err, &unknownKube)
}

func unreachable(err error) bool {
	var away *cluster.UnreachableError
	return errors.As(err, &away) || errors.Is(err, route.ErrUnreachable)
}

// enginePlan is what a tunnel's bytes will be carried by, and why.
type enginePlan struct {
	engine   state.Engine
	reason   string
	protocol string
	proto    db.Protocol
	route    cluster.DBRoute
}

// plan decides the engine: native wherever it can, tsh where only tsh can.
func (r *resolver) plan(ctx context.Context, spec state.TunnelSpec, f sessions.Session) (enginePlan, error) {
	p := enginePlan{engine: state.EngineNative}
	if f.Cluster == nil {
		// A session whose key berth cannot use: a hardware key.
		if spec.Engine == state.EngineNative {
			return p, &engineError{want: "native", why: "the session's key is a hardware key, which only tsh can use"}
		}
		p.engine, p.reason = state.EngineTSH, "the session's key is a hardware key"
		return p, nil
	}
	database, err := f.Cluster.Database(ctx, spec.Cluster, spec.Resource)
	if _, unknown := errors.AsType[*cluster.UnknownDatabaseError](err); unknown && r.grants(spec.Name) != "" {
		// The session does not see it, but the tunnel may.
		err = f.Cluster.As(ctx, r.saved.Grants(spec.Name), func(c *cluster.Cluster) error {
			database, err = c.Database(ctx, spec.Cluster, spec.Resource)
			return err
		})
		r.grantRefused(spec.Name, err)
	}
	if err != nil {
		return p, err
	}
	p.protocol = database.Protocol
	proto, known := db.Lookup(database.Protocol)
	p.proto = proto
	p.route = cluster.DBRoute{
		Cluster: spec.Cluster, Service: spec.Resource, Protocol: database.Protocol,
		User: dbUser(proto, spec), Database: spec.DBName, Requests: r.grants(spec.Name),
	}
	why, err := r.needsTSH(ctx, f, p, known)
	if err != nil {
		return p, err
	}
	switch {
	case spec.Engine == state.EngineTSH:
		p.engine, p.reason = state.EngineTSH, "engine: tsh in the config"
	case why == "" && spec.Engine == state.EngineNative:
		p.reason = "engine: native in the config"
	case why == "":
		p.reason = "native carries " + database.Protocol
	case spec.Engine == state.EngineNative:
		return p, &engineError{want: "native", why: why}
	default:
		p.engine, p.reason = state.EngineTSH, why
	}
	return p, nil
}

// needsTSH returns why native cannot carry the tunnel; empty means it can.
func (r *resolver) needsTSH(ctx context.Context, f sessions.Session, p enginePlan, known bool) (string, error) {
	prof := f.Profile
	switch {
	case !known:
		return fmt.Sprintf("protocol %q is not known to berth", p.protocol), nil
	case !p.proto.Native:
		return p.protocol + " needs more than a byte pipe", nil
	case hardwareKeyPolicy(prof):
		return "the cluster demands hardware keys (" + prof.PrivateKeyPolicy + ")", nil
	case !prof.TLSRoutingEnabled:
		return "the cluster does not use TLS routing", nil
	}
	mfa, err := f.Cluster.MFARequired(ctx, p.route)
	if err != nil {
		return "", err
	}
	if mfa {
		return "the cluster asks for MFA per session", nil
	}
	return "", nil
}

// dbUser is the database user that the cert names: the tunnel's, else the
// protocol's default.
func dbUser(proto db.Protocol, spec state.TunnelSpec) string {
	return cmp.Or(spec.DBUser, proto.DefaultDBUser)
}

func hardwareKeyPolicy(p *certwatch.Profile) bool {
	policy := p.PrivateKeyPolicy
	if p.Session != nil && p.Session.Identity.PrivateKeyPolicy != "" {
		policy = p.Session.Identity.PrivateKeyPolicy
	}
	return policy != "" && policy != "none" && policy != "web_session"
}

// native mints (or reuses) a cert and makes the dial out of it.
func (r *resolver) native(ctx context.Context, t *tunnel, res resolution, f sessions.Session, set proxySettings, plan enginePlan) resolution {
	if plan.proto.NeedsDBUser && plan.route.User == "" {
		return r.failed(t, res, &missingDBUserError{
			protocol: plan.protocol, allowed: f.Profile.Session.Identity.DBUsers,
		})
	}
	cert, err := f.Cluster.DBCert(ctx, plan.route)
	if err != nil && plan.route.Requests != "" && r.grantRefused(t.spec.Name, err) {
		plan.route.Requests = r.grants(t.spec.Name)
		cert, err = f.Cluster.DBCert(ctx, plan.route)
	}
	if err != nil && cert == nil {
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	upgrade := f.Cluster.ConnUpgradeRequired()
	var clusterCAs *x509.CertPool
	if upgrade {
		// Inside a connection upgrade the proxy answers with a cert of the
		// root cluster's CA instead of its web cert.
		if clusterCAs, err = f.Cluster.ClusterCAs(ctx, f.Cluster.Root()); err != nil {
			return r.failed(t, res, err)
		}
	} else if err := r.trust.check(ctx, f.Profile.ProxyAddr, set); err != nil {
		return r.failed(t, res, err)
	}
	host, _, err := net.SplitHostPort(f.Profile.ProxyAddr)
	if err != nil {
		return r.failed(t, res, fmt.Errorf("profile %s: proxy address: %w", f.Profile.Name, err))
	}
	to := route.Route{
		ProxyAddr: f.Profile.ProxyAddr, ServerName: host, ALPN: plan.proto.ALPN,
		Cert: cert.TLS, RootCAs: set.rootCAs, Insecure: set.insecure,
		ConnUpgrade: upgrade, ClusterCAs: clusterCAs,
	}
	res.state, res.err = state.TunnelReady, nil
	res.cred = &credential{
		dial:       route.Dialer{Route: to, UpgradeNeeded: f.Cluster.RequireConnUpgrade}.Dial,
		validUntil: cert.ValidUntil().Round(0),
	}
	res.next = earlier(cert.RefreshAt, cert.ValidUntil())
	return res
}

// release drops what the resolver holds for a tunnel: its tsh child and its
// cert, so that the next resolution starts from nothing.
func (r *resolver) release(spec state.TunnelSpec) {
	r.children.stop(spec.Name)
	if f := r.sessions.ForCluster(spec.Cluster, time.Now()); f.Cluster != nil {
		f.Cluster.Forget(spec.Cluster, spec.Resource)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// lastEngine is the engine of the last resolution: what a tunnel says while it
// cannot know better.
func (t *tunnel) lastEngine() state.Engine {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status.engine == "" || t.spec.Engine == state.EngineTSH {
		if t.spec.Engine == state.EngineTSH {
			return state.EngineTSH
		}
		return state.EngineNative
	}
	return t.status.engine
}

// servesSameIdentity reports whether the tunnel has a valid credential from
// the same proxy as the failed resolution.
func (t *tunnel) servesSameIdentity(res resolution) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cur.validAt(time.Now()) && t.status.profile == res.profile
}

// forgiveUnreachable forgets a dial failure that was the network's: the proxy
// just answered.
func (t *tunnel) forgiveUnreachable() {
	if f := t.dialFailure(); f != nil && errors.Is(f.err, route.ErrUnreachable) {
		t.setDialFailure(nil)
	}
}
