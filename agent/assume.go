package agent

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
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/shell"
	"berth/internal/wake"
)

var _ ipc.RequestBackend = (*Agent)(nil)

// lookupWait is how long a request that is not listed is waited for: right
// after a login nothing has been listed yet.
const lookupWait = 2 * time.Second

// wholeID is the length of an id that is not the beginning of one: a UUID.
const wholeID = 36

// lookup finds a request by its id or the beginning of it.
func (a *Agent) lookup(ctx context.Context, id string) (state.Request, error) {
	for end := time.Now().Add(lookupWait); ; {
		r, err := access.Find(a.requests.board.Requests(time.Now()), id)
		if err == nil {
			return r, nil
		}
		_, unknown := errors.AsType[*access.UnknownIDError](err)
		if unknown && !a.sessions.ValidAt("", time.Now()) {
			return r, a.loginNeeded("")
		}
		if !unknown || time.Now().After(end) {
			if unknown && len(id) == wholeID {
				err = &cluster.UnknownRequestError{ID: id} // it was there when somebody copied it
			}
			return r, a.requestIPC(err, state.Request{ID: id})
		}
		a.requests.board.Refresh()
		if !wake.Sleep(ctx, lookupWait/10) {
			return r, ctx.Err()
		}
	}
}

// RequestAbilities says what the user may ask for.
func (a *Agent) RequestAbilities(ctx context.Context, profile string, resources []string) (ipc.RequestAbilities, error) {
	f, err := a.requestSession(profile)
	if err != nil {
		return ipc.RequestAbilities{}, err
	}
	able, err := f.Cluster.RequestAbilities(ctx, resources)
	if err != nil {
		return ipc.RequestAbilities{}, a.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr})
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
func (a *Agent) requestSession(profile string) (sessions.Session, error) {
	target, err := a.loginTarget(profile)
	if err != nil {
		return sessions.Session{}, err
	}
	if target.profile == nil {
		return sessions.Session{}, a.loginNeeded("")
	}
	f := a.sessions.At(target.proxy)
	switch {
	case !f.Valid(time.Now()):
		return f, &ipc.Error{
			Code: ipc.CodeLoginNeeded, Message: "no valid session at " + target.proxy, Hint: sessions.LoginCommand(target.proxy, target.profile.User),
		}
	case f.Cluster == nil:
		return f, &ipc.Error{
			Code: ipc.CodeUnsupported, Message: "only tsh can use the key of this session",
			Hint: "tsh request create --proxy=" + target.proxy + " --roles=… --nowait",
		}
	default:
		return f, nil
	}
}

// CreateRequest makes an access request.
func (a *Agent) CreateRequest(ctx context.Context, n ipc.NewRequest) (state.Request, error) {
	f, err := a.requestSession(n.Profile)
	if err != nil {
		return state.Request{}, err
	}
	ask := cluster.NewRequest{Roles: n.Roles, Resources: n.Resources, Reason: n.Reason, Reviewers: n.Reviewers, For: n.For}
	if n.Start != nil {
		ask.Start = *n.Start
	}
	made, err := f.Cluster.CreateRequest(ctx, ask)
	if err != nil {
		return state.Request{}, a.createRefused(ctx, f, n, err)
	}
	a.requests.board.Refresh()
	return access.Draw(made, whoOf(f.Profile), time.Now()), nil
}

func whoOf(p *certwatch.Profile) access.Who {
	return access.Who{Profile: p.ProxyAddr, Cluster: p.RootCluster, User: p.User, Active: p.Session.Identity.ActiveRequests}
}

