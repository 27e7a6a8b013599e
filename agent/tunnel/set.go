// Package tunnel runs the config's tunnels: each has a carrier that serves
// clients on its local port, and one goroutine that keeps the credential current
// with which they are dialled. The Set starts, stops and restarts them.
//
// Locks: a Set's turn is held by whoever starts or stops tunnels, and may be held
// while a port is bound or released. Its mu and a tunnel's mu guard values only;
// nothing waits while it holds one of them.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/kubelocal"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/ports"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel/history"
	"berth/certwatch"
	"berth/internal/wake"
	"berth/proxies"
)

// Config says what the tunnels are made of.
type Config struct {
	StateDir string           // for the files that tsh writes
	Sockets  *proxies.Sockets // the process's listening sockets
	Grace    time.Duration    // for open connections of tunnels that end
	Config   func() *config.Config
	Sessions *sessions.Sessions
	Memory   *memory.Store
	Kube     *kubelocal.Local
	// RequestCommand returns the command that asks for access to what a tunnel
	// was refused; empty: there is none.
	RequestCommand func(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string
	// Assumable asks whether a session can have the roles of a request; the errors are
	// those of access.Check.
	Assumable func(ctx context.Context, f sessions.Session, id string) error
	// NeedCode is called when a tunnel takes a one-time code or a PIN, in place of what it
	// was called with for it before, and CodeGone when it takes none. nil means
	// that no person can be asked.
	NeedCode func(login.CodeNeed)
	CodeGone func(tunnel string, of any)
	// OnEnd is called when connections of a tunnel that other processes may still
	// serve are to end: it was stopped or restarted, or its roles were dropped.
	OnEnd func(tunnel string)
	// MayWarm reports whether connections may be kept ready for clients to come:
	// not on battery, for one. nil means always.
	MayWarm func() bool
	// Limits bounds the clients of all tunnels together; nil means no limit.
	Limits *proxies.Limits
	// Meter counts; nil means that nothing does.
	Meter    Meter
	OnChange func() // what the snapshot says of a tunnel has changed
	OnGrants func() // the memory's grants have changed
	Logger   *slog.Logger
}

// Set is the tunnels of the config, those that the user stopped included.
type Set struct {
	cfg        Config
	log        *slog.Logger
	resolver   *resolver
	watchman   *watchman
	book       *history.Book
	ctx        context.Context // the agent's: tunnels outlive the call that starts them
	turn       wake.Turn       // whose it is to start or stop tunnels
	cuts       cutters
	turns      turns
	away       away // of the probes
	onlooker   onlooker
	newCarrier func(*tunnel) carrier // a port and its clients; tests put another in its place
	draining   sync.WaitGroup        // tunnels that were stopped and still serve open connections

	mu      sync.Mutex      // guards everything below, and what entries point to
	entries []*entry        // in the order of the config
	pasts   map[string]Past // of the process before, by tunnel
	// passedOn is what the process that takes over knows to be counted, by tunnel.
	passedOn map[string]Count
	renamed  map[string]string // tunnels about to have another name: the old one by the new
}

// entry is one tunnel of the config.
type entry struct {
	spec    state.TunnelSpec
	port    int     // the local one
	stopped bool    // by the user
	t       *tunnel // nil: stopped, or its port is yet to be tried
	cancel  context.CancelFunc
	done    chan struct{} // closed when t's goroutines have ended
	past    Past          // of the processes before
}

// New returns a Set without tunnels. Those that it will have end with ctx.
func New(ctx context.Context, cfg Config) *Set {
	if cfg.NeedCode == nil {
		cfg.NeedCode, cfg.CodeGone = func(login.CodeNeed) {}, func(string, any) {}
	}
	if cfg.OnEnd == nil {
		cfg.OnEnd = func(string) {}
	}
	if cfg.MayWarm == nil {
		cfg.MayWarm = func() bool { return true }
	}
	if cfg.Meter == nil {
		cfg.Meter = unmetered{}
	}
	s := &Set{
		cfg: cfg, log: cfg.Logger.With("component", "agent"), watchman: newWatchman(ctx, cfg.Logger), ctx: ctx,
		book:    history.NewBook(func() int { return cfg.Config().Limit(config.LimitHistory) }),
		renamed: make(map[string]string),
	}
	s.newCarrier = func(t *tunnel) carrier { return kinds[t.spec.Kind].carrier(s, t) }
	s.resolver = &resolver{
		sessions: cfg.Sessions, memory: cfg.Memory, config: cfg.Config, log: cfg.Logger,
		launcher: &launcher{
			ctx: ctx, tshPath: func() string { return cfg.Config().TSHPath() }, dir: filepath.Join(cfg.StateDir, "kube"), log: cfg.Logger,
		},
		requestCommand: cfg.RequestCommand, assumable: cfg.Assumable,
		grantRefused: s.grantRefused,
		needCode:     cfg.NeedCode, codeGone: cfg.CodeGone,
		codeCame: func() { s.Kick(Changed) },
	}
	return s
}

// NewLimits returns the limits of clients that the config in force sets.
func NewLimits(current func() *config.Config) *proxies.Limits {
	return proxies.NewLimits(func() proxies.Bounds {
		c := current()
		return proxies.Bounds{
			Connections:       c.Limit(config.LimitConnections),
			TunnelConnections: c.Limit(config.LimitTunnelConnections),
			Held:              c.Limit(config.LimitHeld),
		}
	})
}

// Run does what no single tunnel does, until ctx ends: it looks up the programs
// of clients.
func (s *Set) Run(ctx context.Context) { s.book.Run(ctx) }

// Start makes every tunnel of the config. When it returns each port was tried.
func (s *Set) Start(cfg *config.Config) {
	s.turn.Take(context.Background())
	defer s.turn.Give()
	s.cfg.Kube.Follow(cfg) // its listener names the config's tunnels
	s.mu.Lock()
	for _, spec := range cfg.Tunnels {
		e := s.newEntry(cfg, spec)
		e.past = s.pasts[spec.Name]
		s.entries = append(s.entries, e)
	}
	fresh := slices.Clone(s.entries)
	s.mu.Unlock()
	s.listen(fresh)
}

// Apply brings the tunnels in line with the config next: only those in diff are
// touched. When it returns each new port was tried.
func (s *Set) Apply(before, next *config.Config, diff config.Changes) {
	s.turn.Take(context.Background())
	defer s.turn.Give()
	changed := append(slices.Clone(diff.Changed), movedKube(before, next, diff)...)
	s.noteChanges(before, diff.Added, changed)

	s.mu.Lock()
	is := make(map[string]*entry, len(s.entries))
	for _, e := range s.entries {
		is[e.spec.Name] = e
	}
	var old, fresh []*entry
	for _, spec := range slices.Concat(diff.Removed, changed) {
		if e := is[spec.Name]; e != nil {
			old = append(old, e)
			delete(is, spec.Name)
		}
	}
	for _, spec := range slices.Concat(changed, diff.Added) {
		e := s.newEntry(next, spec)
		is[spec.Name] = e
		fresh = append(fresh, e)
	}
	s.entries = s.entries[:0:0]
	for _, spec := range next.Tunnels {
		if e := is[spec.Name]; e != nil {
			s.entries = append(s.entries, e)
		}
	}
	s.mu.Unlock()

	for _, e := range old {
		s.cfg.OnEnd(e.spec.Name)
	}
	s.halt(old)
	if !slices.ContainsFunc(next.Tunnels, ports.SharesKube) {
		s.cfg.Kube.CloseListener()
	}
	s.listen(fresh)
	for _, spec := range diff.Removed {
		s.forget(spec.Name)
	}
}

// forget drops what is remembered of a tunnel that is gone.
func (s *Set) forget(name string) {
	s.book.Forget(name)
	if err := s.cfg.Memory.ForgetTunnel(name); err != nil {
		s.log.Warn("saved state not written", "err", err)
	}
}

// Rename has the tunnel of the next config called to go on where the one called
// from ends: with its history, stopped if the user stopped that, with the same
// roles. The file is changed by change; if that fails nothing has happened.
func (s *Set) Rename(from, to string, change func() error) error {
	err := s.cfg.Memory.CopyTunnel(from, to) // what cannot be saved is remembered all the same
	if err == nil {
		s.book.Share(from, to)
		s.mu.Lock()
		s.renamed[to] = from
		s.mu.Unlock()
		err = change()
	}
	if err != nil {
		s.mu.Lock()
		delete(s.renamed, to)
		s.mu.Unlock()
		s.forget(to)
		return err
	}
	s.log.Info("tunnel renamed", "tunnel", to, "was", from)
	return nil
}

// newEntry returns the entry of a tunnel that is yet to listen, if it is to.
func (s *Set) newEntry(cfg *config.Config, spec state.TunnelSpec) *entry {
	return &entry{spec: spec, port: ports.Of(cfg, spec), stopped: s.cfg.Memory.Stopped(spec.Name)}
}

// listen makes the tunnels of the entries, binds every port, and only then
// starts their goroutines. A port that cannot be had is the tunnel's problem,
// not the agent's. The caller has the turn.
func (s *Set) listen(fresh []*entry) {
	var start []func()
	for _, e := range fresh {
		s.mu.Lock()
		stopped := e.stopped
		s.mu.Unlock()
		if stopped {
			continue
		}
		t := s.newTunnel(e.spec)
		if err := t.px.Bind(); err != nil {
			s.log.Warn("port not bound, will retry", "tunnel", e.spec.Name, "local_port", e.port, "err", err)
		}
		ctx, cancel := context.WithCancel(s.ctx)
		done := make(chan struct{})
		s.mu.Lock()
		e.t, e.cancel, e.done = t, cancel, done
		s.mu.Unlock()
		start = append(start, func() {
			defer close(done)
			t.run(ctx)
		})
	}
	s.cfg.Kube.Serve()
	for _, run := range start {
		go run()
	}
}

func (s *Set) newTunnel(spec state.TunnelSpec) *tunnel {
	t := &tunnel{
		spec:     spec,
		resolver: s.resolver,
		log:      s.cfg.Logger.With("tunnel", spec.Name),
		onChange: s.cfg.OnChange,
		meter:    s.cfg.Meter,
		lastProfile: func() memory.Profile {
			p, _ := s.cfg.Memory.ProfileOf(spec.Cluster)
			return p
		},
		history: s.book.Of(spec.Name),
		cuts:    &s.cuts, turns: s.turns.of(spec.Cluster),
		kick: make(chan Reason, 1), exam: exam{asked: wake.NewSignal()},
		status: resolution{state: state.TunnelConnecting, engine: state.EngineNative},
		warm:   proxies.NewWarm(func() bool { return spec.Warms() && s.cfg.MayWarm() }, s.cfg.Logger.With("tunnel", spec.Name)),
	}
	t.px = s.newCarrier(t)
	return t
}

// halt ends tunnels. When it returns their listeners are closed, so that
// successors can have the ports; open connections drain in the background. The
// caller has the turn.
func (s *Set) halt(old []*entry) {
	var ending []*entry
	s.mu.Lock()
	for _, e := range old {
		if e.t != nil {
			ending = append(ending, &entry{t: e.t, done: e.done})
			e.cancel()
			e.t = nil
			e.past = Past{} // the counters begin anew, all of them
		}
	}
	s.mu.Unlock()
	for _, e := range ending {
		<-e.t.px.Released()
		s.draining.Go(func() { <-e.done })
	}
}

// Close ends every tunnel and waits until all have drained. The Set's context
// must be over.
func (s *Set) Close() {
	s.turn.Take(context.Background())
	s.mu.Lock()
	all := slices.Clone(s.entries)
	s.mu.Unlock()
	s.halt(all)
	s.turn.Give()
	s.draining.Wait()
	s.cfg.Kube.CloseListener()
	s.cfg.Kube.Wait()
	s.resolver.launcher.running.Wait()
}

// setStopped remembers whether the user stopped a tunnel, and runs f for its entry, with
// the turn. What cannot be saved is remembered too, so it is done.
func (s *Set) setStopped(ctx context.Context, name string, stopped bool, f func(*entry)) error {
	saving := s.cfg.Memory.SetStopped(name, stopped)
	if errors.Is(saving, memory.ErrPassedOn) {
		return saving
	}
	if !s.turn.Take(ctx) {
		return ctx.Err()
	}
	defer s.turn.Give()
	if e := s.entry(name); e != nil {
		f(e)
	}
	return unsaved(saving)
}

// unsaved words err for what was done and could not be saved.
func unsaved(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("it is done, but not saved yet: %w", err)
}

// Succession returns the Set's.
func (s *Set) Succession() Succession { return Succession{s} }

// entry returns the entry of a tunnel; nil when there is none.
func (s *Set) entry(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.entries, func(e *entry) bool { return e.spec.Name == name })
	if i < 0 {
		return nil
	}
	return s.entries[i]
}

