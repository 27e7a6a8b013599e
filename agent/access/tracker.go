package access

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/internal/survive"
	"berth/internal/wake"
)

const (
	// pollBusy and pollQuiet are how often everything is listed: others'
	// requests cannot be watched. Busy is while one is undecided.
	pollBusy  = 15 * time.Second
	pollQuiet = 30 * time.Second
	// pollSoon is when to list again after something that cannot be right.
	pollSoon = 500 * time.Millisecond
	// pollTSH is pollQuiet where each list is a process of tsh's.
	pollTSH = time.Minute
	// watchRetry and watchRetryMax bound the pause before a watch that broke
	// is begun again.
	watchRetry    = 200 * time.Millisecond
	watchRetryMax = 15 * time.Second
	// watchRefused is the pause after a watch that the cluster refuses: roles
	// change, but not by the minute.
	watchRefused = 10 * time.Minute
)

// source is where the requests of one session come from: its connection to
// the cluster, or [TSH].
type source interface {
	// Requests lists all that the user may see.
	Requests(ctx context.Context) ([]*types.AccessRequestV3, error)
	// WatchRequests reports changes to the user's own, see cluster.WatchRequests. A
	// source that cannot returns an error that matches errNoWatch.
	WatchRequests(ctx context.Context, handle func(cluster.RequestEvent)) error
}

// errNoWatch says that a source can only list.
var errNoWatch = errors.New("access requests cannot be watched here")

// tracker follows the access requests of one session. It is handed a source
// and knows nothing of where that gets them.
type tracker struct {
	source   source
	onChange func()
	log      *slog.Logger
	relist   wake.Signal // list now

	mu      sync.Mutex
	entries map[string]entry
	gone    map[string]int // deleted since the last list, and when by seq
	seq     int            // counts events and lists
	doubt   bool           // the last list is asked for because of something odd
	begun   int            // lists that have begun so far, which numbers them from 1
	wanted  int            // the newest list that a Refresh has asked for
	tried   int            // the last list that has ended
	listed  int            // the last list that has ended well; 0: there is none
	noWatch bool           // the source can only list
	failed  bool           // the last list did, and the log says so
}

// entry is a request and when it was last heard of.
type entry struct {
	req *types.AccessRequestV3
	seq int
}

// newTracker returns a tracker; Run starts it. onChange is called, from any
// goroutine, when List may return something else.
func newTracker(source source, log *slog.Logger, onChange func()) *tracker {
	return &tracker{
		source: source, onChange: onChange, log: log, relist: wake.NewSignal(),
		entries: make(map[string]entry), gone: make(map[string]int),
	}
}

// List returns the requests as last heard, in no order, and whether they have
// been listed at all. What it returns is not to be changed.
func (t *tracker) List() (list []*types.AccessRequestV3, listed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list = make([]*types.AccessRequestV3, 0, len(t.entries))
	for _, e := range t.entries {
		list = append(list, e.req)
	}
	return list, t.listed > 0
}

// Refresh lists now: the caller knows that something has changed. It returns the number
// of that list.
func (t *tracker) Refresh() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refreshLocked()
}

func (t *tracker) refreshLocked() int {
	t.wanted = t.begun + 1
	t.relist.Wake()
	return t.wanted
}

// asked reports of the list of a number, or a later one, whether one has ended well, and
// whether one has ended at all.
func (t *tracker) asked(list int) (listed, tried bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.listed >= list, t.tried >= list
}

// Run follows the requests until ctx ends.
func (t *tracker) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { t.watch(ctx) })
	t.poll(ctx)
	wg.Wait()
}

// watch keeps a watch going.
func (t *tracker) watch(ctx context.Context) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: watchRetry, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: watchRetryMax,
	}
	pause.Reset()
	for {
		ready := false
		err := survive.Do(t.log, "watch access requests", func() error {
			return t.source.WatchRequests(ctx, func(ev cluster.RequestEvent) {
				ready = ready || ev.Ready
				t.take(ev)
			})
		})
		if ctx.Err() != nil {
			return
		}
		if _, bug := errors.AsType[*survive.Error](err); ready && !bug { // a bug would be met again at once
			pause.Reset()
		}
		if errors.Is(err, errNoWatch) {
			t.mu.Lock()
			t.noWatch = true
			t.mu.Unlock()
			return
		}
		wait := pause.NextBackOff()
		if _, refused := errors.AsType[*cluster.AccessDeniedError](err); refused {
			wait = watchRefused
		}
		t.log.Debug("watch of access requests ended", "err", err, "again_in", wait)
		if !wake.Sleep(ctx, wait) {
			return
		}
	}
}