// createRefused says what the user might ask for instead.
func (a *Agent) createRefused(ctx context.Context, f sessions.Session, n ipc.NewRequest, err error) error {
	out := a.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr})
	e, ok := errors.AsType[*ipc.Error](out)
	able, ableErr := a.abilities(ctx, f)
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
func (a *Agent) DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error) {
	r, err := a.lookup(ctx, id)
	if err != nil {
		return r, err
	}
	if r.Mine {
		return r, &ipc.Error{Code: ipc.CodeDenied, Message: "nobody decides his own access request", Hint: "ask a reviewer" + askWhom(r)}
	}
	f := a.sessions.At(r.Profile)
	if !f.Valid(time.Now()) || f.Cluster == nil {
		return r, a.requestIPC(sessions.ErrLoginNeeded, r)
	}
	if err := f.Cluster.Decide(ctx, r.ID, cluster.Decision{Approve: approve, Reason: reason}); err != nil {
		a.requests.board.Refresh()
		if _, ok := errors.AsType[*cluster.CannotReviewError](err); ok {
			a.requests.board.NoReview(f.Profile.ID())
		}
		return r, a.requestIPC(err, r)
	}
	a.requests.board.Refresh()
	req, err := f.Cluster.Request(ctx, r.ID)
	if err != nil {
		// A decision can make it vanish from what one may see.
		return r, nil //nolint:nilerr // it is decided all the same
	}
	return access.Draw(req, whoOf(f.Profile), time.Now()), nil
}

// AssumeRequest takes a request's roles. While no session is there to do it
// with it is held, as clients of tunnels are, and done once somebody has logged
// in.
func (a *Agent) AssumeRequest(ctx context.Context, want ipc.Assume) (ipc.Assumed, error) {
	if want.Tunnel != "" {
		if err := a.mustHave(want.Tunnel); err != nil {
			return ipc.Assumed{}, err
		}
	}
	for until := time.Now().Add(a.hold(want)); ; {
		r, got, err := a.tryAssume(ctx, want)
		if !errors.Is(err, ipc.ErrLoginNeeded) || a.sessions.ValidAt(r.Profile, time.Now()) {
			return got, err
		}
		if err := a.awaitSessionFor(ctx, want, r, until); err != nil {
			return got, err
		}
	}
}

// tryAssume is one attempt, and the request that it was for, as far as that is
// known.
func (a *Agent) tryAssume(ctx context.Context, want ipc.Assume) (r state.Request, got ipc.Assumed, err error) {
	if r, err = a.lookup(ctx, want.ID); err != nil {
		return r, got, err
	}
	end, err := a.assume(ctx, r, want.Tunnel, want.AcceptEarlierEnd)
	if err != nil {
		a.requests.board.Refresh()
		return r, got, a.requestIPC(err, r)
	}
	got = ipc.Assumed{Request: r, SessionUntil: state.Instant(end)}
	if now, err := access.Find(a.requests.board.Requests(time.Now()), r.ID); err == nil {
		got.Request = now
	}
	return r, got, nil
}