// Stop stops a tunnel and frees its port until Resume, over restarts of the
// agent too.
func (s *Set) Stop(ctx context.Context, name string) error {
	return s.setStopped(ctx, name, true, func(e *entry) {
		s.mu.Lock()
		e.stopped = true
		s.mu.Unlock()
		s.halt([]*entry{e})
		s.cfg.OnEnd(name)
		s.Note(name, "stopped on request")
		s.log.Info("tunnel stopped", "tunnel", name)
	})
}

// Resume starts a tunnel that the user stopped; a running tunnel stays as it is.
func (s *Set) Resume(ctx context.Context, name string) error {
	return s.setStopped(ctx, name, false, func(e *entry) {
		s.mu.Lock()
		runs := e.t != nil
		e.stopped = false
		s.mu.Unlock()
		if !runs {
			s.listen([]*entry{e})
		}
		s.Note(name, "started on request")
		s.log.Info("tunnel started", "tunnel", name)
	})
}

// Restart closes a tunnel's connections and fetches a new cert; the port stays
// bound. A stopped tunnel is started.
func (s *Set) Restart(ctx context.Context, name string) error {
	t := s.tunnel(name)
	if t == nil {
		return s.Resume(ctx, name)
	}
	s.Note(name, "restarted on request")
	s.cfg.OnEnd(name)
	t.restart()
	return nil
}

