package tsh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"berth/internal/wake"
)

// maxDraining bounds the children kept for their open connections: one takes
// about 100 MB. Past it the oldest ends, and its connections with it.
const maxDraining = 2

// ErrFactor says that tsh could not show the second factor that the cluster asks
// for. No further child is started by itself, since each would ask again.
var ErrFactor = errors.New("no second factor was shown")

// errPINNotEntered is a child that has waited too long for the PIN of a security key.
var errPINNotEntered = &factorError{errors.New("the PIN of the security key was not entered in time")}

// ErrReplaced ends a connection that waited for a security key in a child that is
// replaced, or whose session has ended: its prompt reaches no person any longer.
var ErrReplaced = errors.New("tsh was replaced while it waited for a security key")

// errSuperseded ends an attempt that a Gate or Restart has made pointless.
var errSuperseded = errors.New("superseded")

// timing is how long things take.
type timing struct {
	ready   time.Duration // from start to ready
	prompt  time.Duration // the same once the user is asked for something
	settle  time.Duration // how long a probe must stay open
	retry   time.Duration // between probes
	first   time.Duration // the first pause after a failure
	longest time.Duration // the longest pause
	again   time.Duration // after a second factor was not shown, clients cause no child for as long
	healthy time.Duration // after this long ready, failures are forgotten
}

var defaultTiming = timing{
	ready:   30 * time.Second,
	prompt:  2 * time.Minute,
	settle:  300 * time.Millisecond,
	retry:   100 * time.Millisecond,
	first:   500 * time.Millisecond,
	longest: 30 * time.Second,
	again:   3 * time.Second,
	healthy: time.Minute,
}

// TunnelConfig says what a [Tunnel] leads to, and how.
type TunnelConfig struct {
	Path     string       // of tsh; required
	Home     string       // TELEPORT_HOME; empty means tsh's default
	Proxy    string       // host:port; empty means the home's current profile
	Cluster  string       // empty means the profile's
	Target   Target       // required
	Insecure bool         // do not verify the proxy's web certificate
	CAFile   string       // PEM file that signed it; empty means the system's roots
	Terminal bool         // give the child a terminal of its own: it asks for a security key
	Logger   *slog.Logger // required
	OnChange func()       // called after each change of Status, without locks; nil means none
}

// Tunnel keeps a child running that carries connections to a [Target], and hands
// out such connections.
//
// The child listens on a loopback port of its own choosing that any process of
// this machine may connect to, whoever's it is: tsh has no other way. berth's
// own listener checks its clients, the child does not.
//
// It starts behind a closed gate: no child runs until [Tunnel.Gate] opens it,
// once there is a session. After a session's end tsh would go on taking
// connections and drop them, so the gate must be closed then.
type Tunnel struct {
	cfg     TunnelConfig
	log     *slog.Logger
	time    timing
	wake    wake.Signal    // Run looks at what has changed
	changed wake.Broadcast // at each change of status or current

	mu       sync.Mutex // guards what follows
	open     bool
	home     string             // of the children to come
	kicked   bool               // a Gate or Restart since the last attempt began
	abort    context.CancelFunc // ends the attempt that runs; nil when none
	current  *child             // takes new connections; nil when none
	draining []*child           // oldest first
	asking   *child             // whose prompt is in status
	late     bool               // that prompt's
	status   Status
	failedAt time.Time // when the last child failed

	children sync.WaitGroup
}

// NewTunnel returns a tunnel that [Tunnel.Run] brings to life.
func NewTunnel(cfg TunnelConfig) (*Tunnel, error) {
	switch {
	case cfg.Path == "":
		return nil, errors.New("tsh tunnel: no path of tsh")
	case cfg.Target == nil || cfg.Target.name() == "":
		return nil, errors.New("tsh tunnel: it needs a database or a Kubernetes cluster")
	case strings.HasPrefix(cfg.Target.name(), "-"): // tsh would take it for a flag
		return nil, fmt.Errorf("tsh tunnel: the name %q begins with a dash", cfg.Target.name())
	case cfg.Logger == nil:
		return nil, errors.New("tsh tunnel: no logger")
	}
	if err := cfg.Target.check(); err != nil {
		return nil, fmt.Errorf("tsh tunnel: %w", err)
	}
	return &Tunnel{
		cfg:    cfg,
		log:    cfg.Logger.With("component", "tsh", "cluster", cfg.Cluster, "resource", cfg.Target.name()),
		time:   defaultTiming,
		wake:   wake.NewSignal(),
		home:   cfg.Home,
		status: Status{State: StateGated, Since: time.Now()},
	}, nil
}

