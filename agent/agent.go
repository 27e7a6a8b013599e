package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"berth/agent/config"
	"berth/agent/install"
	"berth/agent/ipc"
	"berth/agent/kubelocal"
	"berth/agent/memory"
	"berth/agent/ports"
	"berth/agent/secrets"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/osevents"
	"berth/internal/paths"
	"berth/internal/wake"
	"berth/proxies/kube"
)

// Options say how to run the agent.
type Options struct {
	Paths   paths.Paths
	Version string
	Logger  *slog.Logger
	// Grace is how long open connections may go on after the agent was told
	// to stop. Zero means they are closed at once.
	Grace time.Duration
	// Ready is called once, when every port was tried and the socket listens.
	// Nil means nobody wants to know.
	Ready func()

	localCAKeychain kubelocal.Keychain // in place of the system's, for tests
}

// AlreadyRunningError says that another agent serves this user (and this
// BERTH_HOME) already.
type AlreadyRunningError struct {
	PID int // 0 when it could not be read
}

func (e *AlreadyRunningError) Error() string {
	if e.PID == 0 {
		return "an agent is already running"
	}
	return fmt.Sprintf("an agent is already running (pid %d)", e.PID)
}

// Agent is the running daemon. It implements the backend of the control
// socket.
type Agent struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	hub      hub
	sessions *sessions.Sessions
	saved    *memory.Store
	config   *config.Watcher
	homes    *certwatch.Watcher
	kube     *kubelocal.Local
	tunnels  *tunnel.Set

	logins   logins
	held     heldAssumes
	renewals renewals
	notices  noticeBoard
	requests *requests
	unasked  sync.WaitGroup // logins that nobody asked for
	system   system
	// away says whether nobody is at the machine.
	away func() bool
	// silent says whether a login of the profile would ask nobody.
	silent   func(*certwatch.Profile) bool
	keychain keychain
	applying sync.Mutex // one config after the other; may be held while ports are bound
	// publishing makes snapshots come in order.
	publishing sync.Mutex

	changed chan struct{} // capacity 1: something in the snapshot moved
	// ctx is the agent's own: tunnels added by a command live as long as it,
	// not as long as the command's call.
	ctx  context.Context
	stop context.CancelFunc

	mu       sync.Mutex
	applied  *config.Config  // what the tunnels were made from
	startErr []state.Problem // found while starting; they last as long as the agent
	// problemSince dates problems of the last snapshot, by code and text.
	problemSince map[string]time.Time
}

// Run runs the agent until ctx ends or a client asks it to stop; then it
// drains and returns nil. It returns AlreadyRunningError when another agent
// holds the lock.
func Run(ctx context.Context, opts Options) error { return runWith(ctx, opts, func(*Agent) {}) }

// runWith is Run; change gets the agent before it runs.
func runWith(ctx context.Context, opts Options, change func(*Agent)) error {
	unlock, err := takeLock(opts.Paths)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a, err := newAgent(ctx, opts)
	if err != nil {
		return err
	}
	a.ctx, a.stop = ctx, cancel
	change(a)
	return a.run(ctx)
}

// takeLock makes sure there is one agent per BERTH_HOME (or user). The lock
// file holds the pid; the lock itself ends with the process, however it ends.
func takeLock(p paths.Paths) (unlock func(), err error) {
	if err := p.MakeDirs(); err != nil {
		return nil, err
	}
	lock := flock.New(p.Lock)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.Lock, err)
	}
	if !ok {
		pid := 0
		if raw, err := os.ReadFile(p.LockPID()); err == nil {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		}
		return nil, &AlreadyRunningError{PID: pid}
	}
	if err := os.WriteFile(p.LockPID(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("note pid: %w", err), lock.Unlock())
	}
	return func() {
		_ = os.Remove(p.LockPID())
		_ = lock.Unlock() // the process ends next, and the lock with it
	}, nil
}