// tunnel returns a tunnel that runs; nil when none of that name does.
func (s *Set) tunnel(name string) *tunnel {
	for _, e := range s.listed() {
		if e.spec.Name == name {
			return e.t
		}
	}
	return nil
}

// listed returns the entries as they are now, in the order of the config.
func (s *Set) listed() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]entry, len(s.entries))
	for i, e := range s.entries {
		list[i] = *e
	}
	return list
}

// running returns the tunnels that run, in the order of the config.
func (s *Set) running() []*tunnel {
	var list []*tunnel
	for _, e := range s.listed() {
		if e.t != nil {
			list = append(list, e.t)
		}
	}
	return list
}

// RolesLost drops the credentials of the tunnels that those profiles served,
// because their sessions have lost roles.
func (s *Set) RolesLost(ids []certwatch.ProfileID) {
	for _, t := range s.running() {
		if slices.Contains(ids, t.resolved().id) {
			s.rolesGone(t.spec.Name, t)
		}
	}
}

// rolesGone treats a tunnel's connections as on_drop says, those that another
// process still serves too. t is nil where the tunnel does not run.
func (s *Set) rolesGone(name string, t *tunnel) {
	closing := s.cfg.Config().Access.OnDrop == config.OnDropClose
	if closing {
		s.cfg.OnEnd(name)
	}
	if t != nil {
		t.makeStale(closing)
	}
}