// Gate says whether there is a session to run tsh with. Closing it lets no new
// connection through; those that are open go on, and so does their child, but for
// those that end with ErrReplaced.
func (t *Tunnel) Gate(open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != open {
		t.open = open
		t.kickLocked()
	}
}

// Restart replaces the running child by one with this TELEPORT_HOME, as is needed after
// access requests were assumed or dropped. The old one takes connections until the new
// one is ready or it asks for a security key, and then ends with its last connection;
// with leave it takes none from now on, and clients wait for the new one. It also ends a
// pause after a failure.
func (t *Tunnel) Restart(home string, leave bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.home = home
	if leave && t.current != nil {
		t.retireLocked(t.current, 0)
		t.current = nil
		t.enterLocked(StateStarting)
	}
	t.kickLocked()
}

// TryAgain starts a child after one that failed with ErrFactor, because a person
// may be there now, and reports whether it does.
func (t *Tunnel) TryAgain() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	failed := t.current == nil && t.status.State == StateFailing && errors.Is(t.status.LastError, ErrFactor) &&
		time.Since(t.failedAt) > t.time.again
	if failed {
		t.kickLocked()
	}
	return failed
}

// kickLocked ends the attempt that runs and has Run look again. t.mu is held, and was when
// the reason was set, so that no child started before it takes connections after it.
func (t *Tunnel) kickLocked() {
	t.kicked = true
	if t.abort != nil {
		t.abort()
	}
	t.wake.Wake()
}

// Home returns the TELEPORT_HOME of the child that takes connections; false
// means that none does.
func (t *Tunnel) Home() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		return "", false
	}
	return t.current.home, true
}

// Status returns how the tunnel is now.
func (t *Tunnel) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	s.Draining = len(t.draining)
	if t.current != nil {
		s.Port, s.PID = t.current.port, t.current.proc.pid
	}
	if s.Prompt != "" && t.asking != nil {
		s.Waiting = len(t.asking.waitingLocked())
	}
	return s
}

// Starting reports whether no child takes connections yet, and none has failed or asks for
// something: one that is far from its proxy takes longer to start than a dial may.
func (t *Tunnel) Starting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current == nil && t.status.State != StateFailing && t.status.Prompt == ""
}

// Run keeps a child running until ctx ends. It returns nil when all children
// are gone, and with them every connection through them.
func (t *Tunnel) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer t.ended()
	defer t.children.Wait()
	defer cancel()
	pauses := t.newPauses()
	for t.waitOpen(ctx) {
		c, err := t.launch(ctx)
		switch {
		case errors.Is(err, errSuperseded):
			continue
		case err == nil:
			ready := time.Now()
			if err = t.serve(ctx, c); err == nil {
				t.children.Go(func() { t.unheard(c) })
				pauses.Reset()
				continue
			}
			if !c.alive() {
				t.forget(c)
			}
			if time.Since(ready) >= t.time.healthy {
				pauses.Reset()
				t.forgetFailures()
			}
		}
		if ctx.Err() != nil {
			break
		}
		pause := pauses.NextBackOff()
		if errors.Is(err, ErrFactor) {
			pause = math.MaxInt64
		}
		t.failed(err, pause)
		if t.sleep(ctx, pause) {
			pauses.Reset()
		}
	}
	return nil
}

func (t *Tunnel) ended() {
	t.mu.Lock()
	t.enterLocked(StateGated)
	t.mu.Unlock()
	t.notify()
}

func (t *Tunnel) newPauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = t.time.first
	b.MaxInterval = t.time.longest
	b.Multiplier = 2
	b.RandomizationFactor = 0.3
	return b
}

