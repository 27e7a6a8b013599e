package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
)

// kind is what differs between tunnels to one kind of resource and to another:
// all of it. A new kind is one more file with an implementation, and a line in
// kinds.
type kind interface {
	// carrier returns the part that serves the clients of t.
	carrier(s *Set, t *tunnel) carrier
	// find looks the tunnel's resource up in its cluster.
	find(ctx context.Context, r *resolver, spec state.TunnelSpec, f sessions.Session) (way, error)
	// target is what tsh is run for, where it carries the tunnel.
	target(spec state.TunnelSpec, dir string) tsh.Target
	// viaChild returns the credential for clients that tsh carries.
	viaChild(t *tunnel, c *child, until time.Time) *credential
	// try opens the way to the resource, as for a client.
	try(ctx context.Context, cred *credential) (net.Conn, error)
	// list returns what a cluster offers the session's user.
	list(ctx context.Context, f sessions.Session, clusterName string) ([]ipc.Resource, error)
	// hungUp words that the way to the resource broke before it said anything.
	hungUp(p *state.Problem, err error, spec state.TunnelSpec, proxy string)
	// complete refuses a new tunnel that cannot work, and returns it with what it
	// lacks where there is no choice.
	complete(ctx context.Context, f sessions.Session, spec state.TunnelSpec) (state.TunnelSpec, error)
}

var kinds = map[state.Kind]kind{
	state.KindDB:   dbKind{},
	state.KindKube: kubeKind{},
}

// way is how a tunnel's resource is reached.
type way struct {
	protocol string   // of a database
	dbUsers  []string // whom the session may be there; none: not known
	needsTSH string   // why only tsh can carry it; empty: berth can
	// codes are set where the cluster asks for a one-time code for each session.
	codes *codes
	// keyed says that tsh asks for a security key, or another device.
	keyed   bool
	carries string // what berth carries, in a word
	// mint fetches a cert with the roles of the access requests, a list with
	// commas. A cert that comes with an error is older, and still valid.
	mint func(ctx context.Context, requests string) (*cluster.Cert, error)
	// dialled makes of a cert what serves clients.
	dialled func(ctx context.Context, t *tunnel, cert *cluster.Cert, set config.ProxyTrust) (*credential, error)
}

// engine decides what carries the tunnel, berth itself wherever it can, and says
// why.
func (w way) engine(spec state.TunnelSpec) (state.Engine, string, error) {
	switch {
	case spec.Engine == state.EngineTSH:
		return state.EngineTSH, "engine: tsh in the config", nil
	case w.needsTSH == "" && spec.Engine == state.EngineNative:
		return state.EngineNative, "engine: native in the config", nil
	case w.needsTSH == "":
		return state.EngineNative, "native carries " + w.carries, nil
	case spec.Engine == state.EngineNative:
		return state.EngineNative, "", &engineError{want: "native", why: w.needsTSH}
	default:
		return state.EngineTSH, w.needsTSH, nil
	}
}

// hardwareKey is why only tsh can use a session whose key berth cannot read.
const hardwareKey = "the session's key is a hardware key"

// profileNeedsTSH returns why no resource behind a profile can be reached but by
// tsh; empty means that it can.
func profileNeedsTSH(p *certwatch.Profile) string {
	policy := p.PrivateKeyPolicy
	if p.Session != nil && p.Session.Identity.PrivateKeyPolicy != "" {
		policy = p.Session.Identity.PrivateKeyPolicy
	}
	switch {
	case policy != "" && policy != "none" && policy != "web_session":
		return fmt.Sprintf("the cluster demands hardware keys (%s)", policy)
	case !p.TLSRoutingEnabled:
		return "the cluster does not use TLS routing"
	default:
		return ""
	}
}

// codes are how a tunnel's cert is fetched with a one-time code. Both take the
// access requests as mint does.
type codes struct {
	// verified returns the cert that a code has brought, or cluster.ErrCodeNeeded
	// with the one that is about to end, if there is one.
	verified func(requests string) (*cluster.Cert, error)
	// verify fetches it.
	verify func(ctx context.Context, requests, code string) error
}

// keyPerSession is why tsh carries what wants a security key for each session.
const keyPerSession = "the cluster asks for a security key for each session"

// errKeyNeeded says that a person must touch a security key.
var errKeyNeeded = errors.New(keyPerSession)

// noFactorError says that the cluster asks for MFA per session and the user has
// no second factor that could be shown.
type noFactorError struct{ why string }

func (e *noFactorError) Error() string { return e.why }

// meetMFA fills in how the cluster's demand for MFA per session is met. A user
// with both kinds of second factors is asked for a code, unless they prefer keys.
func (w *way) meetMFA(ctx context.Context, f sessions.Session, c *codes) error {
	has, err := f.Cluster.Factors(ctx)
	if err != nil {
		return err
	}
	prefersKey := f.Profile.MFAMode == "cross-platform" || f.Profile.MFAMode == "platform"
	switch {
	case has.Code && (!has.Key || !prefersKey):
		w.codes = c
		w.mint = func(_ context.Context, requests string) (*cluster.Cert, error) { return c.verified(requests) }
	case has.Key:
		w.needsTSH, w.keyed = keyPerSession, true
	default:
		return &noFactorError{"the cluster asks for MFA per session, and you have no second factor there"}
	}
	return nil
}

// List returns the resources of a kind that a cluster offers.
func List(ctx context.Context, k state.Kind, f sessions.Session, clusterName string) ([]ipc.Resource, error) {
	return kinds[k].list(ctx, f, clusterName)
}

// Complete refuses a new tunnel to what its cluster does not offer the session's
// user, or that lacks what its protocol needs and the session leaves a choice of.
// It returns the tunnel with what can only be one thing.
func Complete(ctx context.Context, f sessions.Session, spec state.TunnelSpec) (state.TunnelSpec, error) {
	return kinds[spec.Kind].complete(ctx, f, spec)
}