// assume takes a request's roles for the session, or for one tunnel alone.
func (a *Agent) assume(ctx context.Context, r state.Request, tunnel string, acceptCost bool) (time.Time, error) {
	f := a.sessions.At(r.Profile)
	switch {
	case !r.Mine:
		return time.Time{}, &ipc.Error{
			Code: ipc.CodeDenied, Message: fmt.Sprintf("access request %s is %s's, who alone can assume it", r.ID, r.User), Hint: `see "berth request ls --mine"`,
		}
	case !f.Valid(time.Now()):
		return time.Time{}, sessions.ErrLoginNeeded
	case tunnel != "":
		return time.Time{}, a.assumeFor(ctx, f, r, tunnel)
	}
	var p *certwatch.Profile
	err := a.changeSession(ctx, f, func(f sessions.Session) (err error) {
		if p = f.Profile; slices.Contains(p.Session.Identity.ActiveRequests, r.ID) {
			return nil
		}
		c := a.changer(f, false)
		c.Tunnels, c.Resources = a.tunnels.Outside(r), r.Resources
		if _, err := c.Assume(ctx, r.ID, acceptCost); err != nil {
			return err
		}
		a.log.Info("access request assumed", "request_id", r.ID, "roles", r.Roles, "profile", r.Profile)
		p, err = a.awaitRequests(ctx, f.Profile, func(active []string) bool { return slices.Contains(active, r.ID) })
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
func (a *Agent) changeSession(ctx context.Context, f sessions.Session, change func(sessions.Session) error) error {
	turn := a.requests.turn(f.Profile.ID())
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for try := 1; ; try++ {
		if err := a.awaitLogin(ctx, f.Profile); err != nil {
			return err
		}
		if f = a.sessions.At(f.Profile.ProxyAddr); !f.Valid(time.Now()) {
			return sessions.ErrLoginNeeded
		}
		err := change(f)
		if !errors.Is(err, install.ErrChanged) || try == changeTries {
			return err
		}
		if !a.awaitAnother(ctx, f) {
			return err
		}
	}
}

// awaitAnother waits until a session is read back as another one, or as none:
// the homes' reader takes a moment to believe that one has gone. False means
// that it stays as it is.
func (a *Agent) awaitAnother(ctx context.Context, was sessions.Session) bool {
	a.homes.Refresh()
	return a.sessions.Moved.Until(ctx, logoutGrace, func() bool {
		now := a.sessions.At(was.Profile.ProxyAddr)
		return !now.Valid(time.Now()) || now.Profile.Session.Fingerprint != was.Profile.Session.Fingerprint
	})
}

// assumeFor gives one tunnel the roles.
func (a *Agent) assumeFor(ctx context.Context, f sessions.Session, r state.Request, name string) error {
	spec, ok := a.current().Tunnel(name)
	if !ok {
		return a.mustHave(name)
	}
	if serving := a.sessions.ForCluster(spec.Cluster, time.Now()); serving.Profile == nil || serving.Profile.ProxyAddr != r.Profile {
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
	if err := a.check(ctx, f, r); err != nil {
		return err
	}
	if err := a.tunnels.Grant(name, r); err != nil {
		return err
	}
	a.log.Info("access request assumed for a tunnel", "request_id", r.ID, "roles", r.Roles, "tunnel", name)
	return nil
}

// check asks the server whether a request can be assumed now; where only tsh
// can ask, what it has listed counts.
func (a *Agent) check(ctx context.Context, f sessions.Session, r state.Request) error {
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
func (a *Agent) changer(f sessions.Session, dropping bool) access.Changer {
	p := f.Profile
	c := access.Changer{TSH: a.tshRunner(p), SessionEnd: p.Session.ValidUntil}
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
			SSHCerts: map[string][]byte{certs.Cluster: certs.SSH}, DropResources: dropping, Logger: a.log,
		})
	}
	return c
}

// awaitLogin waits until no login of a profile is under way.
func (a *Agent) awaitLogin(ctx context.Context, p *certwatch.Profile) error {
	key := loginKey{home: p.Home, proxy: p.ProxyAddr}
	for a.logins.state(key).InProgress {
		if !wake.Sleep(ctx, 100*time.Millisecond) {
			return &ipc.Error{Code: ipc.CodeTimeout, Message: "a login at " + p.ProxyAddr + " is under way", Hint: "finish it, and try again"}
		}
	}
	return nil
}

// awaitRequests waits until a profile's session is read back with the active
// requests that ok accepts.
func (a *Agent) awaitRequests(ctx context.Context, was *certwatch.Profile, ok func(active []string) bool) (*certwatch.Profile, error) {
	a.homes.Refresh()
	var p *certwatch.Profile
	read := a.sessions.Moved.Until(ctx, loginGrace, func() bool {
		p = a.sessions.Of(was.ID()).Profile
		return p != nil && p.Session != nil && ok(p.Session.Identity.ActiveRequests)
	})
	switch {
	case read:
		a.followRequests()
		return p, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("the new certs are in %s, but they were not read back", was.Home)
	}
}
