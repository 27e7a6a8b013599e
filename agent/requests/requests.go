// Package requests is what berth does about access requests: it follows those of
// every session, fires hooks and rules, and makes, decides, assumes and drops
// them. An assume without a session waits for a login, as a tunnel's clients
// do.
package requests

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
	"berth/internal/survive"
	"berth/internal/wake"
)

// Config says what requests look at and act through.
type Config struct {
	Config   func() *config.Config
	Sessions *sessions.Sessions
	Memory   *memory.Store
	Tunnels  Tunnels
	Logins   Logins
	Refresh  func() // has the homes read now
	OnChange func() // what the snapshot says of requests has changed
	OnAssume func() // a request's roles were taken
	// Publish publishes a snapshot now: a caller that has its answer finds in the
	// next snapshot what it asked for.
	Publish func()
	Logger  *slog.Logger
}

// Tunnels are those that can have a request's roles alone; a *tunnel.Set.
type Tunnels interface {
	Grant(tunnel string, r state.Request) error
	Ungrant(tunnel, id string) error
	GrantLost(tunnel, id string)
	// Outside returns the tunnels of the request's session that its access does
	// not reach.
	Outside(r state.Request) []string
	// Word words a cluster's answer for the caller of a command.
	Word(err error, clusterName string) error
}

// Logins are those that an assume may wait for; a *login.Logins.
type Logins interface {
	Target(proxy string) (login.Target, error)
	Of(key login.Key) *login.Login
}

// Requests follows the access requests and acts on them.
type Requests struct {
	cfg   Config
	log   *slog.Logger
	board *access.Board
	hooks *access.Hooks
	held  heldAssumes
	able  abilities
	// lookupWait is the const but in tests.
	lookupWait time.Duration
	// queue takes events from the board, which must not wait.
	queue  chan *state.RequestEvent
	rules  sync.WaitGroup // rules that are being followed
	listed wake.Broadcast // the board has changed
	// followed wakes what waits for the end of a session: there may be another one.
	followed wake.Signal

	mu      sync.Mutex // guards everything below
	watches map[chan *state.RequestEvent]struct{}
	tried   map[string]bool // requests that a rule was followed for
	turns   map[certwatch.ProfileID]*wake.Turn
}

const (
	// eventQueue is how many events may be under way; a thousand requests can
	// be decided at once.
	eventQueue = 4096
	// followEvery is the longest time between two looks for sessions that have
	// expired: timers stand still while a machine sleeps.
	followEvery = 15 * time.Second
	// ruleWait is how long a rule may take to be followed: a login that is
	// under way comes first.
	ruleWait = 5 * time.Minute
	// ruleAgain is how soon a rule is tried again that a hand-over has refused.
	ruleAgain = time.Second
)

// New returns Requests that follow none yet.
func New(cfg Config) *Requests {
	if cfg.OnAssume == nil {
		cfg.OnAssume = func() {}
	}
	rs := &Requests{
		cfg: cfg, log: cfg.Logger, hooks: access.NewHooks(cfg.Logger), queue: make(chan *state.RequestEvent, eventQueue),
		watches: make(map[chan *state.RequestEvent]struct{}), tried: make(map[string]bool),
		turns: make(map[certwatch.ProfileID]*wake.Turn), followed: wake.NewSignal(), lookupWait: lookupWait,
	}
	changed := func() {
		rs.listed.Wake()
		cfg.OnChange()
	}
	most := func() int { return cfg.Config().Limit(config.LimitRequests) }
	rs.board = access.NewBoard(cfg.Logger, most, changed, func(ev state.RequestEvent) {
		select {
		case rs.queue <- &ev:
		default:
			rs.log.Warn("event of an access request left out: too many at once", "event", ev.Kind)
		}
	})
	return rs
}

// Draw returns the requests as a snapshot has them.
func (rs *Requests) Draw(now time.Time) []state.Request { return rs.board.Requests(now) }

// Listed returns a func that reports of the user's own requests whether what they become
// is news as of now.
func (rs *Requests) Listed() func(state.Request) bool { return rs.board.Listed() }

// Problems says that there are more requests than are listed.
func (rs *Requests) Problems() []state.Problem {
	over, most := rs.board.Over(), rs.cfg.Config().Limit(config.LimitRequests)
	if over == 0 {
		return nil
	}
	return []state.Problem{{
		Code: state.CodeLimit, Title: "Too many access requests",
		Text:   fmt.Sprintf("There are %d access requests, and only %d of them are shown: %s.", most+over, most, config.LimitRequests.Path()),
		Action: fmt.Sprintf("set %s higher: berth config edit", config.LimitRequests.Path()),
	}}
}

