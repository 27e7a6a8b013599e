package osevents

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"berth/internal/wake"
)

// Kind says what has happened.
type Kind int

// What can happen.
const (
	// Suspending: the machine goes to sleep as soon as all listeners have been
	// called.
	Suspending Kind = iota + 1
	// Woke: the machine has slept, or a suspend was called off.
	Woke
	// ClockChanged: the wall clock was set. A virtual machine that was paused
	// shows as one.
	ClockChanged
	// NetworkChanged: interfaces, addresses or routes are others.
	NetworkChanged
	// Locked: the screen was locked, or belongs to another user now. Only
	// Linux tells.
	Locked
	// Unlocked: the user is back at the screen. Only Linux tells.
	Unlocked
)

// String names the kind.
func (k Kind) String() string {
	names := [...]string{"unknown", "suspending", "woke", "clock changed", "network changed", "locked", "unlocked"}
	if k < 0 || int(k) >= len(names) {
		k = 0
	}
	return names[k]
}

// Event is one thing that has happened.
type Event struct {
	Kind Kind
	// By is how long the machine slept, of Woke, or how far the clock was set,
	// of ClockChanged. Zero means not known.
	By time.Duration
	// Source names the source of the event.
	Source string
}

// Config says what to listen to and which function to call.
type Config struct {
	Logger *slog.Logger
	// Tell is called for every event, one at a time. After Suspending the
	// machine waits for it to return, a few seconds at most; it should be
	// quick at all times, and must not call Run.
	Tell func(Event)
	// SystemBus and SessionBus are D-Bus addresses; empty means the usual ones.
	SystemBus, SessionBus string
}

const (
	// lookEvery is how often clocks and addresses are compared where no source
	// reports sleep or the network.
	lookEvery = 15 * time.Second
	// lookForClock is the same where only the setting of the clock would be
	// missed.
	lookForClock = time.Minute
	// retryMax is the longest pause before a source is tried again.
	retryMax = time.Minute
	// settledAfter is how long a source must have worked for its pauses to
	// start over.
	settledAfter = time.Minute
)

// cover says which events a source reports, as bits.
type cover uint

const (
	coverSleep cover = 1 << iota
	coverClock
	coverNetwork
)

// source is one of the ways in which the system tells.
type source struct {
	name   string
	covers cover
	// listen calls up when it is listening, and returns when it no longer is;
	// with errors.ErrUnsupported it is not tried again.
	listen func(ctx context.Context, m *Monitor, up func()) error
}

// Monitor listens to the operating system. Make one with [New].
type Monitor struct {
	cfg     Config
	log     *slog.Logger
	sources []source
	clock   clock
	lock    lockState
	idle    idleState
	sparing sparing
	events  queue
	network networkState

	mu      sync.Mutex // guards what follows
	covered map[string]cover
	asleep  bool          // after Suspending, until Woke
	changed chan struct{} // capacity 1: covered has changed
}

// New returns a monitor; Run starts it.
func New(cfg Config) *Monitor {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Tell == nil {
		cfg.Tell = func(Event) {}
	}
	m := &Monitor{
		cfg: cfg, log: cfg.Logger.With("component", "osevents"), sources: systemSources(),
		covered: make(map[string]cover), changed: make(chan struct{}, 1),
	}
	m.clock.read = readClock
	m.network.read = readNetwork
	m.lock.tell = m.events.add
	m.sparing.battery, m.sparing.wanted = onBattery, wake.NewSignal()
	m.events.ready = make(chan struct{}, 1)
	return m
}

// Run listens until ctx ends and then returns nil, after everything it has
// started has ended. It may be called once.
func (m *Monitor) Run(ctx context.Context) error {
	m.clock.step()
	m.network.changed()
	var all sync.WaitGroup
	all.Go(func() { m.events.deliver(ctx, m.cfg.Tell) })
	for _, s := range m.sources {
		all.Go(func() { m.keep(ctx, s) })
	}
	all.Go(func() { m.look(ctx) })
	all.Go(func() { m.sparing.keep(ctx) })
	all.Wait()
	m.lock.stop()
	return nil
}

// keep listens to a source for as long as ctx lasts.
func (m *Monitor) keep(ctx context.Context, s source) {
	log := m.log.With("source", s.name)
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, retryMax
	logged := false
	for {
		var since time.Time
		err := s.listen(ctx, m, func() {
			since, logged = time.Now(), false
			m.setCovered(s.name, s.covers)
			log.Debug("listening to the system")
		})
		m.setCovered(s.name, 0)
		if ctx.Err() != nil {
			return
		}
		if !logged {
			log.Info("no system events from this source; looking now and then instead", "err", err)
			logged = true
		}
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if !since.IsZero() && time.Since(since) >= settledAfter {
			pause.Reset()
		}
		if !wake.Sleep(ctx, pause.NextBackOff()) {
			return
		}
	}
}

func (m *Monitor) setCovered(source string, c cover) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.covered[source] == c {
		return
	}
	m.covered[source] = c
	select {
	case m.changed <- struct{}{}:
	default: // already signalled
	}
}

// look compares clocks and addresses where no source reports them.
func (m *Monitor) look(ctx context.Context) {
	for {
		var tick <-chan time.Time
		missing := m.missing()
		switch {
		case missing&^coverClock != 0:
			tick = time.After(lookEvery)
		case missing != 0:
			tick = time.After(lookForClock)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			continue
		case <-tick:
		}
		m.lookAtClock("clock", false)
		if missing&coverNetwork != 0 {
			m.lookAtNetwork("addresses")
		}
	}
}

// missing returns the events that no source reports.
func (m *Monitor) missing() cover {
	m.mu.Lock()
	defer m.mu.Unlock()
	missing := coverSleep | coverClock | coverNetwork
	for _, c := range m.covered {
		missing &^= c
	}
	return missing
}

// suspending reports that the machine goes to sleep. The channel is closed when
// all listeners have been called.
func (m *Monitor) suspending(source string) <-chan struct{} {
	m.mu.Lock()
	m.asleep = true
	m.mu.Unlock()
	return m.events.add(Event{Kind: Suspending, Source: source})
}

// lookAtClock reports what has happened to the clocks since the last look. woke
// comes from a source that knows of sleep: it is believed once for each
// Suspending, because a cancelled suspend leaves no trace.
func (m *Monitor) lookAtClock(source string, woke bool) {
	slept, set := m.clock.step()
	m.mu.Lock()
	woke = woke && m.asleep || slept > 0
	if woke {
		m.asleep = false
	}
	m.mu.Unlock()
	if woke {
		m.log.Info("the machine woke", "slept", slept.Round(time.Second), "source", source)
		m.events.add(Event{Kind: Woke, By: slept, Source: source})
	}
	if set != 0 {
		m.log.Info("the clock was set", "by", set.Round(time.Second), "source", source)
		m.events.add(Event{Kind: ClockChanged, By: set, Source: source})
	}
}

// lookAtNetwork tells if the network is another one than at the last look.
func (m *Monitor) lookAtNetwork(source string) {
	if m.network.changed() {
		m.log.Debug("the network changed", "source", source)
		m.events.add(Event{Kind: NetworkChanged, Source: source})
	}
}
