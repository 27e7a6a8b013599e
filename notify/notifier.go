package notify

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"berth/internal/survive"
)

const (
	maxOpen   = 50              // notifications on the screen or waiting
	burst     = 8               // that are shown at once
	interval  = time.Second     // between those that follow
	showTime  = 8 * time.Second // for the backend to show one
	closeTime = 2 * time.Second // for it to withdraw one, and all at the end
	maxEvents = 64              // that wait for the callbacks

	againAfter = time.Minute // between two times that a lost one is shown again
)

// backend shows notifications on one operating system. One goroutine calls its
// show and withdraw.
type backend interface {
	// run serves until ctx ends, and reports events to the sink.
	run(ctx context.Context, to sink) error
	show(ctx context.Context, n Notification) error
	withdraw(ctx context.Context, id string) error
	holds(id string) bool // whether the service that runs now was given it
	capabilities() Capabilities
}

// sink receives a backend's events. Its methods never wait.
type sink interface {
	acted(id, key string) // a button was pressed; the notification is gone
	closed(id string)     // the person has put it away
	expired(id string)    // the desktop has put it away
	fresh()               // a service has come that shows nothing of ours yet
}

// notifier holds what should be on the screen and brings it there, one after
// the other.
type notifier struct {
	backend backend
	appName string
	log     *slog.Logger
	limit   *rate.Limiter
	wake    chan struct{} // capacity 1: there is something to do
	events  chan func()   // for the callbacks
	cfg     Config
	stopped chan struct{} // closed when Run has returned

	mu    sync.Mutex // guards what follows
	open  map[string]*card
	order uint64   // of the last card
	gone  []string // IDs to withdraw
}

// card is one notification that should be on the screen.
type card struct {
	n       Notification
	order   uint64
	pending bool         // its words are not on the screen
	flying  bool         // they are on their way there
	missed  bool         // a fresh service came while they were
	shown   bool         // something of it is on the screen
	again   time.Time    // when it was last shown again after the service lost it
	wait    []chan error // calls of Show; each has capacity 1
}

func newNotifier(cfg Config, b backend) *notifier {
	return &notifier{
		backend: b, appName: cfg.AppName, log: cfg.Logger, cfg: cfg,
		limit:   rate.NewLimiter(rate.Every(interval), burst),
		wake:    make(chan struct{}, 1),
		events:  make(chan func(), maxEvents),
		stopped: make(chan struct{}),
		open:    make(map[string]*card),
	}
}

// Capabilities implements Notifier.
func (n *notifier) Capabilities() Capabilities { return n.backend.capabilities() }

// Show implements Notifier.
func (n *notifier) Show(ctx context.Context, what Notification) error {
	what, err := clean(what, n.appName)
	if err != nil {
		return err
	}
	done, err := n.want(what)
	if err != nil || done == nil {
		return err
	}
	n.poke()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.stopped:
		return ErrStopped
	}
}

// want notes that a notification should be on the screen. A nil channel means
// that it is already.
func (n *notifier) want(what Notification) (<-chan error, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.open[what.ID]
	if c == nil {
		if len(n.open) >= maxOpen && (what.Urgency != UrgencyCritical || !n.makeRoom()) {
			return nil, ErrTooMany
		}
		n.order++
		c = &card{order: n.order}
		n.open[what.ID] = c
	} else if c.n.equal(what) && !c.pending && c.shown {
		return nil, nil
	}
	c.n, c.pending, c.again = what, true, time.Time{}
	done := make(chan error, 1)
	c.wait = append(c.wait, done)
	return done, nil
}

// makeRoom withdraws the oldest card that is not critical; false means that all are. The
// caller holds mu.
func (n *notifier) makeRoom() bool {
	var oldest string
	for id, c := range n.open {
		if c.n.Urgency != UrgencyCritical && (oldest == "" || c.order < n.open[oldest].order) {
			oldest = id
		}
	}
	if oldest == "" {
		return false
	}
	n.forget(oldest, n.open[oldest])
	n.gone = append(n.gone, oldest)
	return true
}

// Close implements Notifier.
func (n *notifier) Close(id string) {
	n.mu.Lock()
	c := n.open[id]
	if c != nil {
		n.forget(id, c)
		n.gone = append(n.gone, id) // even what is not shown may be about to be
	}
	n.mu.Unlock()
	n.poke()
}

// forget takes a card away, and answers those who wait for it: Show may not have heard
// yet of what is gone already. The caller holds mu.
func (n *notifier) forget(id string, c *card) {
	delete(n.open, id)
	c.settle(nil)
}

