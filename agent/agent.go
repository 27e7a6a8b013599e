package agent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/agent/access"
	"berth/agent/config"
	"berth/agent/handover"
	"berth/agent/install"
	"berth/agent/ipc"
	"berth/agent/kubelocal"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/metrics"
	"berth/agent/notices"
	"berth/agent/ports"
	"berth/agent/process"
	"berth/agent/recordings"
	"berth/agent/registry"
	"berth/agent/renew"
	"berth/agent/requests"
	"berth/agent/secrets"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/telemetry"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/logfile"
	"berth/internal/osevents"
	"berth/internal/paths"
	"berth/internal/sdnotify"
	"berth/internal/survive"
	"berth/internal/wake"
	"berth/proxies/kube"
)

// Options say how to run the agent.
type Options struct {
	Paths   paths.Paths
	Policy  config.PolicyFile // what binds the user's config
	Version string
	Logger  *slog.Logger
	// LogLevel follows log.level of the config; nil when the Logger's level is
	// the caller's choice.
	LogLevel *slog.LevelVar
	// LogSize follows limits.log_size; nil when it is the caller's choice.
	LogSize *logfile.Size
	// Grace is how long open connections may go on after the agent was asked
	// to stop. Zero closes them at once.
	Grace time.Duration
	// Ready is called once, when every port was tried and the socket listens.
	// Nil: no caller is interested.
	Ready func()
	// Succession says how the agent passes its work on. The zero value: it does not.
	Succession Succession
	// Manager is the service manager that runs the agent; nil: none does. Kept are
	// the sockets that it has kept for the agent.
	Manager *sdnotify.Manager
	Kept    []*net.TCPListener

	keychain   login.Keychain     // in place of the system's, for tests
	caKeychain kubelocal.Keychain // the same for the local CA's key
	sparing    func() bool        // in place of Monitor.Sparing, for tests
}

// Agent is the agent while it runs: it owns the rooms, has them follow the homes, the
// config and the operating system, and publishes what they say. It is the
// backend of the control socket.
type Agent struct {
	opts Options
	log  *slog.Logger
	ctx  context.Context // the agent's own
	stop context.CancelFunc
	next succession

	program *process.Executable
	config  *config.Watcher
	homes   *certwatch.Watcher
	rooms
	system  system
	pub     publisher
	applied applied
}

// rooms are those of the agent, each with a subject of its own.
type rooms struct {
	*registry.Registry
	sessions *sessions.Sessions
	memory   *memory.Store
	kube     *kubelocal.Local
	tunnels  *tunnel.Set
	logins   *login.Logins
	renewals *renew.Renewals
	requests *requests.Requests
	recorded *recordings.Recordings
	metrics  *metrics.Room
	counted  *telemetry.Book
}

// Run runs the agent until ctx ends or a client asks it to stop; then it
// drains and returns nil. It returns process.AlreadyRunningError when another agent
// holds the lock.
func Run(ctx context.Context, opts Options) error { return runWith(ctx, opts, func(*Agent) {}) }

// runWith is Run; change gets the agent before it runs.
func runWith(ctx context.Context, opts Options, change func(*Agent)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	line := opts.Succession.Line
	var held *process.Lock
	if line == nil {
		var err error
		if held, err = process.Begin(ctx, opts.Paths, opts.Manager != nil, opts.Logger); err != nil {
			return err
		}
	}
	a, err := newAgent(ctx, opts)
	if err == nil && line != nil {
		err = a.next.takeOver(line)
	}
	if err != nil {
		if line != nil {
			_ = line.Send(handover.Message{Kind: handover.Refused, Text: err.Error()}) // it may be gone
		} else {
			held.Release()
		}
		return err
	}
	if line == nil {
		a.next.lock = held
		held.Calm(ctx)
	} else {
		a.next.addFormer(&former{line: line})
	}
	a.stop = cancel
	change(a)
	err = a.run(ctx)
	if !a.next.left.Load() {
		a.next.lock.Release()
		if err == nil {
			a.next.goodbye()
		}
	}
	a.next.deafen()
	a.next.hearing.Wait()
	return err
}

