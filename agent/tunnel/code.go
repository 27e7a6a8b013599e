package tunnel

import (
	"context"
	"errors"
	"slices"
	"time"

	"berth/agent/cluster"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
)

// CodeNeed is a tunnel that takes a one-time code, or the PIN of a security key:
// its cluster asks for one for each session. Its funcs may be called from any
// goroutine.
type CodeNeed struct {
	Profile *certwatch.Profile
	Tunnel  string
	PIN     bool
	Held    func() bool // a client waits for it
	Met     func() bool // it has what it needs: another tunnel's code served it too
	// Answer fetches the tunnel's cert with a code. Its error matches
	// cluster.ErrWrongCode or ErrUsedCode when the code is at fault.
	Answer func(ctx context.Context, code string) error
}

// errKeyNeeded says that a person must touch a security key.
var errKeyNeeded = errors.New(keyPerSession)

// askCode has people asked for the code of a tunnel.
func (r *resolver) askCode(t *tunnel, f sessions.Session, c *codes) {
	requests := r.grants(t.spec.Name)
	r.needCode(CodeNeed{
		Profile: f.Profile, Tunnel: t.spec.Name,
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

// askPIN has people asked for the PIN that the tunnel's tsh waits for.
func (r *resolver) askPIN(t *tunnel, f sessions.Session, c *child) {
	r.needCode(CodeNeed{
		Profile: f.Profile, Tunnel: t.spec.Name, PIN: true,
		Held:   func() bool { return t.wanting.Load() > 0 },
		Met:    func() bool { return !c.proc.Status().PIN },
		Answer: c.proc.AnswerPIN,
	})
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
	res.problem = problemFor(res.err, t.spec, res.profile, t.lastProfile())
	res.next = time.Now().Add(time.Minute) // as in waiting
	return res
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
