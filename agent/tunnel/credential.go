package tunnel

import (
	"context"
	"crypto/tls"
	"time"

	"berth/agent/state"
	"berth/certwatch"
	"berth/proxies"
	"berth/proxies/kube"
)

// resolution is the outcome of one attempt to find a tunnel's credential.
type resolution struct {
	state        state.TunnelState
	problem      *state.Problem
	err          error
	id           certwatch.ProfileID
	profile      string // its proxy address
	user         string // of the profile
	named        string // the same where a command about the session has to name it, see sessions.UserAt
	protocol     string
	dbUsers      []string // whom the session may be; none: not known
	engine       state.Engine
	engineReason string
	cred         *credential
	next         time.Time // when to resolve again by itself; zero: only when something changes
	keep         bool      // the credential there was may go on being used
	needsCode    bool      // a one-time code or a PIN is asked for, see codes
	onDemand     bool      // held clients make it resolve again, although it waits for a person
	dated        bool      // problem knows since when it is
	unasked      bool      // err is what the cluster said before, and a client has it asked again
}

// isAway reports whether the proxy did not answer.
func (r resolution) isAway() bool { return r.state == state.TunnelError && unreachable(r.err) }

// awaited is what a client that is held waits for.
func (r resolution) awaited() string {
	switch {
	case r.state == state.TunnelWaitingForLogin:
		return "a login"
	case r.isAway():
		return "the proxy"
	default:
		return "a cert"
	}
}

type dialFailure struct {
	at  time.Time
	err error
}

// credential holds everything a tunnel needs to serve a client.
type credential struct {
	dial  proxies.Dial
	spare proxies.Dial   // makes connections that wait for their client; nil where none may
	kube  *kube.Upstream // in place of dial, for a tunnel to Kubernetes
	// probe tries the way, and says nothing on it.
	probe func(ctx context.Context) error
	// starting reports that the tsh which carries it starts: clients wait until then, as
	// for a cert. Nil: no tsh does.
	starting   func() bool
	identity   any  // what it was made for: the cert, or tsh's session; comparable
	upgrade    bool // its way has a connection upgrade
	validUntil time.Time
	// verifiedFor is the session's identity that a one-time code has brought the
	// cert for; nil: it took no code.
	verifiedFor *certwatch.Identity
	user        string // of Teleport, whose cert it is
}

// isLike reports whether d is made for the same, and goes the same way.
func (c *credential) isLike(d *credential) bool {
	return c != nil && c.identity == d.identity && c.upgrade == d.upgrade
}

func (c *credential) validAt(now time.Time) bool { return c != nil && now.Before(c.validUntil) }

// servesAt reports whether a client can be given c.
func (c *credential) servesAt(now time.Time) bool {
	return c.validAt(now) && (c.starting == nil || !c.starting())
}

// isAhead reports whether the credential's cert is not valid yet by the clock here.
// Whether it serves is the cluster's to say, by its own. One that took a one-time code
// is never replaced unasked.
func (c *credential) isAhead() bool {
	cert, ok := c.identity.(*tls.Certificate)
	return ok && c.verifiedFor == nil && time.Now().Before(cert.Leaf.NotBefore)
}
