// Package notices decides what berth shows the user unasked.
//
// It promises one notice per cause, and only for changes and for things to do.
// A problem becomes a notice after a grace period (one for the whole cluster
// when the cluster is its cause), and the notice is withdrawn when the problem
// ends; that its tunnels work again is said when they are seen to. No notice comes in
// quiet hours or in the first seconds after a wake-up, none returns within minutes,
// unless a restart has failed, or after it was dismissed, and at most a few come in a
// minute: the others are counted.
//
// The notices follow from the snapshots alone; the Tracker remembers only which
// ones it has shown, for the process that goes on in its place too.
package notices

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/agent/state"
)

const (
	// wakeQuiet is how long no new notice comes after a wake-up.
	wakeQuiet = 10 * time.Second
	// again is how long a cause must have been gone before its return is news.
	again = 10 * time.Minute
	// perMinute is how many new notices may come in a minute.
	perMinute = 5
	// forget is how long a shown notice is remembered.
	forget = 24 * time.Hour
)

// Input holds what decides besides the snapshot.
type Input struct {
	Now     time.Time
	Enabled bool
	Quiet   bool      // quiet hours
	WokeAt  time.Time // zero means never
	// Requests reports whether the user wants notices of a request; nil means
	// of every request.
	Requests func(state.Request) bool
	// Sensitive reports whether approving a request needs a confirmation; nil
	// means never.
	Sensitive func(state.Request) bool
	// Listed reports whether what a request of the user's own becomes was news before the
	// snapshot was drawn; nil means of none.
	Listed func(state.Request) bool
}

// candidate is a notice that the snapshot asks for; whether it is shown now
// depends on what the Tracker remembers.
type candidate struct {
	state.Notice

	grace     time.Duration  // how long the cause must last
	onlyFresh bool           // shown only if it appeared while the Tracker ran
	of        *state.Request // for onlyFresh: it must have been news by then; nil means no request
	done      bool           // it was dealt with: not to be shown, from now on
	occasion  *occasion      // completes the ID of a cause that comes again; the one that it had at first counts
	recovered *recovery      // shown briefly when a shown cause ends; nil means none
}

// occasion tells one time that a cause is there from the next.
type occasion struct {
	tunnel string // whose cause it is; empty: no tunnel's
	at     time.Time
}

// recovery is what is said when a cause has ended, and what shows that it has.
type recovery struct {
	Notice  state.Notice `json:"notice"`
	Tunnels []string     `json:"tunnels"` // those it kept from working: one of them works
}

// works reports whether one of the tunnels works.
func (r *recovery) works(s *state.Snapshot) bool {
	return r.one(s, func(t *state.Tunnel) bool { return t.State == state.TunnelReady && t.Problem == nil })
}

// triedAgain reports whether one of the tunnels is being tried again, as after a restart.
func (r *recovery) triedAgain(s *state.Snapshot) bool {
	return r.one(s, func(t *state.Tunnel) bool { return t.State == state.TunnelConnecting })
}

func (r *recovery) one(s *state.Snapshot, is func(*state.Tunnel) bool) bool {
	return slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return slices.Contains(r.Tunnels, t.Name) && is(&t) })
}

// Memory is what a Tracker knows of a cause.
type Memory struct {
	Since     time.Time `json:"since"`               // when the cause appeared, this time
	Last      time.Time `json:"last"`                // when it was last seen
	Absent    bool      `json:"absent,omitempty"`    // at the last look
	GoesOn    bool      `json:"goes_on,omitempty"`   // if it comes back: nothing has shown that it ended
	ShownAt   time.Time `json:"shown_at,omitzero"`   // this time; zero means not yet
	NotBefore time.Time `json:"not_before,omitzero"` // the earliest time to show it
	Stale     bool      `json:"stale,omitempty"`     // it was there before berth looked
	Dismissed bool      `json:"dismissed,omitempty"`
	Recovered *recovery `json:"recovered,omitempty"` // nil means none, or that it was said
}

// Saved is what a Tracker remembers on its way to another process, by the causes' IDs.
type Saved map[string]Memory