// newAgent reads what is on disk: config, saved state, homes. No network.
func newAgent(ctx context.Context, opts Options) (*Agent, error) {
	a := &Agent{opts: opts, log: opts.Logger.With("component", "agent"), ctx: ctx}
	a.pub.started = time.Now().UTC()
	a.program = process.OwnExecutable()
	a.pub.changed, a.pub.hurry, a.pub.pause = wake.NewSignal(), wake.NewSignal(), publishPause
	a.next = succession{
		opts: opts, log: a.log, touch: a.touch, changed: a.pub.changed, stop: func() { a.stop() },
		pub: &a.pub, grace: func() time.Duration { return a.current().HandoverGraceDuration() },
	}
	a.next.init(ctx)
	a.system.monitor = osevents.New(osevents.Config{Logger: opts.Logger, Tell: a.heardFromSystem})
	if a.system.sparing = opts.sparing; opts.sparing == nil {
		a.system.sparing = a.system.monitor.Sparing
	}
	cfg, err := config.NewWatcher(config.WatcherConfig{
		Path: opts.Paths.Config, Policy: opts.Policy, LastGood: opts.Paths.LastGoodConfig(), Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	a.config = cfg
	a.applied.config = ports.Fill(cfg.Current().Config)
	a.setLog(a.applied.config)

	if a.memory, err = memory.Load(opts.Paths.StateFile); err != nil {
		a.log.Warn("saved state not used", "err", err)
		a.pub.atStart = append(a.pub.atStart, state.Problem{
			Code: state.CodeStateUnreadable, Title: "Saved state not used", Text: err.Error() + ".",
			Action: "berth tunnel ls", Since: a.pub.started,
		})
	}
	a.forgetRemoved()
	homes, err := sessions.Homes(a.current())
	if err != nil {
		return nil, err
	}
	for _, home := range homes {
		if err := install.Recover(ctx, home, opts.Logger); err != nil {
			a.log.Warn("what an interrupted login left is not mended", "home", home, "err", err)
		}
	}
	a.homes = certwatch.New(certwatch.Config{Homes: homes, Logger: opts.Logger})
	a.sessions = sessions.New(opts.Logger)
	view, forbidden := allowedView(a.homes.View(), a.current().Policy)
	a.sessions.Update(view, forbidden...)
	a.furnish(ctx, a.next.rooms)
	a.next.tunnels, a.next.memory = a.tunnels, a.memory
	return a, nil
}

// forgetRemoved forgets tunnels that were taken out of the config while no agent ran,
// where it is known for certain what the config says. An agent that takes another's place
// has no such tunnels, and what it has read of the config may be older than what it gets
// to remember.
func (a *Agent) forgetRemoved() {
	read, policy := a.config.Current(), a.current().Policy
	if a.opts.Succession.Line != nil || !read.FromFile || read.Err != nil || policy != nil && policy.Err != nil {
		return
	}
	if err := a.memory.ForgetAllBut(a.current().TunnelNames()); err != nil {
		a.log.Warn("saved state not written", "err", err)
	}
}

// furnish makes the rooms: those that serve clients end with ctx, the others with
// rooms. A room that calls another gets it here, or as a func
// where that one is made later.
func (a *Agent) furnish(ctx, rooms context.Context) {
	opts, keychain := a.opts, secrets.New(a.opts.Logger)
	refresh := func() { a.homes.Refresh() }
	var caKeychain kubelocal.Keychain // an agent with a BERTH_HOME of its own leaves the keychain alone
	switch {
	case opts.caKeychain != nil:
		caKeychain = opts.caKeychain
	case opts.Paths.Home == "":
		caKeychain = keychain
	}
	limits := tunnel.NewLimits(a.current)
	a.kube = kubelocal.New(kubelocal.Config{
		Limits:   limits,
		StateDir: opts.Paths.StateDir, Sockets: a.next.sockets, Keychain: caKeychain, Grace: opts.Grace, OnChange: a.touch, Logger: a.log,
		Absent: func(serverName string) kube.Refusal { return a.tunnels.AbsentKube(serverName) },
	})
	a.metrics = metrics.New(metrics.Config{
		Config: a.current, Socket: opts.Paths.MetricsSocket(), StateDir: opts.Paths.StateDir,
		Version: opts.Version, Started: a.pub.started,
		Check: func(ctx context.Context, fresh time.Duration, names ...string) []state.Readiness {
			return a.tunnels.Check(ctx, fresh, names...)
		},
		Snapshot: func() *state.Snapshot { a.publish(); return a.Snapshot() },
		Alive:    a.pub.alive, OnChange: a.touch, Logger: opts.Logger,
		Guard: func() func(net.Conn) error { return a.tunnels.Guard() },
	})
	a.counted = telemetry.New(telemetry.Config{
		Config: a.current, StateDir: opts.Paths.StateDir, Version: opts.Version,
		Tunnels: func() []state.Tunnel { return a.Snapshot().Tunnels }, Logger: opts.Logger,
	})
	meters := meters{a.metrics, a.counted}
	a.tunnels = tunnel.New(a.next.serving(ctx), tunnel.Config{
		StateDir: opts.Paths.StateDir, Sockets: a.next.sockets, Grace: opts.Grace, Config: a.current, Sessions: a.sessions, Memory: a.memory, Kube: a.kube,
		RequestCommand: func(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string {
			return a.requests.Command(ctx, f, spec)
		},
		Assumable: func(ctx context.Context, f sessions.Session, id string) error {
			return a.requests.Assumable(ctx, f, id)
		},
		OnEnd:    a.next.endFormer,
		OnGrants: func() { a.requests.GrantsChanged() },
		NeedCode: func(n login.CodeNeed) { a.logins.Need(n) },
		CodeGone: func(name string, of any) { a.logins.NeedGone(name, of) },
		MayWarm:  func() bool { return !a.system.sparing() },
		Meter:    meters,
		Limits:   limits,
		OnChange: a.touch, Logger: opts.Logger,
	})
	a.Registry = registry.New(registry.Config{
		File: opts.Paths.Config, LastGood: opts.Paths.LastGoodConfig(), Current: a.current, Reload: a.ReloadConfig, Sessions: a.sessions, Memory: a.memory, Tunnels: a.tunnels,
		Publish: a.publish,
	})
	a.logins = login.New(rooms, login.Config{
		Config: a.current, Sessions: a.sessions, Memory: a.memory, Keychain: cmp.Or[login.Keychain](opts.keychain, keychain),
		OnLogin: meters.LoggedIn,
		Held:    a.tunnels.Held, Refresh: refresh, OnChange: a.touch, Publish: a.publish, Logger: a.log,
	})
	a.requests = requests.New(requests.Config{
		Config: a.current, Sessions: a.sessions, Memory: a.memory, Tunnels: a.tunnels, Logins: a.logins, OnAssume: meters.Assumed,
		Refresh: refresh, OnChange: a.touch, Publish: a.publish, Logger: a.log,
	})
	a.recorded = recordings.New(rooms, recordings.Config{
		Sessions: a.sessions, Word: a.tunnels.Word, Dir: filepath.Join(opts.Paths.StateDir, "recordings"), Logger: opts.Logger,
	})
	a.renewals = renew.NewRenewals(rooms, renew.Config{
		Config: a.current, Sessions: a.sessions, Logins: a.logins, Held: a.held, WokeAt: a.system.lastWake,
		Away: a.system.personIsAway, Unattended: a.logins.Unattended, Service: a.opts.Manager.Socket() != "",
		OnChange: a.touch, Publish: a.publish, Logger: a.log,
	})
}

// held returns the profiles whose login would release clients or assumes.
func (a *Agent) held() map[certwatch.ProfileID]bool {
	held := a.tunnels.Held()
	for _, p := range a.sessions.View().Profiles {
		held[p.ID()] = held[p.ID()] || len(a.requests.Held(p)) > 0
	}
	return held
}

func (a *Agent) run(ctx context.Context) error {
	defer a.next.retire()
	a.current().ShoutInsecure(a.log)
	a.tunnels.Start(a.current())
	a.kube.Start(ctx, a.current())
	a.next.sockets.CloseSpare()
	if a.next.control == nil {
		l, err := ipc.Listen(a.opts.Paths.Socket)
		if err != nil {
			a.stop()
			a.next.sockets.Keep()
			a.tunnels.Close()
			return err
		}
		a.next.control = handover.NewControl(l)
	}
	a.publish()
	a.pub.at.Store(new(time.Now()))
	a.log.Info("agent started", "version", a.opts.Version, "pid", os.Getpid(), "config", a.opts.Paths.Config,
		"tunnels", len(a.current().Tunnels))
	a.began()

	server := ipc.NewServer(ipc.ServerConfig{
		Backend: ipc.Backend{
			Agent: a, Tunnels: a, Logins: a.logins, Renewals: a.renewals, Kube: a, Requests: a.requests,
			Recordings: a.recorded,
		},
		Logger: a.opts.Logger,
	})
	g, gctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(gctx, a.next.retire)()
	g.Go(func() error { return ended(gctx, "watch homes", a.homes.Run(gctx)) })
	g.Go(func() error { return ended(a.next.rooms, "watch config", a.config.Run(a.next.rooms)) })
	g.Go(func() error {
		return ended(a.next.rooms, "serve control socket", server.Run(a.next.rooms, a.next.control))
	})
	g.Go(func() error { return ended(gctx, "listen to the system", a.followSystem(gctx)) })
	g.Go(func() error { a.followHomes(gctx); return nil })
	g.Go(func() error { a.followConfig(a.next.rooms); return nil })
	g.Go(func() error { a.followStandings(gctx); return nil })
	g.Go(func() error { a.keepPublished(a.next.rooms); return nil })
	g.Go(func() error { a.tunnels.Run(gctx); return nil })
	g.Go(func() error { a.requests.Run(a.next.rooms); return nil })
	g.Go(func() error { a.kube.Run(a.next.rooms); return nil })
	g.Go(func() error { a.metrics.Run(a.next.rooms); return nil })
	g.Go(func() error { a.counted.Run(a.next.rooms); return nil })
	g.Go(func() error { a.opts.Manager.Watch(a.next.rooms, a.pub.alive); return nil })
	a.next.hear()
	a.next.hearing.Go(a.next.endHearing)
	g.Go(func() error {
		err := a.next.follow(gctx)
		if a.next.left.Load() {
			a.stop() // nothing is left to serve
		}
		return err
	})
	err := g.Wait()
	a.stop()
	a.next.retire()
	a.renewals.Wait()
	a.logins.Wait()
	a.recorded.Close()
	if !a.next.left.Load() {
		a.next.keepPorts()
		a.next.endFormers()
	}
	a.tunnels.Close()
	a.sessions.Close()
	a.log.Info("agent stopped")
	return err
}

// began says that the agent serves: to the agent whose place it has taken, which
// speaks to the service manager next, or to the service manager itself.
func (a *Agent) began() {
	if err := a.next.lock.NoteOwner(); err != nil {
		a.log.Warn("nothing is saved", "err", err)
		a.memory.Doubt(err)
		a.touch()
	}
	line := a.opts.Succession.Line
	if line == nil {
		if a.opts.Ready != nil {
			a.opts.Ready()
		}
		return
	}
	if err := line.Send(handover.Message{Kind: handover.Serving}); err != nil {
		a.log.Warn("the agent before is gone", "err", err)
	}
}

// ended judges the end of a part: no error when the agent is stopping, an error
// when the part gave up.
func ended(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%s: %w", what, err)
}

// followHomes takes over every new view of the Teleport homes.
func (a *Agent) followHomes(ctx context.Context) {
	wake, cancel := a.homes.Subscribe()
	defer cancel()
	a.adoptView(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			a.adoptView(ctx)
		}
	}
}

// followStandings makes the tunnels and the access requests look again whenever a
// cluster starts or stops refusing a session, or the way there is another one.
func (a *Agent) followStandings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.sessions.Stood:
			a.tunnels.Kick(tunnel.Changed)
			a.requests.Relist()
			a.touch()
		}
	}
}