// Relist has the requests listed now.
func (rs *Requests) Relist() { rs.board.Refresh() }

// Held returns the requests whose assume waits for a login of a profile.
func (rs *Requests) Held(p *certwatch.Profile) []string {
	return rs.held.at(login.Key{Home: p.Home, Proxy: p.ProxyAddr})
}

// GrantsChanged hands the board which tunnels alone have a request's roles.
func (rs *Requests) GrantsChanged() { rs.board.SetTunnels(rs.cfg.Memory.Granted()) }

const (
	// lookupWait is how long a request that is not listed is waited for: it may have
	// just been made.
	lookupWait = 2 * time.Second
	// listWait is how long the list that is asked for then is waited for in addition: a
	// cluster may be slow.
	listWait = 8 * time.Second
)

// wholeID is the length of an id that is not the beginning of one: a UUID.
const wholeID = 36

// turn returns what changes to a profile's session take turns by.
func (rs *Requests) turn(key certwatch.ProfileID) *wake.Turn {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.turns[key] == nil {
		rs.turns[key] = new(wake.Turn)
	}
	return rs.turns[key]
}

// Run follows the access requests until ctx ends.
func (rs *Requests) Run(ctx context.Context) {
	var wg sync.WaitGroup
	rs.Follow()
	wg.Go(func() { rs.board.Run(ctx) })
	wg.Go(func() { rs.hooks.Run(ctx) })
	defer func() {
		rs.rules.Wait()
		wg.Wait()
	}()
	clock := time.NewTimer(rs.untilExpiry())
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			rs.Follow()
		case <-rs.followed:
			clock.Reset(rs.untilExpiry())
		case ev := <-rs.queue:
			rs.requestEvent(ctx, *ev)
		}
	}
}

// untilExpiry returns how long it takes until a session expires, followEvery at
// most.
func (rs *Requests) untilExpiry() time.Duration {
	now, wait := time.Now().Round(0), followEvery
	for _, f := range rs.cfg.Sessions.All() {
		if f.Valid(now) {
			wait = min(wait, f.Profile.Session.ValidUntil.Sub(now))
		}
	}
	return wait
}

// Follow hands the board the sessions to follow.
func (rs *Requests) Follow() {
	now := time.Now()
	var list []access.Session
	for _, f := range rs.cfg.Sessions.All() {
		p := f.Profile
		if p.Session == nil {
			continue
		}
		s := access.Session{
			Ended: !f.Valid(now),
			Who: access.Who{
				Profile: p.ProxyAddr, Cluster: p.RootCluster, User: p.User, Active: p.Session.Identity.ActiveRequests,
			},
			Key: p.ID(), Fingerprint: p.Session.Fingerprint,
			Source: access.TSH{Run: rs.tshRunner(p)},
		}
		if f.Cluster != nil {
			s.Source = f.Cluster
		}
		list = append(list, s)
	}
	rs.board.Follow(list)
	rs.GrantsChanged()
	rs.followed.Wake()
}

// tshRunner returns what runs tsh for a profile.
func (rs *Requests) tshRunner(p *certwatch.Profile) func(context.Context, ...string) ([]byte, error) {
	return func(ctx context.Context, args ...string) ([]byte, error) {
		path, err := tsh.Find(tsh.Options{ConfigPath: rs.cfg.Config().TSHPath()})
		if err != nil {
			return nil, err
		}
		set, err := rs.cfg.Config().ProxyTrust(p.ProxyAddr)
		if err != nil {
			return nil, err
		}
		args = append(args, "--proxy="+p.ProxyAddr, "--user="+p.User)
		if set.Insecure {
			args = append(args, "--insecure")
		}
		cmd := tsh.Command(ctx, path, p.Home, args...)
		if set.CAFile != "" {
			cmd.TrustCA(set.CAFile)
		}
		return cmd.Output()
	}
}

// requestEvent does what an event calls for: it notifies the watchers
// and the hooks, ends what has ended, and follows the rules.
func (rs *Requests) requestEvent(ctx context.Context, ev state.RequestEvent) {
	r := ev.Request
	rs.log.Info("access request", "event", ev.Kind, "request_id", r.ID, "profile", r.Profile, "state", r.State)
	rules := rs.cfg.Config().Access
	if access.Notify(rules.Notify).Wants(ev) {
		rs.hooks.Fire(hooksOf(rules), ev)
	}
	rs.tell(ev)
	switch ev.Kind {
	case state.RequestEventExpired, state.RequestEventDeleted, state.RequestEventDenied:
		for _, tunnel := range rs.cfg.Memory.Granted()[r.ID] {
			rs.log.Info("tunnel loses an access request's roles", "tunnel", tunnel, "request_id", r.ID, "why", ev.Kind)
			rs.cfg.Tunnels.GrantLost(tunnel, r.ID)
		}
	case state.RequestEventApproved, state.RequestEventAssumable:
		rs.autoAssume(ctx, r)
	default: // nothing to do but to tell
	}
}

