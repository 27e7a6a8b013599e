package requests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/install"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/shell"
)

var _ ipc.RequestBackend = (*Requests)(nil)

// lookupWait is how long a request that is not listed is waited for: right
// after a login nothing has been listed yet.
const lookupWait = 2 * time.Second

const (
	// readWait is how long changed certs may take to be read back.
	readWait = 3 * time.Second
	// believeWait is how long certwatch may take to believe that a session has
	// gone.
	believeWait = 6 * time.Second
)

// wholeID is the length of an id that is not the beginning of one: a UUID.
const wholeID = 36

// lookup finds a request by its id or the beginning of it.
func (rs *Requests) lookup(ctx context.Context, id string) (state.Request, error) {
	var r state.Request
	var err error
	look := func() bool {
		r, err = access.Find(rs.board.Requests(time.Now()), id)
		_, unknown := errors.AsType[*access.UnknownIDError](err)
		return !unknown || !rs.cfg.Sessions.ValidAt("", time.Now())
	}
	if !look() {
		rs.board.Refresh()
		rs.listed.Until(ctx, lookupWait, look)
	}
	_, unknown := errors.AsType[*access.UnknownIDError](err)
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return r, ctx.Err()
	case unknown && !rs.cfg.Sessions.ValidAt("", time.Now()):
		return r, errNoSession()
	case unknown && len(id) == wholeID:
		err = &cluster.UnknownRequestError{ID: id} // it was there when it was copied
	}
	return r, rs.requestIPC(err, state.Request{ID: id})
}

// RequestAbilities says what the user may ask for.
func (rs *Requests) RequestAbilities(ctx context.Context, profile string, resources []string) (ipc.RequestAbilities, error) {
	f, err := rs.requestSession(profile)
	if err != nil {
		return ipc.RequestAbilities{}, err
	}
	able, err := f.Cluster.RequestAbilities(ctx, resources)
	if err != nil {
		return ipc.RequestAbilities{}, rs.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr})
	}
	names := func(list []string) []string {
		out := []string{}
		for _, s := range list {
			out = append(out, access.Clean(s, 200))
		}
		slices.Sort(out)
		return out
	}
	return ipc.RequestAbilities{
		Roles: names(able.Roles), ResourceRoles: names(able.ResourceRoles), Reviewers: names(able.Reviewers),
		RequireReason: able.RequireReason, Prompt: access.Clean(able.Prompt, 500),
	}, nil
}

// requestSession returns the session to make a request in.
func (rs *Requests) requestSession(profile string) (sessions.Session, error) {
	target, err := rs.cfg.Logins.Target(profile)
	if err != nil {
		return sessions.Session{}, err
	}
	if target.Profile == nil {
		return sessions.Session{}, errNoSession()
	}
	f := rs.cfg.Sessions.At(target.Proxy)
	switch {
	case !f.Valid(time.Now()):
		return f, &ipc.Error{
			Code: ipc.CodeLoginNeeded, Message: "no valid session at " + target.Proxy, Hint: sessions.LoginCommand(target.Proxy, target.Profile.User),
		}
	case f.Cluster == nil:
		return f, &ipc.Error{
			Code: ipc.CodeUnsupported, Message: "only tsh can use the key of this session",
			Hint: "tsh request create --proxy=" + target.Proxy + " --roles=… --nowait",
		}
	default:
		return f, nil
	}
}

// CreateRequest makes an access request.
func (rs *Requests) CreateRequest(ctx context.Context, n ipc.NewRequest) (state.Request, error) {
	f, err := rs.requestSession(n.Profile)
	if err != nil {
		return state.Request{}, err
	}
	ask := cluster.NewRequest{Roles: n.Roles, Resources: n.Resources, Reason: n.Reason, Reviewers: n.Reviewers, For: n.For}
	if n.Start != nil {
		ask.Start = *n.Start
	}
	made, err := f.Cluster.CreateRequest(ctx, ask)
	if err != nil {
		return state.Request{}, rs.createRefused(ctx, f, n, err)
	}
	rs.board.Refresh()
	rs.cfg.Publish()
	return access.Draw(made, whoOf(f.Profile), time.Now()), nil
}

func whoOf(p *certwatch.Profile) access.Who {
	return access.Who{Profile: p.ProxyAddr, Cluster: p.RootCluster, User: p.User, Active: p.Session.Identity.ActiveRequests}
}

// createRefused says what the user might ask for instead.
func (rs *Requests) createRefused(ctx context.Context, f sessions.Session, n ipc.NewRequest, err error) error {
	out := rs.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr})
	e, ok := errors.AsType[*ipc.Error](out)
	able, ableErr := rs.abilities(ctx, f)
	if !ok || ableErr != nil || e.Code == ipc.CodeLoginNeeded {
		return out
	}
	refusal := *e
	switch {
	case n.Reason == "" && able.RequireReason:
		refusal.Code, refusal.Message, refusal.Hint = ipc.CodeInvalid, "the cluster wants a reason", "add --reason '…'"
		if able.Prompt != "" {
			refusal.Message += ": " + access.Clean(able.Prompt, 500)
		}
	case len(able.Roles) == 0:
		refusal.Hint = "there is no role that you may ask for"
	default:
		refusal.Hint = "you may ask for: " + access.Clean(strings.Join(able.Roles, ", "), 500)
	}
	return &refusal
}

