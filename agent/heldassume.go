package agent

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
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/internal/wake"
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

// holdEvery is how often a held assume looks whether there is a session.
const holdEvery = 50 * time.Millisecond

// hold is how long an assume may wait for a login: as long as it says itself,
// else as the clients of the tunnel that it is for.
func (a *Agent) hold(want ipc.Assume) time.Duration {
	spec, _ := a.current().Tunnel(want.Tunnel)
	return max(0, min(*cmp.Or(want.Hold, new(spec.HoldDuration())), config.MaxHold))
}

// awaitSessionFor holds an assume until there is a session to do it with: at
// the request's proxy or, while it is not known whose the request is, at any.
// A login that is under way when the time is up is waited for; one that comes
// to nothing ends the hold.
func (a *Agent) awaitSessionFor(ctx context.Context, want ipc.Assume, r state.Request, until time.Time) error {
	target := a.holdTarget(r.Profile)
	if a.hold(want) > 0 {
		leave := a.held.enter(target.proxy, cmp.Or(r.ID, access.Clean(want.ID, 200)))
		a.touch() // the person is told
		defer func() {
			leave()
			a.touch()
		}()
	}
	var under *login
	for !a.sessions.ValidAt(r.Profile, time.Now()) {
		if l := a.logins.of(target.key()); l != nil {
			under = l
		} else if under != nil && under.failure() != nil {
			return a.notHeldAnyMore(target, want, r, under.failure())
		} else if !time.Now().Before(until) {
			return a.notHeldAnyMore(target, want, r, nil)
		}
		if !wake.Sleep(ctx, holdEvery) {
			return ctx.Err()
		}
	}
	return nil
}

// holdTarget is where the login is to be: at the request's proxy, else at the
// one that a login without a name is for. It may be that there is none.
func (a *Agent) holdTarget(proxy string) loginTarget {
	target, err := a.loginTarget(proxy)
	if err != nil {
		return loginTarget{}
	}
	return target
}

// notHeldAnyMore is what an assume is answered that no login came for. failed
// is why the login came to nothing; nil means that there was none in time.
func (a *Agent) notHeldAnyMore(target loginTarget, want ipc.Assume, r state.Request, failed error) error {
	user := ""
	if target.profile != nil {
		user = target.profile.User
	}
	e := &ipc.Error{Code: ipc.CodeLoginNeeded, Hint: sessions.LoginCommand(target.proxy, user)}
	where := ""
	if target.proxy != "" {
		where = " at " + target.proxy
	}
	what := "access request " + cmp.Or(r.ID, access.Clean(want.ID, 200)) + " was not assumed"
	switch held := a.hold(want); {
	case failed != nil:
		told := loginFailed(failed, target.proxy)
		e.Message = fmt.Sprintf("%v; %s", told, what)
	case held > 0:
		e.Message = fmt.Sprintf("no login%s came within %s: %s", where, when.Wait(held), what)
	default:
		e.Message = "no valid session" + where
	}
	return e
}
