// Package requests is what berth does about access requests: it follows those of
// every session, fires hooks and rules, and makes, decides, assumes and drops
// them. An assume without a session waits for a login, as a tunnel's clients
// do.
package requests

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
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
	// Publish publishes a snapshot now: a caller that has its answer finds in the
	// next snapshot what it asked for.
	Publish func()
	Logger  *slog.Logger
}

// Tunnels are those that can have a request's roles alone; a *tunnel.Set.
type Tunnels interface {
	Grant(tunnel string, r state.Request) error
	Ungrant(tunnel, id string)
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

// Requests is what berth knows of access requests, and does about them.
type Requests struct {
	cfg   Config
	log   *slog.Logger
	board *access.Board
	hooks *access.Hooks
	held  heldAssumes
	// queue takes events from the board, which must not wait.
	queue  chan state.RequestEvent
	rules  sync.WaitGroup // rules that are being followed
	listed wake.Broadcast // the board has changed

	mu      sync.Mutex // guards everything below
	watches map[chan state.RequestEvent]struct{}
	tried   map[string]bool // requests that a rule was followed for
	able    map[certwatch.ProfileID]knownAbilities
	turns   map[certwatch.ProfileID]chan struct{}
}

// knownAbilities are what a user may ask for, as of a moment.
type knownAbilities struct {
	at          time.Time
	fingerprint string
	able        cluster.RequestAbilities
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
)

// New returns Requests that follow none yet.
func New(cfg Config) *Requests {
	rs := &Requests{
		cfg: cfg, log: cfg.Logger, hooks: access.NewHooks(cfg.Logger), queue: make(chan state.RequestEvent, eventQueue),
		watches: make(map[chan state.RequestEvent]struct{}), tried: make(map[string]bool), able: make(map[certwatch.ProfileID]knownAbilities),
		turns: make(map[certwatch.ProfileID]chan struct{}),
	}
	changed := func() {
		rs.listed.Wake()
		cfg.OnChange()
	}
	rs.board = access.NewBoard(cfg.Logger, changed, func(ev state.RequestEvent) {
		select {
		case rs.queue <- ev:
		default:
			rs.log.Warn("event of an access request left out: too many at once", "event", ev.Kind)
		}
	})
	return rs
}

// Draw returns the requests as a snapshot has them.
func (rs *Requests) Draw(now time.Time) []state.Request { return rs.board.Requests(now) }

// Held returns the requests whose assume waits for a login at a proxy.
func (rs *Requests) Held(proxyAddr string) []string { return rs.held.at(proxyAddr) }

// GrantsChanged tells the board which tunnels alone have a request's roles.
func (rs *Requests) GrantsChanged() { rs.board.SetTunnels(rs.cfg.Memory.Granted()) }

// turn returns what changes to a profile's session take turns by: whoever has
// put something into it has it.
func (rs *Requests) turn(key certwatch.ProfileID) chan struct{} {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.turns[key] == nil {
		rs.turns[key] = make(chan struct{}, 1)
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
			clock.Reset(rs.untilExpiry())
		case ev := <-rs.queue:
			rs.requestEvent(ctx, ev)
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

// Follow tells the board which sessions there are.
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

// requestEvent does what is to be done about an event: it tells the watchers
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
			rs.cfg.Tunnels.Ungrant(tunnel, r.ID)
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
		if _, err := rs.assume(ctx, r, rule.Tunnel, true); err != nil {
			rs.log.Warn("rule could not assume an access request", "request_id", r.ID, "err", err)
		}
	})
}

// tell hands an event to whoever watches; one that does not keep up loses it.
func (rs *Requests) tell(ev state.RequestEvent) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for ch := range rs.watches {
		select {
		case ch <- ev:
		default: // the snapshot has it all the same
		}
	}
}

// WatchRequests shows each event from now on.
func (rs *Requests) WatchRequests(ctx context.Context, show func(state.RequestEvent) error) error {
	ch := make(chan state.RequestEvent, eventQueue)
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
			if err := show(ev); err != nil {
				return err
			}
		}
	}
}
