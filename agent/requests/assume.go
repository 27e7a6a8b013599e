package requests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/install"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/shell"
	"berth/internal/when"
)

var _ ipc.RequestBackend = (*Requests)(nil)

const (
	// readWait is how long changed certs may take to be read back.
	readWait = 10 * time.Second
	// believeWait is how long certwatch may take to believe that a session has
	// gone.
	believeWait = 6 * time.Second
	// loginLimit bounds the wait for a login that is under way: longer than tsh
	// itself waits for a person.
	loginLimit = time.Hour
)

// AssumeRequest takes a request's roles. Without a session to do it with it is
// held, as clients of tunnels are, until a login.
func (rs *Requests) AssumeRequest(ctx context.Context, want ipc.Assume) (ipc.Assumed, error) {
	if want.Tunnel != "" {
		if err := rs.mustHave(want.Tunnel); err != nil {
			return ipc.Assumed{}, err
		}
	}
	for until := time.Now().Add(rs.hold(want)); ; {
		r, got, err := rs.tryAssume(ctx, want)
		if !errors.Is(err, ipc.ErrLoginNeeded) || rs.loggedIn(r) {
			return got, err
		}
		if err := rs.awaitSessionFor(ctx, want, r, until); err != nil {
			return got, err
		}
	}
}

// tryAssume is one attempt, and the request that it was for, as far as that is
// known.
func (rs *Requests) tryAssume(ctx context.Context, want ipc.Assume) (r state.Request, got ipc.Assumed, err error) {
	if r, err = rs.lookup(ctx, want.ID); err != nil {
		return r, got, err
	}
	end, err := rs.assume(ctx, r, want.Tunnel, want.AcceptEarlierEnd)
	if err != nil {
		rs.board.Refresh()
		return r, got, rs.requestIPC(err, r, r.User)
	}
	rs.cfg.Publish()
	got = ipc.Assumed{Request: r, SessionUntil: state.Instant(end)}
	if now, err := access.Find(rs.board.Requests(time.Now()), r.ID); err == nil {
		got.Request = now
	}
	return r, got, nil
}

