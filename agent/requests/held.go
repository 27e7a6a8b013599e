package requests

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"berth/agent/access"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/internal/when"
)

// heldAssumes are the assumes that wait for a login, as clients of a tunnel do:
// by the proxy to log in to, and the request.
type heldAssumes struct {
	mu sync.Mutex // guards by
	by map[string]map[string]int
}

// enter counts one more; the caller calls leave when it waits no more.
func (h *heldAssumes) enter(proxy, id string) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = make(map[string]map[string]int)
	}
	if h.by[proxy] == nil {
		h.by[proxy] = make(map[string]int)
	}
	h.by[proxy][id]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.by[proxy][id]--; h.by[proxy][id] == 0 {
			delete(h.by[proxy], id)
		}
	}
}

// at returns the requests that wait for a login at a proxy.
func (h *heldAssumes) at(proxy string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.by[proxy]))
}

// hold is how long an assume may wait for a login: as long as it says itself,
// else as the clients of the tunnel that it is for.
func (rs *Requests) hold(want ipc.Assume) time.Duration {
	spec, _ := rs.cfg.Config().Tunnel(want.Tunnel)
	return max(0, min(*cmp.Or(want.Hold, new(spec.HoldDuration())), config.MaxHold))
}

// awaitSessionFor holds an assume until there is a session to do it with: at
// the request's proxy or, while it is not known whose the request is, at any.
// A login that is under way when the time is up is waited for; one that comes
// to nothing ends the hold.
func (rs *Requests) awaitSessionFor(ctx context.Context, want ipc.Assume, r state.Request, until time.Time) error {
	target := rs.holdTarget(r.Profile)
	if rs.hold(want) > 0 {
		leave := rs.held.enter(target.Proxy, cmp.Or(r.ID, access.Clean(want.ID, 200)))
		rs.cfg.OnChange() // the person is told
		defer func() {
			leave()
			rs.cfg.OnChange()
		}()
	}
	var under *login.Login
	logged, failed := false, error(nil)
	settled := func() bool {
		logged = rs.cfg.Sessions.ValidAt(r.Profile, time.Now())
		now := rs.cfg.Logins.Of(target.Key())
		if now != nil {
			under = now
		} else if under != nil {
			failed = under.Failure()
		}
		return logged || now == nil && failed != nil
	}
	ended := func() bool { return settled() || rs.cfg.Logins.Of(target.Key()) == nil }
	moved := &rs.cfg.Sessions.Moved
	if !moved.Until(ctx, time.Until(until), settled) && ctx.Err() == nil {
		// A login that is under way when the time is up is waited for.
		moved.Until(ctx, loginLimit, ended)
	}
	switch {
	case logged:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return rs.notHeldAnyMore(target, want, r, failed)
	}
}

// loginLimit bounds the wait for a login that is under way: longer than tsh
// itself waits for a person.
const loginLimit = time.Hour

// holdTarget is where the login is to be: at the request's proxy, else at the
// one that a login without a name is for. It may be that there is none.
func (rs *Requests) holdTarget(proxy string) login.Target {
	target, err := rs.cfg.Logins.Target(proxy)
	if err != nil {
		return login.Target{}
	}
	return target
}

// notHeldAnyMore is the error of an assume that timed out waiting for a login.
// failed is the login's error; nil means that there was none in time.
func (rs *Requests) notHeldAnyMore(target login.Target, want ipc.Assume, r state.Request, failed error) error {
	user := ""
	if target.Profile != nil {
		user = target.Profile.User
	}
	e := &ipc.Error{Code: ipc.CodeLoginNeeded, Hint: sessions.LoginCommand(target.Proxy, user)}
	where := ""
	if target.Proxy != "" {
		where = " at " + target.Proxy
	}
	what := "access request " + cmp.Or(r.ID, access.Clean(want.ID, 200)) + " was not assumed"
	switch held := rs.hold(want); {
	case failed != nil:
		e.Message = fmt.Sprintf("%v; %s", login.Failed(failed, target.Proxy), what)
	case held > 0:
		e.Message = fmt.Sprintf("no login%s came within %s: %s", where, when.Wait(held), what)
	default:
		e.Message = "no valid session" + where
	}
	return e
}