// adoptView takes over the newest view of the homes, unless ctx ends before it is its
// turn.
func (a *Agent) adoptView(ctx context.Context) {
	if !a.applied.adopting.Take(ctx) {
		return
	}
	defer a.applied.adopting.Give()
	view, forbidden := allowedView(a.homes.View(), a.current().Policy)
	reason := tunnel.Changed
	if a.system.woke(view.WokeAt) {
		// After a sleep connections look healthy and are not.
		reason = tunnel.Verify
		a.log.Info("woke from sleep, or the clock was set")
	}
	lost := a.sessions.Update(view, forbidden...)
	a.tunnels.RolesLost(lost)
	a.requests.Follow()
	if err := a.memory.RememberClusters(servedClusters(view)); err != nil {
		a.log.Warn("saved state not written", "err", err)
	}
	a.tunnels.Kick(reason)
	a.touch()
}

// servedClusters says which profile serves which root cluster, for the day
// after a logout.
func servedClusters(view *certwatch.View) map[string]memory.Profile {
	served := make(map[string]memory.Profile)
	for _, p := range view.Profiles {
		if p.RootCluster != "" && p.Session != nil {
			served[p.RootCluster] = memory.Profile{Proxy: p.ProxyAddr, User: p.User}
		}
	}
	return served
}