// assume takes a request's roles for the session, or for one tunnel alone.
func (rs *Requests) assume(ctx context.Context, r state.Request, tunnel string, acceptCost bool) (time.Time, error) {
	f := rs.owner(r)
	switch {
	case !r.Mine:
		return time.Time{}, &ipc.Error{
			Code: ipc.CodeDenied, Message: fmt.Sprintf("access request %s is %s's, who alone can assume it", r.ID, r.User), Hint: `see "berth request ls --mine"`,
		}
	case !f.Valid(time.Now()):
		return time.Time{}, sessions.ErrLoginNeeded
	case tunnel != "":
		return time.Time{}, rs.assumeFor(ctx, f, r, tunnel)
	}
	var p *certwatch.Profile
	err := rs.changeSession(ctx, f, func(f sessions.Session) (err error) {
		if p = f.Profile; slices.Contains(p.Session.Identity.ActiveRequests, r.ID) {
			return nil
		}
		c := rs.changer(f, false)
		c.Tunnels, c.Resources = rs.cfg.Tunnels.Outside(r), r.Resources
		if _, err := c.Assume(ctx, r.ID, acceptCost); err != nil {
			return err
		}
		rs.cfg.OnAssume()
		rs.log.Info("access request assumed", "request_id", r.ID, "roles", r.Roles, "profile", r.Profile)
		p, err = rs.awaitRequests(ctx, f.Profile, func(active []string) bool { return slices.Contains(active, r.ID) })
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return p.Session.ValidUntil, nil
}

// owner returns the session that acts for a request's user: of those at its proxy,
// one of the user before another's, and a valid one before one that is not.
func (rs *Requests) owner(r state.Request) sessions.Session {
	return rs.cfg.Sessions.Best(func(f sessions.Session) int {
		if f.Profile.ProxyAddr != r.Profile {
			return -1
		}
		rank := 0
		if f.Profile.User == r.User {
			rank += 2
		}
		if f.Valid(time.Now()) {
			rank++
		}
		return rank
	})
}

// loggedIn reports whether there is a session to assume a request with; while it is
// not known whose the request is, any will do.
func (rs *Requests) loggedIn(r state.Request) bool {
	if r.Profile == "" {
		return rs.cfg.Sessions.ValidAt("", time.Now())
	}
	return rs.owner(r).Valid(time.Now())
}

// changeTries is how often a change of a session's certs starts over because
// another session has come in between.
const changeTries = 3

// changeSession changes a session's certs, one change after the other: each
// starts from the certs that the previous change left. It first waits for a
// login under way, which would replace the session.
func (rs *Requests) changeSession(ctx context.Context, f sessions.Session, change func(sessions.Session) error) error {
	turn := rs.turn(f.Profile.ID())
	if !turn.Take(ctx) {
		return ctx.Err()
	}
	defer turn.Give()
	for try := 1; ; try++ {
		if err := rs.awaitLogin(ctx, f.Profile); err != nil {
			return err
		}
		if f = rs.cfg.Sessions.Of(f.Profile.ID()); !f.Valid(time.Now()) {
			return sessions.ErrLoginNeeded
		}
		err := change(f)
		if try == changeTries || !rs.overtaken(ctx, f, err) {
			return err
		}
	}
}

// overtaken reports whether err came because another session, or a logout, has taken
// the place of f, and waits until that is read.
func (rs *Requests) overtaken(ctx context.Context, f sessions.Session, err error) bool {
	over := errors.Is(err, install.ErrChanged) || err != nil && f.Cluster != nil && f.Cluster.Closed()
	return over && rs.awaitAnother(ctx, f)
}

// awaitAnother waits until a session is read back as another one, or as none:
// the homes' reader takes a moment to believe that one has gone. False means
// that it stays as it is.
func (rs *Requests) awaitAnother(ctx context.Context, was sessions.Session) bool {
	rs.cfg.Refresh()
	return rs.cfg.Sessions.Moved.Until(ctx, believeWait, func() bool {
		now := rs.cfg.Sessions.Of(was.Profile.ID())
		return !now.Valid(time.Now()) || now.Profile.Session.Fingerprint != was.Profile.Session.Fingerprint
	})
}

// assumeFor gives one tunnel the roles.
func (rs *Requests) assumeFor(ctx context.Context, f sessions.Session, r state.Request, name string) error {
	spec, ok := rs.cfg.Config().Tunnel(name)
	if !ok {
		return rs.mustHave(name)
	}
	serving := rs.cfg.Sessions.ForCluster(spec.Cluster, spec.User, time.Now()).Profile
	if serving == nil || serving.ProxyAddr != r.Profile {
		return &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %s leads to cluster %s, and the request is of %s", name, spec.Cluster, r.Cluster),
			Hint: "choose a tunnel of that cluster, or leave --tunnel out",
		}
	}
	if serving.User != f.Profile.User {
		return &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %s runs as %s, and the request is %s's", name, serving.User, r.User),
			Hint: "choose a tunnel that runs as " + r.User + ", or leave --tunnel out",
		}
	}
	if !tunnel.Reaches(r, spec) {
		return &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %s leads to %s, and the request gives access to %s alone", name, spec.Resource, strings.Join(r.Resources, ", ")),
			Hint: "choose a tunnel that leads there, or ask for more: " + shell.Quote("berth", "request", "create", "--resource", resourceID(spec)),
		}
	}
	err := rs.check(ctx, f, r)
	if rs.overtaken(ctx, f, err) {
		if f = rs.cfg.Sessions.Of(f.Profile.ID()); !f.Valid(time.Now()) {
			return sessions.ErrLoginNeeded
		}
		err = rs.check(ctx, f, r)
	}
	if err != nil {
		return err
	}
	if err := rs.cfg.Tunnels.Grant(name, r); err != nil {
		return err
	}
	rs.cfg.OnAssume()
	rs.log.Info("access request assumed for a tunnel", "request_id", r.ID, "roles", r.Roles, "tunnel", name)
	return nil
}

// check asks the server whether a request can be assumed now; where only tsh
// can ask, what it has listed counts.
func (rs *Requests) check(ctx context.Context, f sessions.Session, r state.Request) error {
	if f.Cluster != nil {
		_, err := access.Check(ctx, f.Cluster, r.ID, time.Now())
		return err
	}
	if !access.AssumableAt(r, time.Now()) {
		return &cluster.NotAssumableError{Why: string(r.State), Err: fmt.Errorf("access request %s is %s and cannot be assumed now", r.ID, r.State)}
	}
	return nil
}