// take adopts what the watch saw.
func (t *tracker) take(ev cluster.RequestEvent) {
	if ev.Ready {
		t.Refresh() // what happened before is found by listing
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	if ev.Deleted != "" {
		if _, ok := t.entries[ev.Deleted]; !ok {
			return // another user's: deletions are not filtered
		}
		delete(t.entries, ev.Deleted)
		t.gone[ev.Deleted] = t.seq
		t.changedLocked()
		return
	}
	id := ev.Request.GetName()
	_, deleted := t.gone[id]
	if old, known := t.entries[id]; deleted || known && backward(old.req, ev.Request) {
		// An event from before what is known: out of order. Ask.
		t.doubt = true
		t.refreshLocked()
		return
	}
	t.entries[id] = entry{req: ev.Request, seq: t.seq}
	t.changedLocked()
}

// changedLocked tells the owner, who must neither wait nor call back.
func (t *tracker) changedLocked() {
	if t.onChange != nil {
		t.onChange()
	}
}

// backward reports whether a request cannot have become next after old:
// decisions are final, but for a denial after an approval, and reviews stay.
func backward(old, next *types.AccessRequestV3) bool {
	was, is := old.GetState(), next.GetState()
	return !was.IsPending() && is.IsPending() || was.IsDenied() && !is.IsDenied() ||
		len(next.GetReviews()) < len(old.GetReviews())
}

// poll lists at intervals, and whenever asked.
func (t *tracker) poll(ctx context.Context) {
	for {
		again := t.list(ctx)
		if again <= 0 {
			again = t.interval()
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-t.relist:
			timer.Stop()
			t.mu.Lock()
			doubt := t.doubt
			t.mu.Unlock()
			if doubt && !wake.Sleep(ctx, pollSoon) { // several odd events come together
				return
			}
		case <-timer.C:
		}
	}
}

// interval is the pause until the next list, with some jitter, so that many
// agents do not ask at the same moment.
func (t *tracker) interval() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	every := pollQuiet
	if t.noWatch {
		every = pollTSH
	}
	for _, e := range t.entries {
		if e.req.GetState().IsPending() {
			every = pollBusy
			break
		}
	}
	return every - time.Duration(rand.Int64N(int64(every/10)))
}

// list asks for everything and adopts it. It returns when to ask again if that
// is to be soon.
func (t *tracker) list(ctx context.Context) time.Duration {
	t.mu.Lock()
	mark, sure := t.seq, t.doubt
	t.doubt = false
	t.begun++
	t.mu.Unlock()
	var list []*types.AccessRequestV3
	err := survive.Do(t.log, "list access requests", func() (err error) {
		list, err = t.source.Requests(ctx)
		return err
	})
	if ctx.Err() != nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tried < t.wanted {
		t.changedLocked() // it may be waited for
	}
	t.tried = t.begun
	if err != nil {
		if !t.failed {
			t.log.Info("access requests cannot be listed", "err", err)
			t.changedLocked()
		}
		t.failed = true
		return 0
	}
	return t.adoptLocked(list, mark, sure)
}

// adoptLocked makes a list the truth, but for what an event said since the
// list was asked for. A list older than what is known is not believed unless
// it is the second to say so.
func (t *tracker) adoptLocked(list []*types.AccessRequestV3, mark int, sure bool) time.Duration {
	again := time.Duration(0)
	t.seq++
	next := make(map[string]entry, len(list))
	for _, req := range list {
		id := req.GetName()
		if t.gone[id] > mark { // deleted while the list was on its way
			again = pollSoon
			continue
		}
		switch old, known := t.entries[id]; {
		case known && old.seq > mark:
			next[id] = old
		case known && !sure && backward(old.req, req):
			next[id] = old
			t.doubt, again = true, pollSoon
		case known && old.req.GetRevision() != "" && old.req.GetRevision() == req.GetRevision():
			next[id] = old // unchanged: no event
		default:
			next[id] = entry{req: req, seq: t.seq}
		}
	}
	changed := t.listed == 0 || len(next) != len(t.entries)
	for id, old := range t.entries {
		if _, ok := next[id]; !ok && old.seq > mark {
			next[id] = old // it came while the list was on its way
		}
		if next[id].req != old.req {
			changed = true
		}
	}
	maps.DeleteFunc(t.gone, func(_ string, seq int) bool { return seq <= mark })
	t.entries, t.listed, t.failed = next, t.begun, false
	if changed {
		t.changedLocked()
	}
	return again
}
