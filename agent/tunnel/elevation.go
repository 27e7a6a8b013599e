package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/install"
	"berth/agent/sessions"
	"berth/agent/tsh"
)

// elevation is a private home for the tsh of one tunnel: a copy of the session
// whose certs have the roles of access requests as well. It lasts as long as
// the tunnel's child runs with it, and is removed with all that is in it.
type elevation struct {
	stage       *install.Staging
	fingerprint string   // of the session that it was made from
	requests    []string // that it has
	validUntil  time.Time
}

// fits reports whether e matches the tunnel's present needs.
func (e *elevation) fits(fingerprint string, requests []string, now time.Time) bool {
	return e != nil && e.fingerprint == fingerprint && slices.Equal(e.requests, requests) && now.Before(e.validUntil)
}

// hasMoreThan reports whether e has roles that next has not; either may be nil.
func (e *elevation) hasMoreThan(next *elevation) bool {
	return e != nil && (next == nil || lacks(next.requests, e.requests))
}

// elevations are the private homes of one child: the one it runs with or is
// about to, last, and those before it that its process may still use.
type elevations struct {
	log *slog.Logger

	mu   sync.Mutex // guards list
	list []*elevation
}

// current is the one to run with; nil means the session's own home.
func (es *elevations) current() *elevation {
	es.mu.Lock()
	defer es.mu.Unlock()
	if len(es.list) == 0 {
		return nil
	}
	return es.list[len(es.list)-1]
}

// take makes e the one to run with; nil means none.
func (es *elevations) take(e *elevation) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.list = append(es.list, e)
}

// give takes e off the list, for another child to run with.
func (es *elevations) give(e *elevation) {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.list = slices.DeleteFunc(es.list, func(have *elevation) bool { return have == e })
}

// tidy removes the homes that are no longer used: served says which one the
// process that takes connections uses.
func (es *elevations) tidy(served func() (home string, ok bool)) {
	home, ok := served()
	es.remove(func(list []*elevation) (kept int) {
		if len(list) == 0 {
			return 0
		}
		last := list[len(list)-1]
		if !ok || last != nil && last.stage.Dir != home {
			return len(list) // the process is yet to come
		}
		if last == nil && slices.ContainsFunc(list, func(e *elevation) bool { return e != nil && e.stage.Dir == home }) {
			return len(list) // the process for the session's own home is yet to come
		}
		if last == nil {
			return 0
		}
		return 1
	})
}

// close removes them all.
func (es *elevations) close() { es.remove(func([]*elevation) int { return 0 }) }

// remove removes all homes but the last ones, of which keep says how many.
func (es *elevations) remove(keep func([]*elevation) int) {
	es.mu.Lock()
	gone := len(es.list) - keep(es.list)
	list := es.list[:gone]
	es.list = es.list[gone:]
	es.mu.Unlock()
	for _, e := range list {
		if e == nil {
			continue
		}
		if err := e.stage.Close(); err != nil {
			es.log.Warn("private home not removed", "home", e.stage.Dir, "err", err)
		}
	}
}

// childFor returns the tsh child that is to carry the tunnel, and the end of
// the certs that it has.
func (r *resolver) childFor(
	ctx context.Context, t *tunnel, f sessions.Session, set config.ProxyTrust, keyed bool,
) (_ *child, until time.Time, err error) {
	up, err := r.elevationFor(ctx, t, f, set)
	if err != nil {
		return nil, until, err
	}
	until = f.Profile.Session.ValidUntil.Round(0)
	if up != nil {
		until = up.validUntil.Round(0)
	}
	c, err := r.launcher.ensure(t, f.Profile, set, up, keyed)
	if err != nil && up != nil && t.currentChild().elevation() != up {
		(&elevations{log: r.log, list: []*elevation{up}}).close() // no child will
	}
	return c, until, err
}

// elevationFor returns the private home that a tunnel's tsh needs for the roles
// that the tunnel alone has; nil means that it has none. Access requests that
// are over are taken from the tunnel.
func (r *resolver) elevationFor(ctx context.Context, t *tunnel, f sessions.Session, set config.ProxyTrust) (*elevation, error) {
	for {
		requests := r.memory.Grants(t.spec.Name)
		if len(requests) == 0 {
			return nil, nil
		}
		if e := t.currentChild().elevation(); e.fits(f.Profile.Session.Fingerprint, requests, time.Now()) {
			return e, nil
		}
		e, err := r.elevate(ctx, f, set, requests)
		if err == nil || !r.grantRefused(t.spec.Name, err) {
			return e, err
		}
	}
}

// elevate makes a private home.
func (r *resolver) elevate(ctx context.Context, f sessions.Session, set config.ProxyTrust, requests []string) (_ *elevation, err error) {
	p := f.Profile
	stage, err := install.CopySession(ctx, p.Home, p.Name, p.User)
	if err != nil {
		return nil, err
	}
	e := &elevation{stage: stage, fingerprint: p.Session.Fingerprint, requests: requests, validUntil: p.Session.ValidUntil}
	defer func() {
		if err != nil {
			(&elevations{log: r.log, list: []*elevation{e}}).close()
		}
	}()
	if f.Cluster == nil || p.Session.SSH == nil {
		return e, r.elevateByTSH(ctx, e, f, set)
	}
	certs, err := f.Cluster.Reissue(ctx, cluster.Reissue{Assume: requests})
	if err != nil {
		return nil, err
	}
	if certs.ValidUntil.Before(e.validUntil) {
		e.validUntil = certs.ValidUntil
	}
	return e, install.Certs(ctx, install.CertsConfig{
		Home: stage.Dir, ProxyHost: p.Name, User: p.User, Cert: certs.TLS,
		SSHCerts: map[string][]byte{certs.Cluster: certs.SSH}, Logger: r.log,
	})
}

// elevateByTSH has tsh assume in the private home, where berth cannot use the
// session's key.
func (r *resolver) elevateByTSH(ctx context.Context, e *elevation, f sessions.Session, set config.ProxyTrust) error {
	path, err := tsh.Find(tsh.Options{ConfigPath: r.launcher.tshPath()})
	if err != nil {
		return err
	}
	cfg := tsh.LoginConfig{
		Path: path, Home: e.stage.Dir, Proxy: f.Profile.ProxyAddr, User: f.Profile.User, Insecure: set.Insecure, CAFile: set.CAFile, Logger: r.log,
	}
	for _, id := range e.requests {
		err := assumeByTSH(ctx, cfg, id)
		if _, refused := errors.AsType[*tsh.ExitError](err); refused { // why, only its words say
			if why := r.assumable(ctx, f, id); isOver(why) {
				return fmt.Errorf("%w: %w", why, err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// assumeTime bounds tsh's assuming of a request, which asks for nothing.
const assumeTime = 15 * time.Second

func assumeByTSH(ctx context.Context, cfg tsh.LoginConfig, id string) error {
	ctx, cancel := context.WithTimeout(ctx, assumeTime)
	defer cancel()
	return tsh.Assume(ctx, cfg, id)
}

// elevation is the private home that the child runs with, or is about to; nil
// when it has none. A nil child has none.
func (c *child) elevation() *elevation {
	if c == nil {
		return nil
	}
	return c.homes.current()
}