// Grant gives a tunnel alone the roles of a request.
func (s *Set) Grant(tunnel string, r state.Request) error {
	changed, err := s.cfg.Memory.SetGrant(tunnel, r.ID, true)
	if errors.Is(err, memory.ErrPassedOn) {
		return err
	}
	s.Note(tunnel, fmt.Sprintf("has %s alone, by access request %s", strings.Join(r.Roles, ", "), r.ID))
	if changed {
		s.grantsChanged(tunnel)
	}
	return unsaved(err)
}

// Ungrant takes the roles of a request back from a tunnel, as the user wants it:
// connections opened with them are stale. It fails with memory.ErrPassedOn alone.
func (s *Set) Ungrant(tunnel, id string) error {
	changed, err := s.cfg.Memory.SetGrant(tunnel, id, false)
	if errors.Is(err, memory.ErrPassedOn) {
		return err
	}
	s.ungranted(tunnel, id, changed, err)
	return nil
}

// GrantLost is Ungrant for roles that have ended or were taken away.
func (s *Set) GrantLost(tunnel, id string) {
	changed, err := s.cfg.Memory.GrantLost(tunnel, id)
	s.ungranted(tunnel, id, changed, err)
}

func (s *Set) ungranted(tunnel, id string, changed bool, err error) {
	if err != nil {
		s.log.Warn("saved state not written", "err", err)
	}
	if changed {
		s.Note(tunnel, "no longer has the roles of access request "+id)
		s.rolesGone(tunnel, s.tunnel(tunnel))
		s.grantsChanged(tunnel)
	}
}