func hooksOf(rules config.Access) []access.Hook {
	hooks := make([]access.Hook, 0, len(rules.Hooks))
	for _, h := range rules.Hooks {
		hooks = append(hooks, access.Hook{On: h.On, Run: h.Run, Timeout: time.Duration(h.Timeout)})
	}
	return hooks
}

// autoAssume follows the config's rules, once for each request.
func (rs *Requests) autoAssume(ctx context.Context, r state.Request) {
	var rules []access.AutoAssume
	for _, rule := range rs.cfg.Config().Access.AutoAssume {
		rules = append(rules, access.AutoAssume{Roles: rule.Roles, Tunnel: rule.Tunnel})
	}
	rule, ok := access.AutoAssumeFor(rules, r)
	rs.mu.Lock()
	tried := rs.tried[r.ID]
	rs.tried[r.ID] = tried || ok
	rs.mu.Unlock()
	if !ok || tried {
		return
	}
	rs.log.Info("rule assumes an access request", "request_id", r.ID, "tunnel", rule.Tunnel)
	// A login may be under way that waits for a person.
	rs.rules.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, ruleWait)
		defer cancel()
		err := survive.Do(rs.log, "assume by a rule", func() error {
			for {
				_, err := rs.assume(ctx, r, rule.Tunnel, true)
				if !errors.Is(err, memory.ErrPassedOn) || !wake.Sleep(ctx, ruleAgain) { // this agent may go on
					return err
				}
			}
		})
		if err != nil {
			rs.log.Warn("rule could not assume an access request", "request_id", r.ID, "err", err)
		}
	})
}

// tell hands an event to every watcher; a watcher that does not keep up loses it.
func (rs *Requests) tell(ev state.RequestEvent) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for ch := range rs.watches {
		select {
		case ch <- &ev:
		default: // the snapshot has it all the same
		}
	}
}

// WatchRequests shows each event from now on.
func (rs *Requests) WatchRequests(ctx context.Context, show func(state.RequestEvent) error) error {
	ch := make(chan *state.RequestEvent, eventQueue)
	rs.mu.Lock()
	rs.watches[ch] = struct{}{}
	rs.mu.Unlock()
	defer func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.watches, ch)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev := <-ch:
			if err := show(*ev); err != nil {
				return err
			}
		}
	}
}

// lookup finds a request by its id or the beginning of it.
func (rs *Requests) lookup(ctx context.Context, id string) (state.Request, error) {
	var r state.Request
	var err error
	look := func() bool {
		r, err = access.Find(rs.board.Requests(time.Now()), id)
		_, unknown := errors.AsType[*access.UnknownIDError](err)
		return !unknown || !rs.cfg.Sessions.ValidAt("", time.Now())
	}
	listed := true
	if !look() {
		since := rs.board.Refresh()
		if !rs.listed.Until(ctx, rs.lookupWait, look) {
			rs.listed.Until(ctx, listWait, func() (tried bool) {
				listed, tried = since()
				return look() || tried
			})
		}
	}
	_, unknown := errors.AsType[*access.UnknownIDError](err)
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return r, ctx.Err()
	case unknown && !rs.cfg.Sessions.ValidAt("", time.Now()):
		return r, rs.noSession()
	case unknown && !listed:
		return r, &ipc.Error{
			Code: ipc.CodeTimeout, Hint: "try again",
			Message: fmt.Sprintf("access request %q is not known, and not every cluster has listed its requests", access.Clean(id, 200)),
		}
	case unknown && len(id) == wholeID:
		err = &cluster.UnknownRequestError{ID: id} // it was there when it was copied
	}
	return r, rs.requestIPC(err, state.Request{ID: id}, "")
}

// RequestAbilities says what the user may ask for.
func (rs *Requests) RequestAbilities(ctx context.Context, profile string, resources []string) (ipc.RequestAbilities, error) {
	f, err := rs.requestSession(profile)
	if err != nil {
		return ipc.RequestAbilities{}, err
	}
	able, err := f.Cluster.RequestAbilities(ctx, resources)
	if err != nil {
		return ipc.RequestAbilities{}, rs.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr}, f.Profile.User)
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
	switch {
	case err != nil && profile != "":
		return sessions.Session{}, err
	case target.Profile == nil:
		return sessions.Session{}, rs.noSession()
	}
	f := rs.cfg.Sessions.Of(target.Profile.ID())
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
	// Whoever lists the requests next finds the new one.
	rs.listed.Until(ctx, rs.lookupWait, func() bool {
		_, err := access.Find(rs.board.Requests(time.Now()), made.GetName())
		return err == nil
	})
	rs.cfg.Publish()
	return access.Draw(made, whoOf(f.Profile), time.Now()), nil
}

