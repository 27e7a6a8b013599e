package agent

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/notices"
	"berth/agent/state"
	"berth/internal/wake"
)

const (
	// publishPause is between two snapshots, for changes that come together to be
	// in one. While there is no end of them, as under many connections a second,
	// the pause grows to publishPauseMax.
	publishPause    = 30 * time.Millisecond
	publishPauseMax = 250 * time.Millisecond
	// publishCounters is how often byte counters are shown to watchers.
	publishCounters = time.Second
	// publishIdle is how often time alone (a session that becomes expired)
	// is looked at while no front end watches.
	publishIdle = 15 * time.Second
)

// publisher holds what was published last, and the notices that go with it.
type publisher struct {
	hub     hub
	changed wake.Signal // something in the snapshot has changed
	hurry   wake.Signal // someone looks: a change that waits is to be published soon
	turn    sync.Mutex  // makes snapshots come in order; its holder waits for nothing

	// Of the goroutine that publishes changes:
	pause      time.Duration // to the next snapshot
	last       time.Time     // when it published, or failed to
	connecting bool          // a tunnel was, in that snapshot

	at atomic.Pointer[time.Time] // when changes were published, for alive; nil: not yet

	started time.Time
	atStart []state.Problem // found while starting; they last as long as the agent

	mu      sync.Mutex // guards everything below
	tracker *notices.Tracker
	// since dates problems of the last snapshot, by code and text.
	since map[string]time.Time
}

// due waits until a change is to be published: at once after a calm, else when
// the pause since the last snapshot is over, in which further changes are
// gathered. What a person waits for shortens a long pause: the start of the
// last tunnel that was connecting, and a front end that comes.
func (p *publisher) due(ctx context.Context, connecting func() bool) bool {
	timer := time.NewTimer(time.Until(p.last.Add(p.pause)))
	defer timer.Stop()
	starting := p.connecting
	more := false
	for {
		if starting && !connecting() {
			starting = false
			timer.Reset(time.Until(p.last.Add(publishPause)))
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.changed:
			more = true
		case <-p.hurry:
			timer.Reset(time.Until(p.last.Add(publishPause)))
		case <-timer.C:
			if p.pause *= 2; !more {
				p.pause = publishPause
			}
			p.pause = min(p.pause, publishPauseMax)
			return true
		}
	}
}

// silentMax is how long ago an agent that does its work has last published changes: it
// does so every publishIdle.
const silentMax = 3 * publishIdle

// alive returns an error when no changes were published for so long that a room must
// be stuck: each is asked for every snapshot. What commands and metrics have published
// shows less, and does not count.
func (p *publisher) alive() error {
	if at := p.at.Load(); at != nil {
		if silent := time.Since(*at); silent > silentMax {
			return fmt.Errorf("nothing was published for %s", silent.Round(time.Second))
		}
	}
	return nil
}

// notices returns what the person is to be shown with a snapshot. Snapshots must
// come in order.
func (p *publisher) notices(s *state.Snapshot, in notices.Input) []state.Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	if list := p.trackerLocked().Update(s, in); list != nil {
		return list
	}
	return []state.Notice{}
}

// shown returns what there is to remember of notices, for the next agent.
func (p *publisher) shown() notices.Saved {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trackerLocked().Save()
}

// goOn makes notices those that the agent before has shown.
func (p *publisher) goOn(shown notices.Saved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trackerLocked().Restore(shown)
}

func (p *publisher) trackerLocked() *notices.Tracker {
	if p.tracker == nil {
		p.tracker = notices.New()
	}
	return p.tracker
}

// hub holds the newest snapshot and wakes whoever follows it. Readers never
// lock; publishing never waits for a reader.
type hub struct {
	cur       atomic.Pointer[state.Snapshot]
	followers wake.Followers
	woken     time.Time // when the followers were last woken; publish only
}

// sameAgain is how often followers are woken for a snapshot in which nothing has
// changed: they draw the time that is left by the minute.
const sameAgain = time.Minute

// publish makes s the newest snapshot. Calls take turns.
func (h *hub) publish(s *state.Snapshot) {
	old := h.cur.Swap(s)
	now := time.Now()
	if old == nil || now.Sub(h.woken) >= sameAgain || !reflect.DeepEqual(old, s) {
		h.woken = now
		h.followers.Wake()
	}
}
