package simcluster

import (
	"errors"
	"slices"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// sweepInterval is how often lapsed requests are looked for while there is a
// watch.
const sweepInterval = 50 * time.Millisecond

// watchBuffer is how many events may wait for a watcher before it is cut off
// as too slow.
const watchBuffer = 1024

// errWatchEnded is what a watcher sees when its stream is cut.
var errWatchEnded = trace.ConnectionProblem(errors.New("EOF"), "EOF")

// requestWatcher is one watch of access requests.
type requestWatcher struct {
	kind   types.WatchKind
	events chan types.Event // closed when the watch is cut
}

// watchFaults is how event streams misbehave.
type watchFaults struct {
	lose, duplicate, hold bool
	held                  []types.Event
}

// tellLocked hands an event to the watchers, as far as the faults let it.
func (s *requestStore) tellLocked(ev types.Event) {
	f := &s.faults
	switch {
	case f.lose:
		return
	case f.hold:
		f.held = append(f.held, ev)
		return
	}
	s.sendLocked(ev)
	if f.duplicate {
		s.sendLocked(ev)
	}
}

func (s *requestStore) sendLocked(ev types.Event) {
	for w := range s.watchers {
		if ok, err := w.kind.Matches(ev); err != nil || !ok {
			continue
		}
		select {
		case w.events <- ev:
		default: // too slow: it has to start over
			s.cutLocked(w)
		}
	}
}

func (s *requestStore) cutLocked(w *requestWatcher) {
	if _, ok := s.watchers[w]; ok {
		delete(s.watchers, w)
		close(w.events)
	}
}

// WatchEvents streams the changes of access requests; other kinds there are
// none to see of.
func (a *authService) WatchEvents(watch *proto.Watch, stream proto.AuthService_WatchEventsServer) error {
	who, err := a.caller(stream.Context())
	if err != nil {
		return err
	}
	kind, err := a.watchKind(who, watch)
	if err != nil {
		return err
	}
	s := a.c.requests
	w := &requestWatcher{kind: kind, events: make(chan types.Event, watchBuffer)}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cutLocked(w)
	}()
	init, err := client.EventToGRPC(types.Event{Type: types.OpInit, Resource: types.NewWatchStatus(watch.Kinds)})
	if err != nil {
		return trace.Wrap(err)
	}
	if err := stream.Send(init); err != nil {
		return trace.Wrap(err)
	}
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-a.c.ctx.Done():
			return errWatchEnded
		case <-tick.C:
			s.mu.Lock()
			s.sweepLocked()
			s.mu.Unlock()
		case ev, ok := <-w.events:
			if !ok {
				return errWatchEnded
			}
			out, err := client.EventToGRPC(ev)
			if err != nil {
				return trace.Wrap(err)
			}
			if err := stream.Send(out); err != nil {
				return trace.Wrap(err)
			}
		}
	}
}

// watchKind returns what to watch. Users watch only their own requests, unless a
// rule lets them read all.
func (a *authService) watchKind(who caller, watch *proto.Watch) (types.WatchKind, error) {
	if len(watch.Kinds) != 1 {
		return types.WatchKind{}, trace.BadParameter("exactly one kind can be watched here")
	}
	kind := watch.Kinds[0]
	if kind.Kind != types.KindAccessRequest || a.site.root != nil {
		return kind, trace.AccessDenied("access denied to perform action \"read\" on %q", kind.Kind)
	}
	var filter types.AccessRequestFilter
	if err := filter.FromMap(kind.Filter); err != nil {
		return kind, err
	}
	if filter.User != who.identity.User && !a.c.hasVerbs(who.identity.Roles, "read") {
		return kind, errNoVerb("read")
	}
	return kind, nil
}

// CutWatches ends all event streams, as a restart of the proxy does, and
// returns how many there were.
func (f *Faults) CutWatches() int {
	s := f.c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.watchers)
	for w := range s.watchers {
		s.cutLocked(w)
	}
	return n
}

// LoseEvents makes watchers miss what happens, until it is called with false.
func (f *Faults) LoseEvents(on bool) { f.watches(func(w *watchFaults) { w.lose = on }) }

// DuplicateEvents sends every event twice.
func (f *Faults) DuplicateEvents(on bool) { f.watches(func(w *watchFaults) { w.duplicate = on }) }

// HoldEvents keeps events back until ReleaseEvents.
func (f *Faults) HoldEvents() { f.watches(func(w *watchFaults) { w.hold = true }) }

// ReleaseEvents delivers the events held back, the last one first.
func (f *Faults) ReleaseEvents() {
	s := f.c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.faults.held
	s.faults.hold, s.faults.held = false, nil
	for _, ev := range slices.Backward(held) {
		s.tellLocked(ev)
	}
}

func (f *Faults) watches(change func(*watchFaults)) {
	s := f.c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}
