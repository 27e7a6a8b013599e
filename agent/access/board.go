package access

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/wake"
)

// Session is one login session whose requests are followed.
type Session struct {
	Who
	// Key names the profile: the same key means the same person at the same
	// proxy, after a renewal too.
	Key certwatch.ProfileID
	// Fingerprint tells one session of a profile from the next.
	Fingerprint string
	Source      source
	// Ended says that the session is over, and that the cluster cannot be
	// asked. What the user may assume after their next login stays listed.
	Ended bool
}

// Board joins the requests of all sessions. Its methods are safe for
// concurrent use.
type Board struct {
	log      *slog.Logger
	most     func() int // requests that are listed
	onChange func()
	onEvent  func(state.RequestEvent)
	changed  wake.Signal

	mu       sync.Mutex
	ctx      context.Context // Run's; nil before and after
	followed map[certwatch.ProfileID]*followed
	tunnels  map[string][]string // by request id: the tunnels that alone have its roles
	running  sync.WaitGroup
}

// followed is a session and its tracker.
type followed struct {
	session Session
	tracker *tracker
	cancel  context.CancelFunc
	// before holds the requests of the previous session until this one has
	// listed: a renewal makes no request vanish.
	before []*types.AccessRequestV3
	// last is what was drawn at the last look for events, at lastAt. Each session has its
	// own: two homes may have sessions at one proxy, and the same request in both; and
	// while one is away, looks pass it over.
	last   []state.Request
	lastAt time.Time
	// quiet says that the first list is yet to come: its content is no news.
	quiet bool
	// away says that the session has ended, or that its successor has not
	// listed yet: events wait until it has.
	away bool
}

// NewBoard returns a Board, which lists most() requests at most; Run starts it.
// onChange is called when Requests may return something else, onEvent for each
// event, in order; neither may call back.
func NewBoard(log *slog.Logger, most func() int, onChange func(), onEvent func(state.RequestEvent)) *Board {
	return &Board{
		log: log.With("component", "access"), most: most, onChange: onChange, onEvent: onEvent,
		changed: wake.NewSignal(), followed: make(map[certwatch.ProfileID]*followed), tunnels: make(map[string][]string),
	}
}

// tick is how often the clock alone is looked at: access that may be taken
// from now on, or is about to end.
const tick = 5 * time.Second

// Run follows the requests until ctx ends, and returns when all it started has
// ended.
func (b *Board) Run(ctx context.Context) {
	b.mu.Lock()
	b.ctx = ctx
	for _, f := range b.followed {
		b.startLocked(f)
	}
	b.mu.Unlock()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			b.mu.Lock()
			b.ctx = nil // nothing more is started
			b.mu.Unlock()
			b.running.Wait()
			return
		case <-clock.C:
			b.update(time.Now().Round(0), false)
		case <-b.changed:
			b.update(time.Now().Round(0), true)
		}
	}
}

// Follow makes sessions the ones that are followed.
func (b *Board) Follow(sessions []Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := make(map[certwatch.ProfileID]bool, len(sessions))
	for _, s := range sessions {
		seen[s.Key] = true
		old := b.followed[s.Key]
		if old != nil && old.session.Fingerprint == s.Fingerprint && old.session.Ended == s.Ended {
			continue
		}
		if s.Ended {
			b.endLocked(old, s)
			continue
		}
		f := &followed{session: s, quiet: true}
		if old != nil {
			old.stop()
			f.last, f.lastAt = old.last, old.lastAt
			if old.session.User == s.User {
				f.before, f.quiet, f.away = old.list(), old.quiet, old.away
			}
		}
		b.followed[s.Key] = f
		if b.ctx != nil {
			b.startLocked(f)
		}
	}
	for k, f := range b.followed {
		if !seen[k] {
			f.stop()
			delete(b.followed, k) // a logout is no event of any request
		}
	}
	b.changed.Wake()
}