// waitOpen waits for the gate and reports whether to go on. While the gate is
// closed no child takes connections.
func (t *Tunnel) waitOpen(ctx context.Context) bool {
	for ctx.Err() == nil {
		if t.passGate() {
			return true
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
		}
	}
	return false
}

func (t *Tunnel) passGate() bool {
	t.mu.Lock()
	if t.open {
		t.mu.Unlock()
		return true
	}
	if t.current != nil {
		t.retireLocked(t.current, 0)
		t.current = nil
	}
	t.enterLocked(StateGated)
	t.status.LastError, t.status.Prompt, t.status.PIN, t.status.Failures = nil, "", false, 0
	t.mu.Unlock()
	t.notify()
	return false
}

// launch starts a child, waits until it is ready, and has it take connections. Its error
// is errSuperseded if something else is wanted by then.
func (t *Tunnel) launch(ctx context.Context) (*child, error) {
	attempt, abort := context.WithCancel(ctx)
	defer abort()
	t.mu.Lock()
	if !t.open {
		t.mu.Unlock()
		return nil, errSuperseded
	}
	t.kicked, t.abort = false, abort
	home := t.home
	if t.current == nil {
		t.enterLocked(StateStarting)
	}
	t.mu.Unlock()
	t.notify()

	c, err := t.try(ctx, attempt, home)
	for again := 0; errors.Is(err, errPortTaken) && attempt.Err() == nil && again < portTries; again++ {
		c.stop()
		t.prompted(c, prompt{}) // what it asked has gone with it
		c, err = t.try(ctx, attempt, home)
	}
	t.mu.Lock()
	t.abort = nil
	if t.kicked { // however far it has come
		err = errSuperseded
	}
	if err != nil || t.asking != c || !t.status.PIN && !t.late { // listening ended what it asked
		t.askLocked(c, prompt{})
	}
	if err == nil {
		t.promoteLocked(c)
	}
	t.mu.Unlock()
	switch {
	case err == nil:
		t.log.Info("tsh tunnel up", "local_port", c.port, "pid", c.proc.pid)
		t.notify()
	case c != nil:
		c.stop()
	}
	return c, err
}

// portTries is how often more a child is started whose port another program took.
const portTries = 3

// try starts a child and waits, until attempt ends, for it to be ready. The child may be
// there beside an error.
func (t *Tunnel) try(ctx, attempt context.Context, home string) (*child, error) {
	c, err := t.cfg.start(ctx, home, t.log)
	if err != nil {
		return nil, err
	}
	t.children.Go(func() { t.watch(c) })
	if err := c.awaitReady(attempt, t.time, t.prompted); err != nil {
		return c, err
	}
	return c, c.awaitReach(attempt)
}

func (t *Tunnel) prompted(c *child, p prompt) {
	t.mu.Lock()
	same := t.status.Prompt == p.text
	t.askLocked(c, p)
	t.mu.Unlock()
	if same {
		return
	}
	if p.text != "" {
		t.log.Info("tsh waits for the user", "prompt", p.text)
	}
	t.notify()
}

// askLocked has the user asked for p.
func (t *Tunnel) askLocked(c *child, p prompt) {
	t.status.Prompt, t.status.PIN, t.asking, t.late = p.text, p.pin, c, p.late
}

// AnswerPIN types the PIN that a child asks for, once.
func (t *Tunnel) AnswerPIN(ctx context.Context, pin string) error {
	t.mu.Lock()
	c, asked := t.asking, t.status.PIN
	if asked {
		t.status.Prompt, t.status.PIN = "Tap your security key", false // as it will say
		c.typed = true
	}
	t.mu.Unlock()
	if !asked || c.tty == nil {
		return errors.New("tsh asks for no PIN")
	}
	t.notify()
	return typeSecret(ctx, c.tty, pin)
}

// promoteLocked makes c the child that takes connections. t.mu is held.
func (t *Tunnel) promoteLocked(c *child) {
	if t.current != nil {
		t.retireLocked(t.current, 0)
	}
	t.current = c
	t.enterLocked(StateReady)
	t.status.LastError = nil
}