func (a *Agent) setLog(cfg *config.Config) {
	if a.opts.LogLevel != nil {
		a.opts.LogLevel.Set(cfg.LogLevel().Level())
	}
	if a.opts.LogSize != nil {
		a.opts.LogSize.Store(int64(cfg.Limit(config.LimitLogSize)) << 20)
	}
}

// followConfig applies every good config the file turns into.
func (a *Agent) followConfig(ctx context.Context) {
	wake, cancel := a.config.Subscribe()
	defer cancel()
	_ = a.applyConfig(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			_ = a.applyConfig(ctx)
		}
	}
}

// applyConfig brings everything in line with the newest good config. The only error is
// that ctx ended before it was its turn.
func (a *Agent) applyConfig(ctx context.Context) error {
	if !a.applied.turn.Take(ctx) {
		return ctx.Err()
	}
	defer a.applied.turn.Give()
	before, next := a.current(), ports.Fill(a.config.Current().Config)
	diff := config.Diff(before, next)
	a.applied.mu.Lock()
	a.applied.config = next
	a.applied.mu.Unlock()
	a.setLog(next)
	a.tunnels.Apply(before, next, diff)
	if !diff.Empty() {
		a.kube.Follow(next)
	}
	homes, err := sessions.Homes(next)
	switch {
	case err != nil:
		a.log.Warn("homes not changed", "err", err)
	case diff.HomesChanged:
		a.homes.SetHomes(homes)
	}
	if diff.ProfilesChanged {
		next.ShoutInsecure(a.log)
		a.tunnels.Kick(tunnel.Changed)
	}
	if !slices.Equal(before.Policy.Proxies(), next.Policy.Proxies()) {
		a.adoptView(a.ctx) // it must not end with a command that was given up
	}
	if !diff.Empty() {
		a.log.Info("config applied", "added", len(diff.Added), "changed", len(diff.Changed), "removed", len(diff.Removed))
	}
	a.metrics.Follow()
	a.touch()
	return nil
}