// endLocked keeps those requests of an ended session that can be assumed after
// the next login. Dropping the others is no event.
func (b *Board) endLocked(old *followed, s Session) {
	if old == nil {
		return // nothing was known
	}
	old.stop()
	now := time.Now()
	f := &followed{session: s, last: old.last, lastAt: old.lastAt, quiet: old.quiet, away: true}
	for _, req := range old.list() {
		if r := Draw(req, old.session.Who, now); r.Mine && r.State == state.RequestApproved && !r.Assumed {
			f.before = append(f.before, req)
		}
	}
	b.followed[s.Key] = f
}

func (b *Board) startLocked(f *followed) {
	ctx, cancel := context.WithCancel(b.ctx)
	f.cancel = cancel
	f.tracker = newTracker(f.session.Source, b.log.With("profile", f.session.Profile), b.changed.Wake)
	b.running.Go(func() { f.tracker.Run(ctx) })
}

func (f *followed) stop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// list returns what is known: of the session before, as long as this one has
// not listed.
func (f *followed) list() []*types.AccessRequestV3 {
	if f.tracker == nil {
		return f.before
	}
	list, listed := f.tracker.List()
	if !listed {
		return f.before
	}
	return list
}

// listed reports whether this session's requests have been listed.
func (f *followed) listed() bool {
	if f.tracker == nil {
		return false
	}
	listed, _ := f.tracker.asked(1)
	return listed
}

// SetTunnels says which tunnels alone have the roles of which requests.
func (b *Board) SetTunnels(byRequest map[string][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if maps.EqualFunc(b.tunnels, byRequest, slices.Equal) {
		return
	}
	b.tunnels = byRequest
	b.changed.Wake()
}

// Refresh lists at once: something has just been changed. The func that it returns reports
// whether each session that is followed when it is called has listed its requests since,
// and tried whether each has or has failed to.
func (b *Board) Refresh() (since func() (listed, tried bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := make(map[*tracker]int)
	for _, f := range b.followed {
		if f.tracker != nil {
			asked[f.tracker] = f.tracker.Refresh()
		}
	}
	return func() (listed, tried bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		listed, tried = true, true
		for _, f := range b.followed {
			if f.tracker != nil {
				l, t := f.tracker.asked(max(asked[f.tracker], 1)) // a session that began since: its first
				listed, tried = listed && l, tried && t
			}
		}
		return listed, tried
	}
}

// NoReview notes that the cluster refused to let a session's user review.
func (b *Board) NoReview(key certwatch.ProfileID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.followed[key]; f != nil {
		f.session.NoReview = true
		b.changed.Wake()
	}
}

// Listed returns a func that reports of the user's own requests whether what they become
// is news as of now: for that a session of their user must have listed once, or the one
// that it renews. One that never lists hides no other user's news.
func (b *Board) Listed() func(state.Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	type owner struct{ profile, user string }
	listed := make(map[owner]bool)
	for _, f := range b.followed {
		if !f.quiet {
			listed[owner{f.session.Profile, CleanName(f.session.User)}] = true
		}
	}
	return func(r state.Request) bool { return listed[owner{r.Profile, r.User}] }
}

// Over returns how many requests there are above what is listed.
func (b *Board) Over() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, most := 0, b.most()
	for _, f := range b.followed {
		n += len(f.list())
	}
	if n <= most {
		return 0
	}
	distinct := make(map[key]struct{}, n)
	for _, f := range b.followed {
		for _, req := range f.list() {
			distinct[key{f.session.Profile, req.GetName()}] = struct{}{}
		}
	}
	return max(0, len(distinct)-most)
}

// Requests draws the requests as of now, the newest first. One that several
// sessions list is there once: as the session has it that can do most with it.
// Above most, those are left out that the person has least to do with, the oldest
// first; events take account of them all the same.
func (b *Board) Requests(now time.Time) []state.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []state.Request{}
	at := make(map[key]int)
	for _, f := range b.orderedLocked() {
		for r := range b.drawLocked(f, now) {
			i, twice := at[keyOf(r)]
			switch {
			case !twice:
				at[keyOf(r)] = len(list)
				list = append(list, r)
			case claim(r) > claim(list[i]):
				list[i] = r
			}
		}
	}
	if most := b.most(); len(list) > most {
		slices.SortFunc(list, func(a, c state.Request) int { return cmp.Or(cmp.Compare(claim(c), claim(a)), newest(a, c)) })
		list = list[:most]
	}
	slices.SortFunc(list, newest)
	return list
}