// Assumable asks whether a session can have the roles of a request now; the errors are
// those of access.Check.
func (rs *Requests) Assumable(ctx context.Context, f sessions.Session, id string) error {
	if slices.ContainsFunc(rs.board.Requests(time.Now()), func(r state.Request) bool { return r.ID == id && r.User != access.CleanName(f.Profile.User) }) {
		return notOf(f, id)
	}
	r := state.Request{ID: id}
	if f.Cluster == nil {
		list, err := access.TSH{Run: rs.tshRunner(f.Profile)}.Requests(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(r *types.AccessRequestV3) bool { return r.GetName() == id })
		if i < 0 {
			return &cluster.UnknownRequestError{ID: id}
		}
		if list[i].GetUser() != f.Profile.User {
			return notOf(f, id)
		}
		r = access.Draw(list[i], whoOf(f.Profile), time.Now())
	}
	return rs.check(ctx, f, r)
}

// notOf says that a request is another user's: it may be as good as ever.
func notOf(f sessions.Session, id string) error {
	return fmt.Errorf("access request %s is not one of %s", id, f.Profile.User)
}

// changer changes the certs of a session.
func (rs *Requests) changer(f sessions.Session, dropping bool) access.Changer {
	p := f.Profile
	c := access.Changer{TSH: rs.tshRunner(p), SessionEnd: p.Session.ValidUntil}
	if f.Cluster == nil {
		return c
	}
	c.Cluster = f.Cluster
	if p.Session.SSH == nil {
		return c // there is no SSH cert to reissue
	}
	c.Install = func(ctx context.Context, certs *cluster.SessionCerts) error {
		return install.Certs(ctx, install.CertsConfig{
			Home: p.Home, ProxyHost: p.Name, User: p.User, Cert: certs.TLS,
			SSHCerts: map[string][]byte{certs.Cluster: certs.SSH}, DropResources: dropping, Logger: rs.log,
		})
	}
	return c
}

// awaitLogin waits until no login of a profile is under way.
func (rs *Requests) awaitLogin(ctx context.Context, p *certwatch.Profile) error {
	key := login.Key{Home: p.Home, Proxy: p.ProxyAddr}
	if !rs.cfg.Sessions.Moved.Until(ctx, ruleWait, func() bool { return rs.cfg.Logins.Of(key) == nil }) {
		return &ipc.Error{Code: ipc.CodeTimeout, Message: "a login at " + p.ProxyAddr + " is under way", Hint: "finish it, and try again"}
	}
	return nil
}

// awaitRequests waits until a profile's session is read back with the active
// requests that ok accepts.
func (rs *Requests) awaitRequests(ctx context.Context, was *certwatch.Profile, ok func(active []string) bool) (*certwatch.Profile, error) {
	rs.cfg.Refresh()
	var p *certwatch.Profile
	read := rs.cfg.Sessions.Moved.Until(ctx, readWait, func() bool {
		p = rs.cfg.Sessions.Of(was.ID()).Profile
		return p != nil && p.Session != nil && ok(p.Session.Identity.ActiveRequests)
	})
	switch {
	case read:
		rs.Follow()
		return p, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("the new certs are in %s, but they were not read back", was.Home)
	}
}

// DropRequests gives roles up: those of a tunnel, or those of the session and
// of all tunnels that have a named request's.
func (rs *Requests) DropRequests(ctx context.Context, ids []string, tunnel string) ([]string, error) {
	if tunnel != "" {
		if err := rs.mustHave(tunnel); err != nil {
			return nil, err
		}
	}
	wanted := make([]string, 0, len(ids))
	for _, id := range ids {
		r, err := rs.findActive(id)
		if err != nil {
			return nil, rs.requestIPC(err, state.Request{ID: id}, "")
		}
		wanted = append(wanted, r)
	}
	named := func(id string) bool { return len(wanted) == 0 || slices.Contains(wanted, id) }
	dropped, err := rs.dropGrants(tunnel, named)
	if err != nil {
		return nil, err
	}
	if tunnel == "" {
		for _, f := range rs.cfg.Sessions.All() {
			more, err := rs.dropOf(ctx, f, wanted, named)
			if err != nil {
				return nil, rs.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr}, f.Profile.User)
			}
			dropped = append(dropped, more...)
		}
	}
	slices.Sort(dropped)
	dropped = slices.Compact(dropped)
	if len(dropped) == 0 && (len(ids) > 0 || tunnel != "") {
		return nil, &ipc.Error{Code: ipc.CodeNotFound, Message: "no such access request is assumed", Hint: `see "berth request ls --mine"`}
	}
	rs.cfg.Publish()
	return dropped, nil
}