// settle answers the calls of Show that wait; the caller holds mu.
func (c *card) settle(err error) {
	for _, done := range c.wait {
		done <- err
	}
	c.wait = nil
}

func (n *notifier) poke() {
	select {
	case n.wake <- struct{}{}:
	default: // it will see the newest
	}
}

// Run implements Notifier.
func (n *notifier) Run(ctx context.Context) error {
	defer close(n.stopped)
	// The backend outlives ctx by the time it takes to withdraw what is shown.
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := n.backend.run(lasting, n); err != nil {
			n.log.Error("notifications have ended", "err", err)
		}
	})
	parts.Go(func() { n.callbacks(ctx) })
	n.work(ctx)
	n.clear(lasting)
	end()
	parts.Wait()
	return nil
}

// callbacks tells what happened, one after the other.
func (n *notifier) callbacks(ctx context.Context) {
	for {
		select {
		case f := <-n.events:
			_ = survive.Do(n.log, "act on a notification", func() error { f(); return nil }) // it is logged
		case <-ctx.Done():
			return
		}
	}
}

// work withdraws and shows until ctx ends.
func (n *notifier) work(ctx context.Context) {
	for {
		for n.step(ctx) {
			if ctx.Err() != nil {
				return
			}
		}
		select {
		case <-n.wake:
		case <-ctx.Done():
			return
		}
	}
}

// step does the next thing that there is to do, and reports whether there was
// any.
func (n *notifier) step(ctx context.Context) bool {
	if id, ok := n.nextGone(); ok {
		n.withdraw(ctx, id)
		return true
	}
	if _, ok := n.nextCard(false); !ok {
		return false
	}
	if r := n.limit.Reserve(); r.Delay() > 0 {
		// While this waits its turn, others may come or go.
		timer := time.NewTimer(r.Delay())
		defer timer.Stop()
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				waiting = false
			case <-n.wake:
				for id, ok := n.nextGone(); ok; id, ok = n.nextGone() {
					n.withdraw(ctx, id)
				}
			case <-ctx.Done():
				return false
			}
		}
	}
	what, ok := n.nextCard(true)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, showTime)
	defer cancel()
	err := survive.Do(n.log, "show a notification", func() error { return n.backend.show(ctx, what) })
	n.outcome(what, err)
	return true
}

func (n *notifier) nextGone() (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.gone) == 0 {
		return "", false
	}
	id := n.gone[0]
	n.gone = n.gone[1:]
	if c := n.open[id]; c != nil { // wanted again meanwhile: it will be replaced
		c.shown = true
		return id, false
	}
	return id, true
}

// nextCard returns what is to be shown next: what is urgent first, then what
// has waited longest. When take is set it is on its way from now on.
func (n *notifier) nextCard(take bool) (Notification, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var next *card
	for _, c := range n.open {
		if c.pending && (next == nil || c.before(next)) {
			next = c
		}
	}
	if next == nil {
		return Notification{}, false
	}
	if take {
		next.pending, next.flying, next.missed = false, true, false
	}
	return next.n, true
}

func (c *card) before(o *card) bool {
	if c.n.Urgency != o.n.Urgency {
		return c.n.Urgency > o.n.Urgency
	}
	return c.order < o.order
}

// errNoAnswer says that the service has been given something and may yet show it.
var errNoAnswer = errors.New("the notification service does not answer")

// outcome notes how showing went.
func (n *notifier) outcome(what Notification, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.open[what.ID]
	if c != nil && c.flying {
		c.flying = false
		c.pending = c.pending || c.missed && !errors.Is(err, errNoAnswer) && !n.backend.holds(what.ID)
	}
	switch {
	case c == nil: // closed meanwhile
		if err == nil {
			n.gone = append(n.gone, what.ID)
		}
	case !c.n.equal(what): // other words meanwhile: they answer the waiting calls
		c.shown = c.shown || err == nil
	default:
		c.shown = c.shown || err == nil
		c.settle(err)
	}
}

func (n *notifier) withdraw(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	err := survive.Do(n.log, "withdraw a notification", func() error { return n.backend.withdraw(ctx, id) })
	if err != nil && ctx.Err() == nil {
		n.log.Debug("a notification stays", "id", id, "err", err)
	}
}

// clear withdraws everything: a button without a listener is worse than no
// button.
func (n *notifier) clear(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	n.mu.Lock()
	gone := n.gone
	for id, c := range n.open {
		c.settle(ErrStopped)
		if c.shown {
			gone = append(gone, id)
		}
	}
	n.open, n.gone = make(map[string]*card), nil
	n.mu.Unlock()
	for _, id := range gone {
		n.withdraw(ctx, id)
	}
}