// DecideRequest approves or denies a request.
func (rs *Requests) DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error) {
	r, err := rs.lookup(ctx, id)
	if err != nil {
		return r, err
	}
	if r.Mine {
		return r, &ipc.Error{Code: ipc.CodeDenied, Message: "you cannot review your own request", Hint: "ask a reviewer" + askWhom(r)}
	}
	f := rs.cfg.Sessions.At(r.Profile)
	if !f.Valid(time.Now()) || f.Cluster == nil {
		return r, rs.requestIPC(sessions.ErrLoginNeeded, r)
	}
	if err := f.Cluster.Decide(ctx, r.ID, cluster.Decision{Approve: approve, Reason: reason}); err != nil {
		rs.board.Refresh()
		if _, ok := errors.AsType[*cluster.CannotReviewError](err); ok {
			rs.board.NoReview(f.Profile.ID())
		}
		return r, rs.requestIPC(err, r)
	}
	rs.board.Refresh()
	rs.cfg.Publish()
	req, err := f.Cluster.Request(ctx, r.ID)
	if err != nil {
		// A decision can make it vanish from what one may see.
		return r, nil //nolint:nilerr // it is decided all the same
	}
	return access.Draw(req, whoOf(f.Profile), time.Now()), nil
}

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
		if !errors.Is(err, ipc.ErrLoginNeeded) || rs.cfg.Sessions.ValidAt(r.Profile, time.Now()) {
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
		return r, got, rs.requestIPC(err, r)
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
	f := rs.cfg.Sessions.At(r.Profile)
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
		rs.log.Info("access request assumed", "request_id", r.ID, "roles", r.Roles, "profile", r.Profile)
		p, err = rs.awaitRequests(ctx, f.Profile, func(active []string) bool { return slices.Contains(active, r.ID) })
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return p.Session.ValidUntil, nil
}

// changeTries is how often a change of a session's certs is begun anew because
// another session has come in between.
const changeTries = 3

// changeSession has the certs of a session changed, one change after the other:
// each is made from the certs that the one before has left. A login that is
// under way, which would put another session in the place of the one that they
// are for, is waited for.
func (rs *Requests) changeSession(ctx context.Context, f sessions.Session, change func(sessions.Session) error) error {
	turn := rs.turn(f.Profile.ID())
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for try := 1; ; try++ {
		if err := rs.awaitLogin(ctx, f.Profile); err != nil {
			return err
		}
		if f = rs.cfg.Sessions.At(f.Profile.ProxyAddr); !f.Valid(time.Now()) {
			return sessions.ErrLoginNeeded
		}
		err := change(f)
		if !errors.Is(err, install.ErrChanged) || try == changeTries {
			return err
		}
		if !rs.awaitAnother(ctx, f) {
			return err
		}
	}
}

// awaitAnother waits until a session is read back as another one, or as none:
// the homes' reader takes a moment to believe that one has gone. False means
// that it stays as it is.
func (rs *Requests) awaitAnother(ctx context.Context, was sessions.Session) bool {
	rs.cfg.Refresh()
	return rs.cfg.Sessions.Moved.Until(ctx, believeWait, func() bool {
		now := rs.cfg.Sessions.At(was.Profile.ProxyAddr)
		return !now.Valid(time.Now()) || now.Profile.Session.Fingerprint != was.Profile.Session.Fingerprint
	})
}

// assumeFor gives one tunnel the roles.
func (rs *Requests) assumeFor(ctx context.Context, f sessions.Session, r state.Request, name string) error {
	spec, ok := rs.cfg.Config().Tunnel(name)
	if !ok {
		return rs.mustHave(name)
	}
	if serving := rs.cfg.Sessions.ForCluster(spec.Cluster, time.Now()); serving.Profile == nil || serving.Profile.ProxyAddr != r.Profile {
		return &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %s leads to cluster %s, and the request is of %s", name, spec.Cluster, r.Cluster),
			Hint: "choose a tunnel of that cluster, or leave --tunnel out",
		}
	}
	if !tunnel.Reaches(r, spec) {
		return &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %s leads to %s, and the request gives access to %s alone", name, spec.Resource, strings.Join(r.Resources, ", ")),
			Hint: "choose a tunnel that leads there, or ask for more: " + shell.Quote("berth", "request", "create", "--resource", resourceID(spec)),
		}
	}
	if err := rs.check(ctx, f, r); err != nil {
		return err
	}
	if err := rs.cfg.Tunnels.Grant(name, r); err != nil {
		return err
	}
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
		return &cluster.NotAssumableError{ID: r.ID, Why: string(r.State), Err: fmt.Errorf("access request %s is %s and cannot be assumed now", r.ID, r.State)}
	}
	return nil
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
		return c // there is no SSH cert to be made anew
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
