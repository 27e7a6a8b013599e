package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	able    map[profileKey]knownAbilities
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
		watches: make(map[chan state.RequestEvent]struct{}), tried: make(map[string]bool), able: make(map[profileKey]knownAbilities),
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
	for _, f := range a.sessions.all() {
		p := f.profile
		if !f.valid(now) {
			continue
		}
		s := access.Session{
			Who: access.Who{
				Profile: p.ProxyAddr, Cluster: p.RootCluster, User: p.User, Active: p.Session.Identity.ActiveRequests,
			},
			Key: p.Home + "\x00" + p.Name, Fingerprint: p.Session.Fingerprint,
			Source: access.TSH{Run: a.tshRunner(p)},
		}
		if f.cluster != nil {
			s.Source = f.cluster
		}
		list = append(list, s)
	}
	a.requests.board.Follow(list)
	a.requests.board.SetTunnels(a.saved.granted())
}

// tshRunner returns what runs tsh for a profile.
func (a *Agent) tshRunner(p *certwatch.Profile) func(context.Context, ...string) ([]byte, error) {
	return func(ctx context.Context, args ...string) ([]byte, error) {
		path, err := tsh.Find(tsh.Options{ConfigPath: a.current().TSHPath()})
		if err != nil {
			return nil, err
		}
		set, err := a.proxySettings(p.ProxyAddr)
		if err != nil {
			return nil, err
		}
		args = append(args, "--proxy="+p.ProxyAddr, "--user="+p.User)
		if set.insecure {
			args = append(args, "--insecure")
		}
		cmd := tsh.Command(ctx, path, p.Home, args...)
		if set.caFile != "" {
			cmd.TrustCA(set.caFile)
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
		for _, tunnel := range a.saved.granted()[r.ID] {
			a.log.Info("tunnel loses an access request's roles", "tunnel", tunnel, "request_id", r.ID, "why", ev.Kind)
			a.ungrant(tunnel, r.ID)
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

// lostRoles reports which profiles' sessions lack roles that the ones before
// had: connections opened with those are stale.
func lostRoles(before, after map[profileKey][]string) []profileKey {
	var lost []profileKey
	for key, had := range before {
		has, ok := after[key]
		if ok && slices.ContainsFunc(had, func(role string) bool { return !slices.Contains(has, role) }) {
			lost = append(lost, key)
		}
	}
	return lost
}

// roles returns the roles of every session.
func (s *sessions) roles() map[profileKey][]string {
	roles := make(map[profileKey][]string)
	for _, p := range s.profiles() {
		if p.Session != nil {
			roles[keyOf(p)] = p.Session.Identity.Roles
		}
	}
	return roles
}

// all returns every profile with what there is of a connection.
func (s *sessions) all() []found {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	list := make([]found, 0, len(s.view.Profiles))
	for _, p := range s.view.Profiles {
		f := found{profile: p}
		if live := s.live[keyOf(p)]; live != nil {
			f.cluster = live.cluster
		}
		list = append(list, f)
	}
	return list
}

// at returns the session of a profile given by its proxy's address.
func (s *sessions) at(proxy string) found {
	for _, f := range s.all() {
		if f.profile.ProxyAddr == proxy {
			return f
		}
	}
	return found{}
}

// rolesDropped marks the connections of the tunnels that went through those
// profiles, and closes them where the config wants that.
func (a *Agent) rolesDropped(keys []profileKey) {
	proxies := make(map[string]bool)
	for _, p := range a.sessions.profiles() {
		if slices.Contains(keys, keyOf(p)) {
			proxies[p.ProxyAddr] = true
		}
	}
	a.mu.Lock()
	var stale []*tunnel
	for _, r := range a.tunnels {
		if r.t != nil && proxies[r.t.servedBy()] {
			stale = append(stale, r.t)
		}
	}
	a.mu.Unlock()
	a.makeStale(stale...)
}

// makeStale has tunnels give up the credential they have, whose roles were
// dropped; the caller kicks them, and clients wait for the next one.
func (a *Agent) makeStale(tunnels ...*tunnel) {
	closing := a.current().Access.OnDrop == config.OnDropClose
	for _, t := range tunnels {
		t.mu.Lock()
		t.cur = nil
		t.mu.Unlock()
		t.px.MarkConnections()
		if closing {
			t.px.CloseMarked()
		}
	}
}

// servedBy is the proxy of the tunnel's last resolution.
func (t *tunnel) servedBy() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.profile
}

// grant gives a tunnel alone the roles of a request.
func (a *Agent) grant(tunnel, id string) error {
	ids := a.saved.grants(tunnel)
	if slices.Contains(ids, id) {
		return nil
	}
	if err := a.saved.setGrants(tunnel, append(ids, id)); err != nil {
		return err
	}
	a.grantsChanged(tunnel)
	return nil
}

// ungrant takes them back: connections opened with them are stale.
func (a *Agent) ungrant(tunnel, id string) {
	ids := a.saved.grants(tunnel)
	left := slices.DeleteFunc(slices.Clone(ids), func(have string) bool { return have == id })
	if len(left) == len(ids) {
		return
	}
	if err := a.saved.setGrants(tunnel, left); err != nil {
		a.log.Warn("saved state not written", "err", err)
	}
	if t := a.runningTunnel(tunnel); t != nil {
		a.makeStale(t)
	}
	a.grantsChanged(tunnel)
}

func (a *Agent) grantsChanged(tunnel string) {
	a.requests.board.SetTunnels(a.saved.granted())
	if t := a.runningTunnel(tunnel); t != nil {
		t.wake(kickChanged)
	}
	a.touch()
}

func (a *Agent) runningTunnel(name string) *tunnel {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.tunnels[name]; r != nil {
		return r.t
	}
	return nil
}

// grantRefused is called when a tunnel's cert was refused because of a request
// whose roles it has: the request is over.
func (a *Agent) grantRefused(tunnel string, err error) bool {
	var unknown *cluster.UnknownRequestError
	var not *cluster.NotAssumableError
	if !errors.As(err, &unknown) && !errors.As(err, &not) {
		return false
	}
	ids := a.saved.grants(tunnel)
	if len(ids) == 0 {
		return false
	}
	a.log.Info("tunnel loses access requests' roles", "tunnel", tunnel, "request_ids", ids, "err", err)
	ended := ids
	// The server names the one that it stumbled over.
	if one := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.Contains(err.Error(), id) }); len(one) == 1 {
		ended = one
	}
	for _, id := range ended {
		a.ungrant(tunnel, id)
	}
	return true
}

// abilities is what a session's user may ask for, as of a while ago.
func (a *Agent) abilities(ctx context.Context, f found) (cluster.RequestAbilities, error) {
	const fresh = time.Minute
	key := keyOf(f.profile)
	a.requests.mu.Lock()
	known := a.requests.able[key]
	a.requests.mu.Unlock()
	if known.fingerprint == f.profile.Session.Fingerprint && time.Since(known.at) < fresh {
		return known.able, nil
	}
	able, err := f.cluster.RequestAbilities(ctx, nil)
	if err != nil {
		return able, err
	}
	a.requests.mu.Lock()
	defer a.requests.mu.Unlock()
	maps.DeleteFunc(a.requests.able, func(_ profileKey, k knownAbilities) bool { return time.Since(k.at) > fresh })
	a.requests.able[key] = knownAbilities{at: time.Now(), fingerprint: f.profile.Session.Fingerprint, able: able}
	return able, nil
}

// requestCommand is the command that asks for what a tunnel was refused; empty
// means that the user may ask for nothing that could help.
func (a *Agent) requestCommand(ctx context.Context, f found, spec config.Tunnel) string {
	if f.cluster == nil || f.profile.Session == nil {
		return ""
	}
	resource := fmt.Sprintf("/%s/%s/%s", spec.Cluster, kindInID(spec.Kind), spec.Resource)
	if able, err := f.cluster.RequestAbilities(ctx, []string{resource}); err == nil && len(able.ResourceRoles) > 0 {
		return "berth request create --resource " + resource + reasonFlag(able)
	}
	able, err := a.abilities(ctx, f)
	if err != nil || len(able.Roles) == 0 {
		return ""
	}
	cmd := "berth request create --role " + access.Clean(able.Roles[0], 100) + reasonFlag(able)
	if len(able.Roles) > 1 {
		cmd += " (you may ask for: " + access.Clean(strings.Join(able.Roles, ", "), 300) + ")"
	}
	return cmd
}

func reasonFlag(able cluster.RequestAbilities) string {
	if able.RequireReason {
		return " --reason '…'"
	}
	return ""
}

// kindInID is a kind as the id of a resource has it.
func kindInID(k state.Kind) string {
	if k == state.KindKube {
		return "kube_cluster"
	}
	return "db"
}
