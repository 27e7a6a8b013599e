// Package notices decides what a person is told without having asked.
//
// It promises one notice per cause, of changes and of things to do only:
// nothing that is merely so. A trouble is told after a grace period, by the
// cluster when the cluster is its cause, and withdrawn when it is over. None
// comes in quiet hours or in the first seconds after a wake-up, none again
// within minutes of the last time or after it was dismissed, and no more than
// a few in a minute: the others are counted.
//
// What is told follows from the snapshots alone; the Tracker remembers only
// what it has told already.
package notices

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"berth/agent/state"
)

const (
	// wakeQuiet is how long after a wake-up nothing new is told.
	wakeQuiet = 10 * time.Second
	// again is how long a cause that is over must be so before its return is
	// news.
	again = 10 * time.Minute
	// perMinute is how many new notices may come in a minute.
	perMinute = 5
	// forget is how long what was told is remembered.
	forget = 24 * time.Hour
)

// Input is what decides besides the snapshot.
type Input struct {
	Now     time.Time
	Enabled bool
	Quiet   bool      // quiet hours
	WokeAt  time.Time // zero means never
	// Requests says whether a request is one the person wants to hear of; nil
	// means that every one is.
	Requests func(state.Request) bool
	// Sensitive says whether approving a request asks once more; nil means
	// that none does.
	Sensitive func(state.Request) bool
}

// candidate is a notice that would be told now, but for what the Tracker
// remembers.
type candidate struct {
	state.Notice

	grace     time.Duration // how long the cause must last
	onlyFresh bool          // told only if it came while the Tracker looked
	recovered *state.Notice // told for a moment when a cause that was told is over; nil means nothing is
}

// memory is what is remembered of a cause.
type memory struct {
	since     time.Time // of its present time round
	last      time.Time // when it was last seen
	absent    bool      // at the last look
	told      time.Time // this time round; zero means that it was not
	notBefore time.Time // when it may be told at the earliest
	stale     bool      // it was there before the Tracker
	dismissed bool
	recovered *state.Notice
}

// Tracker turns snapshots into notices. It is not safe for concurrent use.
type Tracker struct {
	started  bool
	by       map[string]*memory
	moments  map[string]moment // notices that go by themselves
	tellings []time.Time       // of the last minute
	held     map[string]bool   // causes over the limit
}

// moment is a notice that is shown for a while.
type moment struct {
	notice state.Notice
	until  time.Time
}

// New returns a Tracker that has told nothing.
func New() *Tracker {
	return &Tracker{by: make(map[string]*memory), moments: make(map[string]moment), held: make(map[string]bool)}
}

// Update returns what the person is to be told now, the most urgent first.
// Snapshots must come in order.
func (t *Tracker) Update(s *state.Snapshot, in Input) []state.Notice {
	list := candidates(s, in)
	present := make(map[string]bool, len(list))
	var out []state.Notice
	for _, c := range list {
		present[c.ID] = true
		if t.tell(c, in) {
			c.Since = t.by[c.ID].told.UTC()
			out = append(out, c.Notice)
		}
	}
	t.goneBy(present, in)
	for id, m := range t.moments {
		if in.Now.After(m.until) || !in.Enabled {
			delete(t.moments, id)
			continue
		}
		out = append(out, m.notice)
	}
	t.started = true
	if n := len(t.held); n > 0 && in.Enabled {
		out = append(out, more(n, in.Now))
	}
	slices.SortFunc(out, func(a, b state.Notice) int {
		return cmp.Or(cmp.Compare(rank(b.Urgency), rank(a.Urgency)), a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func rank(u state.Urgency) int {
	return slices.Index([]state.Urgency{state.UrgencyLow, state.UrgencyNormal, state.UrgencyCritical}, u)
}

// tell reports whether a cause is told now.
func (t *Tracker) tell(c candidate, in Input) bool {
	m := t.remember(c.ID, in.Now)
	m.recovered = c.recovered
	switch {
	case m.dismissed, m.stale && c.onlyFresh, !in.Enabled:
		return false
	case !m.told.IsZero():
		return true
	case in.Quiet, justWoken(in), in.Now.Before(m.since.Add(c.grace)), in.Now.Before(m.notBefore):
		return false
	case !t.allow(c, in.Now):
		t.held[c.ID] = true
		return false
	}
	delete(t.held, c.ID)
	m.told = in.Now
	return true
}

// remember notes that a cause is there now.
func (t *Tracker) remember(id string, now time.Time) *memory {
	m := t.by[id]
	switch {
	case m == nil:
		m = &memory{since: now, stale: !t.started}
		t.by[id] = m
	case m.absent && now.Sub(m.last) > again && !m.dismissed:
		*m = memory{since: now}
	case m.absent:
		// Back so soon it is the same trouble, which was told.
		if !m.told.IsZero() {
			m.notBefore = m.told.Add(again)
		}
		m.since, m.told, m.absent = now, time.Time{}, false
	}
	m.last = now
	return m
}

func justWoken(in Input) bool {
	since := in.Now.Sub(in.WokeAt)
	return !in.WokeAt.IsZero() && since >= 0 && since < wakeQuiet
}

// allow counts a telling; false means that there were too many of late. What
// waits for a person's hands is never held back.
func (t *Tracker) allow(c candidate, now time.Time) bool {
	t.tellings = slices.DeleteFunc(t.tellings, func(at time.Time) bool { return now.Sub(at) >= time.Minute || at.After(now) })
	if len(t.tellings) >= perMinute && c.Urgency != state.UrgencyCritical {
		return false
	}
	t.tellings = append(t.tellings, now)
	return true
}

// goneBy notes which causes are over.
func (t *Tracker) goneBy(present map[string]bool, in Input) {
	for id, m := range t.by {
		if present[id] {
			continue
		}
		delete(t.held, id)
		m.absent = true
		if r := m.recovered; r != nil && !m.told.IsZero() && !m.dismissed && in.Enabled && !in.Quiet {
			n := *r
			n.Since = in.Now.UTC()
			t.moments[n.ID] = moment{notice: n, until: in.Now.Add(recoveredFor)}
		}
		m.recovered = nil
		if in.Now.Sub(m.last) > forget {
			delete(t.by, id)
		}
	}
}

// Dismiss says that a notice need not be shown any more; false means that
// there is none.
func (t *Tracker) Dismiss(id string) bool {
	if _, ok := t.moments[id]; ok {
		delete(t.moments, id)
		return true
	}
	if id == moreID && len(t.held) > 0 {
		for held := range t.held {
			t.by[held].dismissed = true
		}
		clear(t.held)
		return true
	}
	m := t.by[id]
	if m == nil || m.told.IsZero() {
		return false
	}
	m.dismissed = true
	return true
}

// moreID is the notice that counts those held back.
const moreID = "more"

func more(n int, now time.Time) state.Notice {
	what := "1 more thing"
	if n > 1 {
		what = fmt.Sprintf("%d more things", n)
	}
	return state.Notice{
		ID: moreID, Kind: state.NoticeMore, Urgency: state.UrgencyLow, Title: what + " to tell",
		Body: "The tray's menu and berth status have them all.", Since: now.UTC(),
		Actions: []state.NoticeAction{{Verb: state.VerbDismiss, Label: "Dismiss"}},
	}
}