// Tracker turns snapshots into notices. It is not safe for concurrent use.
type Tracker struct {
	by       map[string]*Memory
	started  bool
	listed   func(state.Request) bool // Input's at the last look
	standing map[string]string        // at the last look, by the ID: the one with the occasion
	moments  map[string]moment        // notices that are withdrawn after a while
	showings []time.Time              // of the last minute
	held     map[string]bool          // causes over the limit
	counted  time.Time                // since when they are counted; zero means that there are none
}

// moment is a recovery that is shown for a while.
type moment struct {
	*recovery
	since time.Time
}

// New returns a Tracker that has shown nothing yet.
func New() *Tracker {
	return &Tracker{by: make(map[string]*Memory), moments: make(map[string]moment), held: make(map[string]bool)}
}

// Save returns what there is to remember.
func (t *Tracker) Save() Saved {
	s := make(Saved, len(t.by))
	for id, m := range t.by {
		s[id] = *m
	}
	return s
}

// Restore has a new Tracker go on where another one ended. What it cannot see yet, such as
// requests that are yet to be listed, has not ended.
func (t *Tracker) Restore(s Saved) {
	for id, m := range s {
		m.GoesOn = m.GoesOn || !m.Absent
		t.by[id], t.started = &m, true
	}
}

// Update returns the notices to show now, the most urgent first. Snapshots must
// come in order.
func (t *Tracker) Update(s *state.Snapshot, in Input) []state.Notice {
	list := candidates(s, in)
	t.complete(list)
	present := make(map[string]bool, len(list))
	var out []state.Notice
	for _, c := range list {
		present[c.ID] = true
		if t.due(c, in) {
			c.Since = t.by[c.ID].ShownAt.UTC()
			out = append(out, c.Notice)
		}
	}
	t.goneBy(present, s, in)
	for id, m := range t.moments {
		if in.Now.Sub(m.since) > recoveredFor || !in.Enabled || !m.works(s) {
			delete(t.moments, id)
			continue
		}
		n := m.Notice
		n.Since = m.since.UTC()
		out = append(out, n)
	}
	t.started = true
	t.listed = in.Listed
	switch n := len(t.held); {
	case n == 0:
		t.counted = time.Time{}
	case in.Enabled && !in.Quiet && !justWoken(in):
		if t.counted.IsZero() {
			t.counted = in.Now
		}
		out = append(out, more(n, t.counted))
	}
	slices.SortFunc(out, func(a, b state.Notice) int {
		return cmp.Or(cmp.Compare(rank(b.Urgency), rank(a.Urgency)), a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// complete gives the candidates their occasions: the next time is another cause, which
// was neither shown nor dismissed.
func (t *Tracker) complete(list []candidate) {
	standing := make(map[string]string)
	for i := range list {
		if c := &list[i]; c.occasion != nil {
			of := c.ID + "/"
			if c.occasion.tunnel != "" {
				of += c.occasion.tunnel + "/"
			}
			id := cmp.Or(t.standing[c.ID], t.goingOn(of), of+strconv.FormatInt(c.occasion.at.Unix(), 10))
			standing[c.ID] = id
			c.ID = id
		}
	}
	t.standing = standing
}

// goingOn returns the ID of a cause that has not ended, of those that begin with of: to a
// successor it is there since it has found it itself.
func (t *Tracker) goingOn(of string) string {
	for id, m := range t.by {
		if m.GoesOn && strings.HasPrefix(id, of) {
			return id
		}
	}
	return ""
}

func rank(u state.Urgency) int {
	return slices.Index([]state.Urgency{state.UrgencyLow, state.UrgencyNormal, state.UrgencyCritical}, u)
}

// due reports whether a candidate is shown now, and remembers it if so.
func (t *Tracker) due(c candidate, in Input) bool {
	m := t.remember(c, in.Now)
	if m.Recovered = c.recovered; m.Recovered != nil {
		delete(t.moments, m.Recovered.Notice.ID)
	}
	m.Dismissed = m.Dismissed || c.done
	switch {
	case m.Dismissed, m.Stale && c.onlyFresh, !in.Enabled:
		return false
	case !m.ShownAt.IsZero():
		return true
	case in.Quiet, justWoken(in), in.Now.Before(m.Since.Add(c.grace)), in.Now.Before(m.NotBefore):
		return false
	case !t.allow(c, in.Now):
		t.held[c.ID] = true
		return false
	}
	delete(t.held, c.ID)
	m.ShownAt = in.Now
	return true
}

// remember notes that a cause is there now.
func (t *Tracker) remember(c candidate, now time.Time) *Memory {
	m := t.by[c.ID]
	switch {
	case m == nil:
		m = &Memory{Since: now, Stale: !t.started || !t.news(c)}
		t.by[c.ID] = m
	case m.Absent && now.Sub(m.Last) > again && !m.Dismissed:
		*m = Memory{Since: now, Stale: !t.news(c)}
	case m.Absent:
		// Back so soon, it is the same problem: no second notice yet.
		if !m.GoesOn {
			if !m.ShownAt.IsZero() {
				m.NotBefore = m.ShownAt.Add(again)
			}
			m.Since = now
		}
		m.ShownAt, m.Absent = time.Time{}, false
	}
	m.Last, m.GoesOn = now, false
	return m
}

// news reports whether what a candidate is about was news at the last look already.
func (t *Tracker) news(c candidate) bool { return c.of == nil || t.listed != nil && t.listed(*c.of) }

func justWoken(in Input) bool {
	since := in.Now.Sub(in.WokeAt)
	return !in.WokeAt.IsZero() && since >= 0 && since < wakeQuiet
}

// allow counts a telling; false means that there were too many of late. What
// waits for a person's hands is never held back.
func (t *Tracker) allow(c candidate, now time.Time) bool {
	t.showings = slices.DeleteFunc(t.showings, func(at time.Time) bool { return now.Sub(at) >= time.Minute || at.After(now) })
	if len(t.showings) >= perMinute && c.Urgency != state.UrgencyCritical {
		return false
	}
	t.showings = append(t.showings, now)
	return true
}

// goneBy notes which causes are gone.
func (t *Tracker) goneBy(present map[string]bool, s *state.Snapshot, in Input) {
	for id, m := range t.by {
		if present[id] {
			continue
		}
		delete(t.held, id)
		m.Absent = true
		t.ended(m, s, in)
		if in.Now.Sub(m.Last) > forget {
			delete(t.by, id)
		}
	}
}

// ended says that a cause which is gone has ended, once the snapshot shows it: its
// tunnels may as well have been stopped, or wait for a login.
func (t *Tracker) ended(m *Memory, s *state.Snapshot, in Input) {
	r := m.Recovered
	switch {
	case r == nil:
	case in.Now.Sub(m.Last) > again: // what is seen from now on has other reasons
		m.Recovered = nil
	case r.works(s):
		m.Recovered, m.GoesOn = nil, false
		if !m.ShownAt.IsZero() && !m.Dismissed && in.Enabled && !in.Quiet {
			t.moments[r.Notice.ID] = moment{recovery: r, since: in.Now}
		}
	case r.triedAgain(s):
		m.GoesOn = true
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
			t.by[held].Dismissed = true
		}
		clear(t.held)
		return true
	}
	m := t.by[id]
	if m == nil || m.ShownAt.IsZero() {
		return false
	}
	m.Dismissed = true
	return true
}

// moreID is the notice that counts those held back.
const moreID = "more"

func more(n int, since time.Time) state.Notice {
	what := "1 more thing"
	if n > 1 {
		what = fmt.Sprintf("%d more things", n)
	}
	return state.Notice{
		ID: moreID, Kind: state.NoticeMore, Urgency: state.UrgencyLow, Title: what + " to look at",
		Body: "The tray's menu and berth status have them all.", Since: since.UTC(),
		Actions: []state.NoticeAction{{Verb: state.VerbDismiss, Label: "Dismiss"}},
	}
}