// findActive finds an assumed request by the beginning of its id. One may be
// assumed that is no longer listed.
func (rs *Requests) findActive(id string) (string, error) {
	var active []state.Request
	add := func(id string) {
		if !slices.ContainsFunc(active, func(r state.Request) bool { return r.ID == id }) {
			active = append(active, state.Request{ID: id})
		}
	}
	for _, f := range rs.cfg.Sessions.All() {
		if f.Valid(time.Now()) {
			for _, id := range f.Profile.Session.Identity.ActiveRequests {
				add(id)
			}
		}
	}
	for id := range rs.cfg.Memory.Granted() {
		add(id)
	}
	r, err := access.Find(active, id)
	if _, unknown := errors.AsType[*access.UnknownIDError](err); unknown {
		return "", &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("access request %q is not assumed", access.Clean(id, 200)), Hint: `see "berth request ls --mine"`}
	}
	return r.ID, err
}

func (rs *Requests) dropGrants(tunnel string, named func(string) bool) ([]string, error) {
	var dropped []string
	for id, tunnels := range rs.cfg.Memory.Granted() {
		for _, t := range tunnels {
			if (tunnel == "" || t == tunnel) && named(id) {
				if err := rs.cfg.Tunnels.Ungrant(t, id); err != nil {
					return nil, err
				}
				dropped = append(dropped, id)
			}
		}
	}
	return dropped, nil
}

// dropOf drops a session's requests; ids are those that were named.
func (rs *Requests) dropOf(ctx context.Context, f sessions.Session, ids []string, named func(string) bool) ([]string, error) {
	if !f.Valid(time.Now()) {
		return nil, nil
	}
	var dropped []string
	err := rs.changeSession(ctx, f, func(f sessions.Session) error {
		drop := slices.DeleteFunc(slices.Clone(f.Profile.Session.Identity.ActiveRequests), func(id string) bool { return !named(id) })
		if len(drop) == 0 {
			return nil
		}
		what := drop
		if len(ids) == 0 {
			what = nil // all, those unknown here included
		}
		if err := rs.changer(f, true).Drop(ctx, what...); err != nil {
			return err
		}
		dropped = drop
		rs.log.Info("access requests dropped", "request_ids", drop, "profile", f.Profile.ProxyAddr)
		_, err := rs.awaitRequests(ctx, f.Profile, func(active []string) bool {
			return !slices.ContainsFunc(active, func(id string) bool { return slices.Contains(drop, id) })
		})
		return err
	})
	return dropped, err
}

// hold is how long an assume may wait for a login: as long as it says itself,
// else as the clients of the tunnel that it is for.
func (rs *Requests) hold(want ipc.Assume) time.Duration {
	spec, _ := rs.cfg.Config().Tunnel(want.Tunnel)
	return max(0, min(*cmp.Or(want.Hold, new(spec.HoldDuration())), config.MaxHold))
}

// awaitSessionFor holds an assume until there is a session to do it with: at
// the request's proxy or, while it is not known whose the request is, at any.
// A login under way when the time is up is waited for; its failure ends the
// hold.
func (rs *Requests) awaitSessionFor(ctx context.Context, want ipc.Assume, r state.Request, until time.Time) error {
	target := rs.holdTarget(r)
	if rs.hold(want) > 0 {
		leave := rs.held.enter(target.Key(), cmp.Or(r.ID, access.Clean(want.ID, 200)))
		rs.cfg.OnChange() // the snapshot shows who waits
		defer func() {
			leave()
			rs.cfg.OnChange()
		}()
	}
	var under *login.Login
	logged, failed := false, error(nil)
	settled := func() bool {
		logged = rs.loggedIn(r)
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

// holdTarget returns where the login must happen: where the session of the request's
// user is or was, else at the proxy of a login without a name. There may be none.
func (rs *Requests) holdTarget(r state.Request) login.Target {
	if p := rs.owner(r).Profile; p != nil {
		return login.Target{Proxy: p.ProxyAddr, Home: p.Home, Profile: p}
	}
	target, err := rs.cfg.Logins.Target(r.Profile)
	if err != nil {
		return login.Target{}
	}
	return target
}

// notHeldAnyMore is the error of an assume that timed out waiting for a login.
// failed is the login's error; nil means that there was none in time.
func (rs *Requests) notHeldAnyMore(target login.Target, want ipc.Assume, r state.Request, failed error) error {
	e := &ipc.Error{Code: ipc.CodeLoginNeeded, Hint: sessions.LoginCommand(target.Proxy, userOf(target))}
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

// noSession is the answer while there is no valid session at all.
func (rs *Requests) noSession() error {
	target := rs.holdTarget(state.Request{})
	return &ipc.Error{
		Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(target.Proxy, userOf(target)),
	}
}