// serve waits while c takes connections. It returns nil when the gate or a
// restart wants something else, and an error when c has ended.
func (t *Tunnel) serve(ctx context.Context, c *child) error {
	asked := time.NewTimer(0) // ends a prompt that the user did not follow
	defer asked.Stop()
	t.mu.Lock()
	if t.status.Prompt != "" { // it asks since before it was ready
		asked.Reset(t.time.prompt)
	}
	t.mu.Unlock()
	for {
		t.mu.Lock()
		leave, left := t.kicked, t.current != c
		t.mu.Unlock()
		if leave {
			if asks, pin := t.asks(c); asks {
				t.giveUp(c, pin, true)
			} else if left { // what it asked was done, or nothing hangs on it
				t.prompted(c, prompt{})
			}
			return nil
		}
		select {
		case <-t.wake:
		case p := <-c.prompt: // a new certificate needs the user again
			asked.Reset(t.time.prompt)
			t.prompted(c, p)
		case <-asked.C:
			if _, pin := t.asks(c); pin {
				t.giveUp(c, true, false)
				return errPINNotEntered
			}
			t.prompted(c, prompt{})
		case <-c.proc.done:
			return c.exitError()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// asks reports whether c asks a person for a PIN or, as far as is known, for a tap: that
// one came it does not say, but clients that wait are served then.
func (t *Tunnel) asks(c *child) (asks, pin bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asking != c || t.status.Prompt == "" {
		return false, false
	}
	return t.status.PIN || c.target.transparent() && len(c.waitingLocked()) > 0, t.status.PIN
}

// unheard gives c up, which is being replaced, once it asks for a security key: its prompt
// reaches no person. Where what should have replaced it has failed, the next client's
// TryAgain brings one that is heard.
func (t *Tunnel) unheard(c *child) {
	for {
		select {
		case p := <-c.prompt:
			if p.text != "" {
				t.giveUp(c, p.pin, true)
			}
		case <-c.proc.done:
			return
		}
	}
}

// failed publishes why the last child failed. A child that still runs, because
// the failed one should have replaced it, keeps its place.
func (t *Tunnel) failed(err error, pause time.Duration) {
	t.mu.Lock()
	t.status.LastError = err
	t.status.Failures++
	t.failedAt = time.Now()
	if t.current == nil {
		t.enterLocked(StateFailing)
	}
	t.mu.Unlock()
	t.log.Warn("tsh tunnel failed", "err", err, "retry_in", pause.Round(time.Millisecond))
	t.notify()
}

func (t *Tunnel) forgetFailures() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status.Failures = 0
}

// sleep pauses and reports whether a gate or restart cut it short.
func (t *Tunnel) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		t.mu.Lock()
		kicked := t.kicked
		t.mu.Unlock()
		if kicked {
			return true
		}
		select {
		case <-timer.C:
			return false
		case <-t.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// watch takes c off the lists once it has ended.
func (t *Tunnel) watch(c *child) {
	<-c.proc.done
	c.cancel()
	_ = c.closeTerminal() // tsh, which alone used it, is gone
	t.cfg.Target.clean(c.port)
	t.forget(c)
	t.notify()
}

// forget takes an ended child off the lists; the second call does nothing.
func (t *Tunnel) forget(c *child) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = slices.DeleteFunc(t.draining, func(d *child) bool { return d == c })
	if t.current != c {
		return
	}
	t.current = nil
	t.status.Prompt, t.status.PIN = "", false
	t.leftLocked()
}

// leftLocked sets the state when the child that took connections has left. t.mu is held.
func (t *Tunnel) leftLocked() {
	if t.status.LastError != nil { // what should have replaced it failed before
		t.enterLocked(StateFailing)
	} else {
		t.enterLocked(StateStarting)
	}
}

// enterLocked sets the state. t.mu is held.
func (t *Tunnel) enterLocked(s State) {
	if t.status.State != s {
		t.status.State, t.status.Since = s, time.Now()
	}
}

// notify tells those who wait and the owner that something has changed.
func (t *Tunnel) notify() {
	t.changed.Wake()
	if t.cfg.OnChange != nil {
		t.cfg.OnChange()
	}
}