// current is the config in force.
func (a *Agent) current() *config.Config {
	a.applied.mu.Lock()
	defer a.applied.mu.Unlock()
	return a.applied.config
}

// applied is the config in force.
type applied struct {
	turn     wake.Turn // one config after the other
	adopting wake.Turn // one view of the homes after the other

	mu     sync.Mutex // guards config
	config *config.Config
}

// followSystem listens to the operating system until ctx ends.
func (a *Agent) followSystem(ctx context.Context) error { return a.system.monitor.Run(ctx) }

// heardFromSystem acts on system events: after a sleep or on another network
// connections look healthy and are not.
func (a *Agent) heardFromSystem(ev osevents.Event) {
	a.log.Info("system event", "event", ev.Kind.String(), "by", ev.By, "source", ev.Source)
	switch ev.Kind {
	case osevents.Woke:
		a.system.woke(time.Now().Round(0))
		a.homes.Refresh()
		a.tunnels.Kick(tunnel.Verify)
	case osevents.NetworkChanged:
		a.tunnels.Kick(tunnel.Verify)
	case osevents.ClockChanged:
		a.homes.Refresh()
		a.tunnels.Kick(tunnel.Changed)
	case osevents.Suspending, osevents.Locked, osevents.Unlocked:
	}
	a.touch()
}

// touch asks for a new snapshot to be published soon.
func (a *Agent) touch() { a.pub.changed.Wake() }