func (s *Set) grantsChanged(tunnel string) {
	s.cfg.OnGrants()
	if t := s.tunnel(tunnel); t != nil {
		t.wake(Changed)
	}
	s.cfg.OnChange()
}

// grantRefused is called when a tunnel's cert was refused because of a request
// whose roles it has: the request is over.
func (s *Set) grantRefused(tunnel string, err error) bool {
	if !isOver(err) {
		return false
	}
	ids := s.cfg.Memory.Grants(tunnel)
	if len(ids) == 0 {
		return false
	}
	s.log.Info("tunnel loses access requests' roles", "tunnel", tunnel, "request_ids", ids, "err", err)
	ended := ids
	// The server names the request that failed.
	if one := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.Contains(err.Error(), id) }); len(one) == 1 {
		ended = one
	}
	for _, id := range ended {
		s.GrantLost(tunnel, id)
	}
	return true
}

// isOver reports whether err says that a request's roles cannot be had any longer.
func isOver(err error) bool {
	var unknown *cluster.UnknownRequestError
	var not *cluster.NotAssumableError
	return errors.As(err, &unknown) || errors.As(err, &not)
}

// Note adds a line to a tunnel's history.
func (s *Set) Note(tunnel, text string) {
	s.book.Of(tunnel).Note(time.Now(), state.EventConfig, text)
}

// noteChanges notes what the config file made of its tunnels.
func (s *Set) noteChanges(before *config.Config, added, changed []state.TunnelSpec) {
	for _, t := range added {
		s.mu.Lock()
		from, renamed := s.renamed[t.Name]
		delete(s.renamed, t.Name)
		s.mu.Unlock()
		if old, ok := before.Tunnel(from); renamed && ok {
			s.Note(t.Name, "config changed: "+strings.Join(config.ChangedKeys(old, t), ", "))
		} else {
			s.Note(t.Name, "added to the config")
		}
	}
	for _, t := range changed {
		old, _ := before.Tunnel(t.Name)
		words := strings.Join(config.ChangedKeys(old, t), ", ")
		if words == "" { // the tunnel is as it was, and listens elsewhere
			words = "the port that tunnels to Kubernetes share"
		}
		s.Note(t.Name, "config changed: "+words)
	}
}

// movedKube returns the tunnels whose shared port differs between the configs and
// that diff does not list yet.
func movedKube(from, to *config.Config, diff config.Changes) []state.TunnelSpec {
	if ports.SharedKube(from) == ports.SharedKube(to) {
		return nil
	}
	known := slices.Concat(diff.Added, diff.Changed)
	return slices.DeleteFunc(ports.KubeTunnels(to), func(t state.TunnelSpec) bool {
		return !ports.SharesKube(t) || slices.ContainsFunc(known, func(k state.TunnelSpec) bool { return k.Name == t.Name })
	})
}
