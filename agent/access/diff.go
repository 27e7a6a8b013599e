package access

import (
	"time"

	"berth/agent/state"
)

// diff returns what happened between two lists of a session's requests, as they
// were drawn at before and at now. What is in both and did not change makes no
// event; quiet says that neither does what appeared.
func diff(prev, next []state.Request, before, now time.Time, quiet bool) []state.RequestEvent {
	was := make(map[string]state.Request, len(prev))
	for _, r := range prev {
		was[r.ID] = r
	}
	var events []state.RequestEvent
	tell := func(kind state.RequestEventKind, r state.Request) {
		events = append(events, state.RequestEvent{Kind: kind, At: now.UTC(), Request: r})
	}
	for _, r := range next {
		old, known := was[r.ID]
		delete(was, r.ID)
		switch {
		case known:
			changed(old, r, before, now, tell)
		case !quiet:
			appeared(r, tell)
		}
	}
	for _, r := range prev { // in order
		if _, gone := was[r.ID]; gone {
			vanished(r, now, tell)
		}
	}
	return events
}

// decided are the events of a request's final states.
func decided(s state.RequestState) (state.RequestEventKind, bool) {
	switch s {
	case state.RequestApproved:
		return state.RequestEventApproved, true
	case state.RequestDenied:
		return state.RequestEventDenied, true
	case state.RequestPromoted:
		return state.RequestEventPromoted, true
	case state.RequestExpired:
		return state.RequestEventExpired, true
	default:
		return "", false
	}
}

// appeared reports a request that was not there before; it may have been
// decided already.
func appeared(r state.Request, tell func(state.RequestEventKind, state.Request)) {
	switch {
	case r.Mine:
		tell(state.RequestEventCreated, r)
		if kind, ok := decided(r.State); ok {
			tell(kind, r)
		}
	case r.Reviewable:
		tell(state.RequestEventReviewAsked, r)
	}
}

func changed(old, r state.Request, before, now time.Time, tell func(state.RequestEventKind, state.Request)) {
	kind, isDecided := decided(r.State)
	switch {
	case old.State != r.State && isDecided:
		tell(kind, r)
	case len(r.Reviews) > len(old.Reviews):
		tell(state.RequestEventReviewed, r)
	case r.Reviewable && !old.Reviewable:
		tell(state.RequestEventReviewAsked, r)
	}
	if old.State == r.State && !AssumableAt(old, before) && AssumableAt(r, now) {
		tell(state.RequestEventAssumable, r)
	}
	switch {
	case r.Assumed && !old.Assumed:
		tell(state.RequestEventAssumed, r)
	case old.Assumed && !r.Assumed && r.State == state.RequestApproved:
		tell(state.RequestEventDropped, r)
	}
	if endsSoon(r, now) && !(endsSoon(old, before)) {
		tell(state.RequestEventEndsSoon, r)
	}
}

func vanished(r state.Request, now time.Time, tell func(state.RequestEventKind, state.Request)) {
	if !r.Mine && !r.Assumed {
		return // this user does not wait for it
	}
	switch {
	case r.State == state.RequestExpired, r.State == state.RequestDenied, r.State == state.RequestPromoted:
		return // reported when its state changed
	case !now.Before(r.ExpiresAt):
		r.State = state.RequestExpired
		r.Assumable, r.Reviewable = false, false
		tell(state.RequestEventExpired, r)
	default:
		r.Assumable, r.Reviewable = false, false
		tell(state.RequestEventDeleted, r)
	}
}

// endsSoon reports whether assumed access is about to end.
func endsSoon(r state.Request, at time.Time) bool {
	if !r.Assumed && len(r.Tunnels) == 0 || r.AccessUntil == nil {
		return false
	}
	left := r.AccessUntil.Sub(at)
	return left > 0 && left <= state.RequestEndsSoon
}
