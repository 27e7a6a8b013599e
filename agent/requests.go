package agent

import (
	"context"
	"sync"
	"time"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
)

// requests is what the agent knows and does of access requests.
type requests struct {
	board *access.Board
	hooks *access.Hooks
	// queue takes events from the board, which must not wait.
	queue chan state.RequestEvent
	rules sync.WaitGroup // rules that are being followed

	mu      sync.Mutex
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
	// followEvery is how often the sessions are looked at for one that ended.
	followEvery = 5 * time.Second
	// ruleWait is how long a rule may take to be followed: a login that is
	// under way comes first.
	ruleWait = 5 * time.Minute
)

func (a *Agent) newRequests() *requests {
	rs := &requests{
		hooks: access.NewHooks(a.opts.Logger), queue: make(chan state.RequestEvent, eventQueue),
		watches: make(map[chan state.RequestEvent]struct{}), tried: make(map[string]bool), able: make(map[certwatch.ProfileID]knownAbilities),
		turns: make(map[certwatch.ProfileID]chan struct{}),
	}
	rs.board = access.NewBoard(a.opts.Logger, a.touch, func(ev state.RequestEvent) {
		select {
		case rs.queue <- ev:
		default:
			a.log.Warn("event of an access request left out: too many at once", "event", ev.Kind)
		}
	})
	return rs
}

// turn returns what changes to a profile's session take turns by: whoever has
// put something into it has it.
func (rs *requests) turn(key certwatch.ProfileID) chan struct{} {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.turns[key] == nil {
		rs.turns[key] = make(chan struct{}, 1)
	}
	return rs.turns[key]
}

// runRequests follows the access requests until ctx ends.
func (a *Agent) runRequests(ctx context.Context) {
	var wg sync.WaitGroup
	a.followRequests()
	wg.Go(func() { a.requests.board.Run(ctx) })
	wg.Go(func() { a.requests.hooks.Run(ctx) })
	defer func() {
		a.requests.rules.Wait()
		wg.Wait()
	}()
	clock := time.NewTicker(followEvery)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			a.followRequests()
		case ev := <-a.requests.queue:
			a.requestEvent(ctx, ev)
		}
	}
}

// followRequests tells the board which sessions there are.
func (a *Agent) followRequests() {
	now := time.Now()
	var list []access.Session
	for _, f := range a.sessions.All() {
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
			Source: access.TSH{Run: a.tshRunner(p)},
		}
		if f.Cluster != nil {
			s.Source = f.Cluster
		}
		list = append(list, s)
	}
	a.requests.board.Follow(list)
	a.requests.board.SetTunnels(a.saved.Granted())
}

// tshRunner returns what runs tsh for a profile.
func (a *Agent) tshRunner(p *certwatch.Profile) func(context.Context, ...string) ([]byte, error) {
	return func(ctx context.Context, args ...string) ([]byte, error) {
		path, err := tsh.Find(tsh.Options{ConfigPath: a.current().TSHPath()})
		if err != nil {
			return nil, err
		}
		set, err := a.current().ProxyTrust(p.ProxyAddr)
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
func (a *Agent) requestEvent(ctx context.Context, ev state.RequestEvent) {
	r := ev.Request
	a.log.Info("access request", "event", ev.Kind, "request_id", r.ID, "profile", r.Profile, "state", r.State)
	rules := a.current().Access
	if access.Notify(rules.Notify).Wants(ev) {
		a.requests.hooks.Fire(hooksOf(rules), ev)
	}
	a.requests.tell(ev)
	switch ev.Kind {
	case state.RequestEventExpired, state.RequestEventDeleted, state.RequestEventDenied:
		for _, tunnel := range a.saved.Granted()[r.ID] {
			a.log.Info("tunnel loses an access request's roles", "tunnel", tunnel, "request_id", r.ID, "why", ev.Kind)
			a.tunnels.Ungrant(tunnel, r.ID)
		}
	case state.RequestEventApproved, state.RequestEventAssumable:
		a.autoAssume(ctx, r)
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
func (a *Agent) autoAssume(ctx context.Context, r state.Request) {
	var rules []access.AutoAssume
	for _, rule := range a.current().Access.AutoAssume {
		rules = append(rules, access.AutoAssume{Roles: rule.Roles, Tunnel: rule.Tunnel})
	}
	rule, ok := access.AutoAssumeFor(rules, r)
	a.requests.mu.Lock()
	tried := a.requests.tried[r.ID]
	a.requests.tried[r.ID] = tried || ok
	a.requests.mu.Unlock()
	if !ok || tried {
		return
	}
	a.log.Info("rule assumes an access request", "request_id", r.ID, "tunnel", rule.Tunnel)
	// A login may be under way that waits for a person.
	a.requests.rules.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, ruleWait)
		defer cancel()
		if _, err := a.assume(ctx, r, rule.Tunnel, true); err != nil {
			a.log.Warn("rule could not assume an access request", "request_id", r.ID, "err", err)
		}
	})
}

// tell hands an event to whoever watches; one that does not keep up loses it.
func (rs *requests) tell(ev state.RequestEvent) {
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
func (a *Agent) WatchRequests(ctx context.Context, show func(state.RequestEvent) error) error {
	ch := make(chan state.RequestEvent, eventQueue)
	rs := a.requests
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
