package access

import (
	"slices"

	"berth/agent/state"
)

// AutoAssume is a rule of the config: an approved request whose roles are all
// among Roles is assumed unasked.
type AutoAssume struct {
	Roles  []string
	Tunnel string // only this tunnel gets the roles; empty means the session
}

// AutoAssumeFor returns the first rule by which a request is to be assumed
// now. No rule covers a request for resources only.
func AutoAssumeFor(rules []AutoAssume, r state.Request) (AutoAssume, bool) {
	if !r.Assumable || r.Assumed || len(r.Roles) == 0 || len(r.Resources) > 0 {
		return AutoAssume{}, false
	}
	for _, rule := range rules {
		outside := func(role string) bool { return !slices.Contains(rule.Roles, role) }
		if !slices.ContainsFunc(r.Roles, outside) && !slices.Contains(r.Tunnels, rule.Tunnel) {
			return rule, true
		}
	}
	return AutoAssume{}, false
}

// Notify says which requests a person wants to hear of.
type Notify string

// What a person may want to hear of.
const (
	notifyMine       Notify = "mine"
	notifyReviewable Notify = "reviewable" // one's own, and those that wait for one's review
	notifyAll        Notify = "all"
)

// WantsRequest reports whether a request may lead to notices at all.
func (n Notify) WantsRequest(r state.Request) bool {
	switch n {
	case notifyAll:
		return true
	case notifyMine:
		return r.Mine
	default:
		return r.Mine || r.Reviewable
	}
}

// Wants reports whether an event leads to a notice; the zero Notify is
// notifyReviewable.
func (n Notify) Wants(ev state.RequestEvent) bool {
	switch n {
	case notifyAll:
		return true
	case notifyMine:
		return ev.Request.Mine
	default:
		return ev.Request.Mine || ev.Kind == state.RequestEventReviewAsked
	}
}