// keepPublished publishes a snapshot after each change, and as time passes.
func (a *Agent) keepPublished(ctx context.Context) {
	for {
		every := publishIdle
		if a.pub.hub.followers.Any() {
			every = publishCounters
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.pub.changed:
			if !a.pub.due(ctx, a.tunnels.Connecting) {
				return
			}
		case <-timer.C:
		}
		timer.Stop()
		a.program.Look()
		_ = survive.Do(a.log, "decide about renewals", func() error { // it is logged, as below
			a.renewals.Decide(time.Now().Round(0))
			return nil
		})
		err := survive.Do(a.log, "publish a snapshot", func() error {
			a.pub.connecting = a.tunnels.Connecting()
			a.publish()
			return nil
		})
		if a.pub.last = time.Now(); err == nil {
			a.pub.at.Store(new(a.pub.last))
		}
	}
}

// publish builds a snapshot and hands it to every reader. It contains every
// change made before the call.
func (a *Agent) publish() {
	a.pub.turn.Lock()
	defer a.pub.turn.Unlock()
	now := time.Now().Round(0)
	in := a.noticeInput(now) // ahead of drawing: requests that are listed in between are the next time's
	s := a.draw(now)
	a.tunnels.Record(s)
	s.Notices = a.pub.notices(s, in)
	a.pub.hub.publish(s)
}

func (a *Agent) noticeInput(now time.Time) notices.Input {
	set, rules := a.current().Notifications, a.current().Access
	return notices.Input{
		Now: now, Enabled: set.On(), Quiet: set.QuietAt(now), WokeAt: a.system.lastWake(),
		Requests:  access.Notify(rules.Notify).WantsRequest,
		Sensitive: func(r state.Request) bool { return rules.IsSensitive(r.Roles) },
		Listed:    a.requests.Listed(),
	}
}

// draw draws a snapshot but for its notices. publish is its only caller.
func (a *Agent) draw(now time.Time) *state.Snapshot {
	s := &state.Snapshot{
		Agent: state.Agent{
			Version: a.opts.Version, PID: os.Getpid(), StartedAt: a.pub.started, ConfigPath: a.opts.Paths.Config,
			Draining: int64(a.next.draining()),
		},
		Profiles: []state.Profile{},
		Tunnels:  a.tunnels.States(),
		Requests: a.requests.Draw(now),
		Problems: a.problems(),
		Policy:   policyState(a.current().Policy),
	}
	for i := range s.Tunnels {
		s.Tunnels[i].ShippedIn = a.current().Policy.ShippedIn(s.Tunnels[i].Name)
	}
	shared := make(map[cause]*state.Problem)
	for _, f := range a.sessions.All() {
		if p := tunnel.SessionProblem(f, a.sessions); p != nil && f.Valid(now) {
			share(s, shared, causeOf(p, f.Profile.ProxyAddr), p)
		}
	}
	for _, p := range a.sessions.View().Profiles {
		ps := profileState(p, now)
		if changed := a.sessions.Of(p.ID()).Changed; p.Session != nil {
			ps.PreviousUser, ps.UserChangedAt = changed.Before, state.Instant(changed.At)
		}
		ps.Login = a.logins.State(p)
		ps.Renewal = a.renewals.State(p)
		ps.HeldRequests = append(ps.HeldRequests, a.requests.Held(p)...)
		ps.Stored = append(ps.Stored, a.memory.Stored(p.ProxyAddr, p.User)...)
		s.Profiles = append(s.Profiles, ps)
	}
	shareProblems(s, shared)
	return s
}

// problems are those that belong to no single tunnel.
func (a *Agent) problems() []state.Problem {
	list := append([]state.Problem{}, a.pub.atStart...)
	list = append(list, a.config.Current().Problems()...)
	list = append(list, a.current().InsecureProblems(a.pub.started)...)
	list = append(list, policyProblems(a.config.Current(), a.sessions.Forbidden())...)
	list = append(list, a.memory.Problems()...)
	list = append(list, a.program.Problems(a.opts.Version)...)
	list = append(list, a.next.lock.Problems(time.Now())...)
	list = append(list, skewProblems(a.sessions.Usable(time.Now()))...)
	list = append(list, a.kube.Problems()...)
	list = append(list, a.metrics.Problems()...)
	list = append(list, a.requests.Problems()...)
	return a.pub.dated(append(list, homeProblems(a.sessions.View())...))
}
