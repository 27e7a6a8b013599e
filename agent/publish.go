package agent

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/access"
	"berth/agent/ipc"
	"berth/agent/notices"
	"berth/agent/state"
	"berth/internal/wake"
)

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

// publisher holds what was published last, and the notices that go with it.
type publisher struct {
	hub     hub
	changed wake.Signal // something in the snapshot has changed
	turn    sync.Mutex  // makes snapshots come in order; its holder waits for nothing

	mu      sync.Mutex // guards everything below
	tracker *notices.Tracker
	atStart []state.Problem // found while starting; they last as long as the agent
	// since dates problems of the last snapshot, by code and text.
	since map[string]time.Time
}

// touch asks for a new snapshot to be published soon.
func (a *Agent) touch() { a.pub.changed.Wake() }

// keepPublished publishes a snapshot after each change, and as time passes.
func (a *Agent) keepPublished(ctx context.Context) {
	pause := publishPause
	for {
		every := publishIdle
		if a.pub.hub.watched() {
			every = publishCounters
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.pub.changed:
			if !wake.Sleep(ctx, pause) {
				return
			}
			pause = a.pub.nextPause(pause)
		case <-timer.C:
		}
		timer.Stop()
		a.renewals.Decide(time.Now().Round(0))
		a.publish()
	}
}

// nextPause takes back what changed during a pause, which the next snapshot
// has, and returns the pause for the change after it.
func (p *publisher) nextPause(pause time.Duration) time.Duration {
	select {
	case <-p.changed:
		return min(2*pause, publishPauseMax)
	default:
		return publishPause
	}
}

// publish draws a snapshot and makes it the one that every reader gets. What was
// asked for before the call is in it.
func (a *Agent) publish() {
	a.pub.turn.Lock()
	defer a.pub.turn.Unlock()
	now := time.Now().Round(0)
	s := a.draw(now)
	a.tunnels.Record(s)
	s.Notices = a.pub.notices(s, a.noticeInput(now))
	a.pub.hub.publish(s)
}

// Snapshot returns what was published last. It must not be changed.
func (a *Agent) Snapshot() *state.Snapshot { return a.pub.hub.cur.Load() }

// Subscribe returns a channel that receives after each newer snapshot, and the
// function that ends the subscription.
func (a *Agent) Subscribe() (<-chan struct{}, func()) {
	ch, cancel := a.pub.hub.subscribe()
	a.touch() // the loop may be in its idle sleep; watchers want counters
	return ch, cancel
}

// notices returns what the person is to be shown with a snapshot. Snapshots must
// come in order.
func (p *publisher) notices(s *state.Snapshot, in notices.Input) []state.Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tracker == nil {
		p.tracker = notices.New()
	}
	if list := p.tracker.Update(s, in); list != nil {
		return list
	}
	return []state.Notice{}
}

func (a *Agent) noticeInput(now time.Time) notices.Input {
	set, rules := a.current().Notifications, a.current().Access
	return notices.Input{
		Now: now, Enabled: set.On(), Quiet: set.QuietAt(now), WokeAt: a.system.lastWake(),
		Requests:  access.Notify(rules.Notify).WantsRequest,
		Sensitive: func(r state.Request) bool { return rules.IsSensitive(r.Roles) },
	}
}

// DismissNotice takes a notice off the screen for good.
func (a *Agent) DismissNotice(_ context.Context, id string) error {
	a.pub.mu.Lock()
	known := a.pub.tracker != nil && a.pub.tracker.Dismiss(id)
	a.pub.mu.Unlock()
	if !known {
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no longer a notice %q", id)}
	}
	a.publish()
	return nil
}

// hub holds the newest snapshot and wakes whoever follows it. Readers never
// lock; publishing never waits for a reader.
type hub struct {
	cur atomic.Pointer[state.Snapshot]

	mu       sync.Mutex
	watchers map[chan struct{}]struct{}
	told     time.Time // when the watchers were last woken
}

// sameAgain is how often watchers are told of a snapshot in which nothing has
// changed: by the minute is how they draw the time that is left.
const sameAgain = time.Minute

func (h *hub) publish(s *state.Snapshot) {
	old := h.cur.Swap(s)
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); old == nil || now.Sub(h.told) >= sameAgain || !reflect.DeepEqual(old, s) {
		h.told = now
	} else {
		return
	}
	for ch := range h.watchers {
		select {
		case ch <- struct{}{}:
		default: // already woken; it will read the newest
		}
	}
}

// subscribe returns a channel that receives after each newer snapshot, and the
// function that ends the subscription.
func (h *hub) subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = make(map[chan struct{}]struct{})
	}
	h.watchers[ch] = struct{}{}
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, ch)
	}
}

// watched reports whether anyone follows the snapshots.
func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers) > 0
}