// Of returns a request as the list of one session has it; false means that it is
// not there.
func (b *Board) Of(session certwatch.ProfileID, id string, now time.Time) (state.Request, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.followed[session]; f != nil {
		for r := range b.drawLocked(f, now) {
			if r.ID == id {
				return r, true
			}
		}
	}
	return state.Request{}, false
}

// key names a request: ids are random, but two clusters are two clusters.
type key struct{ profile, id string }

func keyOf(r state.Request) key { return key{r.Profile, r.ID} }

// newest orders requests by age.
func newest(a, b state.Request) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Profile, b.Profile), cmp.Compare(a.ID, b.ID))
}

// claim is the more, the more the person has to do with a request.
func claim(r state.Request) int {
	switch {
	case r.Assumed, r.Mine && len(r.Tunnels) > 0:
		return 3
	case r.Mine:
		return 2
	case r.Reviewable:
		return 1
	default:
		return 0
	}
}

// orderedLocked returns what is followed, always in the same order.
func (b *Board) orderedLocked() []*followed {
	return slices.SortedFunc(maps.Values(b.followed), func(a, c *followed) int {
		return cmp.Or(cmp.Compare(a.session.Key.Home, c.session.Key.Home), cmp.Compare(a.session.Key.Name, c.session.Key.Name))
	})
}

// drawLocked draws the requests of a session, in no order.
func (b *Board) drawLocked(f *followed, now time.Time) iter.Seq[state.Request] {
	return func(yield func(state.Request) bool) {
		for _, req := range f.list() {
			r := Draw(req, f.session.Who, now)
			r.Tunnels = append(r.Tunnels, b.tunnels[req.GetName()]...)
			if !yield(r) {
				return
			}
		}
	}
}

// update tells what has happened since the last time.
func (b *Board) update(now time.Time, changed bool) {
	events := b.news(now)
	if b.onEvent != nil {
		for _, ev := range events {
			b.onEvent(ev)
		}
	}
	if (changed || len(events) > 0) && b.onChange != nil {
		b.onChange()
	}
}

// news compares what each session lists with what it listed the last time.
func (b *Board) news(now time.Time) (events []state.RequestEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.orderedLocked() {
		listed := f.listed() // asked ahead of drawing: a list that comes in between is the next time's
		how := f.compare(listed)
		if how == nothingHeard {
			continue
		}
		var next []state.Request
		if how != nothingKnown {
			next = slices.SortedFunc(b.drawLocked(f, now), newest)
		}
		events = append(events, diff(f.last, next, f.lastAt, now, how == firstList)...)
		f.last, f.lastAt = next, now
		if listed {
			f.quiet, f.away = false, false
		}
	}
	return events
}

// comparison is how the requests of a session are compared with those of the
// last time.
type comparison int

const (
	usual        comparison = iota // what differs is news
	nothingHeard                   // not now: what has happened is an event once the session lists
	nothingKnown                   // not at all: there is no list yet
	firstList                      // its content was there before berth looked, and is no news
)

// compare returns how the session's requests are compared, when it has or has
// not listed yet:
//
//	             quiet         away          quiet, away   neither
//	listed       firstList     usual         firstList     usual
//	not listed   nothingKnown  nothingHeard  nothingHeard  usual
func (f *followed) compare(listed bool) comparison {
	switch {
	case listed && f.quiet:
		return firstList
	case !listed && f.away:
		return nothingHeard
	case !listed && f.quiet:
		return nothingKnown
	default:
		return usual
	}
}