func whoOf(p *certwatch.Profile) access.Who {
	return access.Who{Profile: p.ProxyAddr, Cluster: p.RootCluster, User: p.User, Active: p.Session.Identity.ActiveRequests}
}

// createRefused says what the user might ask for instead.
func (rs *Requests) createRefused(ctx context.Context, f sessions.Session, n ipc.NewRequest, err error) error {
	if bad, ok := errors.AsType[*cluster.BadResourceError](err); ok {
		name := bad.Resource
		if strings.Contains(name, "/") {
			name = "NAME"
		}
		return &ipc.Error{
			Code: ipc.CodeInvalid, Message: bad.Error(),
			Hint: fmt.Sprintf("write it as /CLUSTER/KIND/NAME, for a database as /%s/db/%s", f.Profile.RootCluster, name),
		}
	}
	out := rs.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr}, f.Profile.User)
	e, ok := errors.AsType[*ipc.Error](out)
	able, ableErr := rs.able.of(ctx, f)
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

// reviewer returns the session to decide a request with: of those at its proxy that are
// not its user's, one that may review it before one that only lists it. Without such a
// session it belongs to no profile.
func (rs *Requests) reviewer(r state.Request) sessions.Session {
	now := time.Now()
	return rs.cfg.Sessions.Best(func(f sessions.Session) int {
		seen, ok := rs.board.Of(f.Profile.ID(), r.ID, now)
		switch {
		case f.Profile.ProxyAddr != r.Profile || !ok || seen.Mine:
			return -1
		case seen.Reviewable:
			return 1
		default:
			return 0
		}
	})
}

// DecideRequest approves or denies a request.
func (rs *Requests) DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error) {
	r, err := rs.lookup(ctx, id)
	if err != nil {
		return r, err
	}
	f := rs.reviewer(r)
	switch {
	case f.Profile == nil && r.Mine:
		return r, &ipc.Error{Code: ipc.CodeDenied, Message: "you cannot review your own request", Hint: "ask a reviewer" + askWhom(r)}
	case f.Profile == nil: // since it was looked up
		return r, rs.requestIPC(&cluster.UnknownRequestError{ID: r.ID}, r, "")
	case !f.Valid(time.Now()) || f.Cluster == nil:
		return r, rs.requestIPC(sessions.ErrLoginNeeded, r, f.Profile.User)
	}
	if err := f.Cluster.Decide(ctx, r.ID, cluster.Decision{Approve: approve, Reason: reason}); err != nil {
		rs.board.Refresh()
		if _, ok := errors.AsType[*cluster.CannotReviewError](err); ok {
			rs.board.NoReview(f.Profile.ID())
		}
		return r, rs.requestIPC(err, r, f.Profile.User)
	}
	since := rs.board.Refresh()
	req, err := f.Cluster.Request(ctx, r.ID)
	if err == nil { // a decision can make it vanish from what one may see
		r = access.Draw(req, whoOf(f.Profile), time.Now())
	}
	// Whoever lists the requests next finds the decision, however slow other clusters are.
	rs.listed.Until(ctx, rs.lookupWait, func() bool {
		seen, _ := access.Find(rs.board.Requests(time.Now()), r.ID)
		_, tried := since()
		return tried || err == nil && seen.State == r.State && len(seen.Reviews) == len(r.Reviews)
	})
	rs.cfg.Publish()
	return r, nil
}

// Command is the command that asks for what a tunnel was refused; empty
// means that the user may ask for nothing that could help.
func (rs *Requests) Command(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string {
	return rs.able.command(ctx, f, spec)
}

// requestIPC words what went wrong with a request in the session of a user.
func (rs *Requests) requestIPC(err error, r state.Request, user string) error {
	if _, ok := errors.AsType[*cluster.UnreachableError](err); ok {
		return rs.cfg.Tunnels.Word(err, r.Cluster)
	}
	return inWords(err, r, sessions.LoginCommand(r.Profile, rs.cfg.Sessions.UserAt(r.Profile, user)))
}

func (rs *Requests) mustHave(tunnel string) error {
	if _, ok := rs.cfg.Config().Tunnel(tunnel); ok {
		return nil
	}
	return ipc.UnknownTunnel(tunnel, rs.cfg.Config().TunnelNames()...)
}
