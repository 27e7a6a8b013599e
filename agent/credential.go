package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"berth/agent/sessions"
	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/kube"
)

// connectWait bounds how long a client waits for a cert that is being
// fetched; waiting for a person to log in is bounded by the tunnel's hold.
const connectWait = 12 * time.Second

// credential is what a tunnel needs to serve a client.
type credential struct {
	dial       proxies.Dial
	kube       *kube.Upstream // in place of dial, for a tunnel to Kubernetes
	identity   any            // what kube was made for; comparable
	validUntil time.Time
}

func (c *credential) validAt(now time.Time) bool { return c != nil && now.Before(c.validUntil) }

// sourceError is why a client got no credential, as opposed to a dial that
// failed with one.
type sourceError struct {
	why error // errHoldEnded or errConnectSlow; nil: the resolution's own error
	err error // the resolution's error; may be nil
}

func (e *sourceError) Error() string {
	switch {
	case e.why == nil:
		return e.err.Error()
	case e.err == nil:
		return e.why.Error()
	default:
		return fmt.Sprintf("%v: %v", e.why, e.err)
	}
}

func (e *sourceError) Unwrap() []error { return []error{e.why, e.err} }

var (
	errHoldEnded   = errors.New("no login came while the client was held")
	errConnectSlow = errors.New("the cluster took too long to issue a cert")
)

// source hands a client the way to dial.
func (t *tunnel) source(ctx context.Context) (proxies.Dial, error) {
	cred, err := t.credentialFor(ctx)
	if err != nil {
		return nil, err
	}
	return cred.dial, nil
}

// credentialFor hands a client a credential that is valid now. While nobody is logged in it waits,
// for as long as ctx allows (the tunnel's hold); while a cert is being fetched
// it waits for the outcome; any other trouble is tried once more for this
// client and then told.
func (t *tunnel) credentialFor(ctx context.Context) (*credential, error) {
	t.mu.Lock()
	arrived := t.attempts
	t.mu.Unlock()
	deadline := time.Now().Add(connectWait)
	kicked := false
	for {
		t.mu.Lock()
		cur, status, attempts, changed := t.cur, t.status, t.attempts, t.changed
		t.mu.Unlock()
		if cur.validAt(time.Now()) {
			return cur, nil
		}
		waitsForLogin := status.state == state.TunnelWaitingForLogin
		if attempts > 0 && waitsForLogin && t.spec.HoldDuration() == 0 {
			return nil, &sourceError{err: status.err}
		}
		if attempts > arrived && !waitsForLogin && !errors.Is(status.err, sessions.ErrSettling) { // the homes' reader tells in a moment
			return nil, &sourceError{err: status.err}
		}
		if !kicked && !waitsForLogin {
			t.wake(kickClient)
			kicked = true
		}
		var expire <-chan time.Time
		if !waitsForLogin {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expire = timer.C
		}
		select {
		case <-changed:
		case <-expire:
			return nil, &sourceError{why: errConnectSlow, err: status.err}
		case <-ctx.Done():
			return nil, &sourceError{why: errHoldEnded, err: status.err}
		}
	}
}