// newAgent reads what is on disk: config, saved state, homes. No network.
func newAgent(ctx context.Context, opts Options) (*Agent, error) {
	a := &Agent{
		opts:     opts,
		log:      opts.Logger.With("component", "agent"),
		started:  time.Now().UTC(),
		changed:  make(chan struct{}, 1),
		keychain: secrets.New(opts.Logger),
	}
	a.silent = a.remembersPassword
	a.system.monitor = osevents.New(osevents.Config{Logger: opts.Logger, Tell: a.heardFromSystem})
	a.away = a.personIsAway
	cfg, err := config.NewWatcher(config.WatcherConfig{
		Path: opts.Paths.Config, LastGood: filepath.Join(opts.Paths.StateDir, "config.last-good.yaml"), Logger: opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	a.config = cfg
	a.applied = ports.Fill(cfg.Current().Config)

	if a.saved, err = memory.Load(opts.Paths.StateFile); err != nil {
		a.log.Warn("saved state not used", "err", err)
		a.startErr = append(a.startErr, state.Problem{
			Code: state.CodeStateUnreadable, Title: "Saved state set aside", Text: err.Error() + ".",
			Action: "berth tunnel ls", Since: a.started,
		})
	}
	homes, err := homePaths(a.applied)
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
	a.sessions.Update(a.homes.View())
	a.kube = kubelocal.New(kubelocal.Config{
		StateDir: opts.Paths.StateDir, Keychain: a.kubeKeychain(), Grace: opts.Grace, OnChange: a.touch, Logger: a.log,
		Absent: func(serverName string) kube.Refusal { return a.tunnels.AbsentKube(serverName) },
	})
	a.requests = a.newRequests()
	a.tunnels = tunnel.New(ctx, tunnel.Config{
		StateDir: opts.Paths.StateDir, Grace: opts.Grace, Config: a.current, Sessions: a.sessions, Memory: a.saved, Kube: a.kube,
		RequestCommand: a.requestCommand, OnChange: a.touch, Logger: opts.Logger,
		OnGrants: func() { a.requests.board.SetTunnels(a.saved.Granted()) },
	})
	return a, nil
}

// current is the config in force.
func (a *Agent) current() *config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.applied
}

// homePaths are the homes to watch: the config's, else the one tsh uses.
func homePaths(cfg *config.Config) ([]string, error) {
	if homes := cfg.HomePaths(); len(homes) > 0 {
		return homes, nil
	}
	home, err := certwatch.DefaultHome()
	if err != nil {
		return nil, err
	}
	return []string{home}, nil
}

func (a *Agent) run(ctx context.Context) error {
	a.shoutInsecure(a.applied)
	a.tunnels.Start(a.applied)
	a.kube.Start(ctx, a.applied)
	control, err := ipc.Listen(a.opts.Paths.Socket)
	if err != nil {
		a.stop()
		a.tunnels.Close()
		return err
	}
	a.publish()
	a.log.Info("agent started", "version", a.opts.Version, "pid", os.Getpid(), "config", a.opts.Paths.Config,
		"tunnels", len(a.applied.Tunnels))
	if a.opts.Ready != nil {
		a.opts.Ready()
	}

	server := ipc.NewServer(ipc.ServerConfig{Backend: a, Requests: a, Logger: a.opts.Logger})
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ended(gctx, "watch homes", a.homes.Run(gctx)) })
	g.Go(func() error { return ended(gctx, "watch config", a.config.Run(gctx)) })
	g.Go(func() error { return ended(gctx, "serve control socket", server.Run(gctx, control)) })
	g.Go(func() error { return ended(gctx, "listen to the system", a.followSystem(gctx)) })
	g.Go(func() error { a.followHomes(gctx); return nil })
	g.Go(func() error { a.followConfig(gctx); return nil })
	g.Go(func() error { a.keepPublished(gctx); return nil })
	g.Go(func() error { a.tunnels.Run(gctx); return nil })
	g.Go(func() error { a.runRequests(gctx); return nil })
	g.Go(func() error { a.kube.Run(gctx); return nil })
	err = g.Wait()
	a.stop()
	a.unasked.Wait()
	a.logins.wait()
	a.tunnels.Close()
	a.sessions.Close()
	a.log.Info("agent stopped")
	return err
}

// ended makes of a part's end what it means: nothing when the agent is
// stopping, an error when the part gave up by itself.
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
	a.adoptView(a.homes.View())
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			a.adoptView(a.homes.View())
		}
	}
}

func (a *Agent) adoptView(view *certwatch.View) {
	reason := tunnel.Changed
	if a.system.woke(view.WokeAt) {
		// After a sleep connections look healthy and are not.
		reason = tunnel.Verify
		a.log.Info("woke from sleep, or the clock was set")
	}
	lost := a.sessions.Update(view)
	a.tunnels.RolesLost(a.proxiesOf(lost))
	a.followRequests()
	if err := a.saved.RememberClusters(servedClusters(view)); err != nil {
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

// touch asks for a new snapshot to be published soon.
func (a *Agent) touch() {
	select {
	case a.changed <- struct{}{}:
	default: // already asked
	}
}

const (
	// publishPause gathers changes that come together into one snapshot. While
	// there is no end of them, as under many connections a second, the pause
	// grows to publishPauseMax.
	publishPause    = 30 * time.Millisecond
	publishPauseMax = 250 * time.Millisecond
	// publishCounters is how often byte counters are shown to watchers.
	publishCounters = time.Second
	// publishIdle is how often time alone (a session that becomes expired)
	// is looked at when nobody watches.
	publishIdle = 15 * time.Second
)

// keepPublished publishes a snapshot after each change, and as time passes.
func (a *Agent) keepPublished(ctx context.Context) {
	pause := publishPause
	for {
		every := publishIdle
		if a.hub.watched() {
			every = publishCounters
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.changed:
			if !wake.Sleep(ctx, pause) {
				return
			}
			pause = a.nextPause(pause)
		case <-timer.C:
		}
		timer.Stop()
		a.decideRenewals(time.Now().Round(0))
		a.publish()
	}
}

// nextPause takes back what changed during a pause, which the next snapshot
// has, and returns the pause for the change after it.
func (a *Agent) nextPause(pause time.Duration) time.Duration {
	select {
	case <-a.changed:
		return min(2*pause, publishPauseMax)
	default:
		return publishPause
	}
}

// kubeKeychain is where the local CA's key is kept: in the keychain, which an
// agent with a BERTH_HOME of its own leaves alone.
func (a *Agent) kubeKeychain() kubelocal.Keychain {
	if a.opts.localCAKeychain != nil {
		return a.opts.localCAKeychain
	}
	if a.opts.Paths.Home != "" {
		return nil
	}
	return a.keychain
}

func (a *Agent) proxiesOf(ids []certwatch.ProfileID) []string {
	var proxies []string
	for _, id := range ids {
		if p := a.sessions.Of(id).Profile; p != nil {
			proxies = append(proxies, p.ProxyAddr)
		}
	}
	return proxies
}
