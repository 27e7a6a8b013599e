package notices

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/when"
)

// ofRequest returns the notices of an access request: the user's own that was
// decided, another user's that waits for a review, and assumed roles that end.
func ofRequest(r *state.Request, s *state.Snapshot, in Input) []candidate {
	id := func(what string) string { return "request/" + r.ID + "/" + what }
	details := state.NoticeAction{Verb: state.VerbDetails, Label: "Details", Request: r.ID, Proxy: r.Profile}
	what := wanted(r)
	taken := candidate{done: true, Notice: state.Notice{ID: id("approved")}} // once dropped, its roles are no news
	switch {
	case r.Assumed && endsSoon(r, s, in.Now):
		until := accessEnd(r)
		return []candidate{taken, {Notice: state.Notice{
			ID: id("ending"), Kind: state.NoticeAssumedEnding, Urgency: state.UrgencyNormal,
			Title: fmt.Sprintf("%s ends at %s", what, when.Clock(until, in.Now)), Body: "New connections lose these roles then.",
			Actions: []state.NoticeAction{details, {Verb: state.VerbDrop, Label: "Drop now", Request: r.ID, Proxy: r.Profile}},
		}}}
	case r.Mine && r.State == state.RequestApproved && r.Assumable && !r.Assumed && len(r.Tunnels) == 0:
		return []candidate{{onlyFresh: true, of: r, Notice: state.Notice{
			ID: id("approved"), Kind: state.NoticeApproved, Urgency: state.UrgencyCritical,
			Title: "Approved: " + what + untilWords(r, in.Now), Body: said(r, "Your access request was approved."),
			Actions: []state.NoticeAction{{Verb: state.VerbAssume, Label: "Assume", Request: r.ID, Proxy: r.Profile}, details},
		}}}
	case r.Mine && r.State == state.RequestDenied && in.Now.Sub(decided(r)) < deniedFor:
		return []candidate{{onlyFresh: true, of: r, Notice: state.Notice{
			ID: id("denied"), Kind: state.NoticeDenied, Urgency: state.UrgencyNormal,
			Title: "Denied: " + what, Body: said(r, "Your access request was denied."), Actions: []state.NoticeAction{details},
		}}}
	case !r.Mine && r.Reviewable && r.State == state.RequestPending:
		return []candidate{{Notice: state.Notice{
			ID: id("review"), Kind: state.NoticeReview, Urgency: state.UrgencyNormal,
			Title: fmt.Sprintf("%s asks for %s", r.User, what), Body: reviewBody(r),
			Actions: []state.NoticeAction{
				{Verb: state.VerbApprove, Label: "Approve", Request: r.ID, Proxy: r.Profile, Confirm: in.Sensitive != nil && in.Sensitive(*r)},
				{Verb: state.VerbDeny, Label: "Deny", Request: r.ID, Proxy: r.Profile, Confirm: true},
			},
		}}}
	case r.Assumed, len(r.Tunnels) > 0:
		return []candidate{taken}
	}
	return nil
}

// wanted names what a request is for, briefly.
func wanted(r *state.Request) string {
	list := r.Roles
	if len(list) == 0 {
		list = r.Resources
	}
	switch len(list) {
	case 0:
		return "access"
	case 1, 2, 3:
		return strings.Join(list, ", ")
	default:
		return fmt.Sprintf("%s and %d more", strings.Join(list[:2], ", "), len(list)-2)
	}
}

func reviewBody(r *state.Request) string {
	body := "No reason was given."
	if r.Reason != "" {
		body = "“" + r.Reason + "”"
	}
	if r.Progress != "" {
		body += "\n" + r.Progress
	}
	return body
}

// said returns the reviewer's own words, else plain.
func said(r *state.Request, plain string) string {
	if r.ResolveReason != "" {
		return "“" + r.ResolveReason + "”"
	}
	for _, v := range slices.Backward(r.Reviews) {
		if v.Reason != "" {
			return fmt.Sprintf("%s: “%s”", v.Author, v.Reason)
		}
	}
	return plain
}

func untilWords(r *state.Request, now time.Time) string {
	if end := accessEnd(r); !end.IsZero() {
		return " until " + when.Clock(end, now)
	}
	return ""
}

// accessEnd is when the access that a request gives is over.
func accessEnd(r *state.Request) time.Time {
	if r.AccessUntil != nil {
		return *r.AccessUntil
	}
	return r.ExpiresAt
}

// endsSoon reports whether assumed access is near its own end. When the whole
// session ends by then, its own notice says so.
func endsSoon(r *state.Request, s *state.Snapshot, now time.Time) bool {
	end := accessEnd(r)
	for i := range s.Profiles {
		if p := &s.Profiles[i]; p.Proxy == r.Profile && p.ValidUntil != nil && !p.ValidUntil.After(end) {
			return false
		}
	}
	left := end.Sub(now)
	return !end.IsZero() && left > 0 && left < state.RequestEndsSoon
}

// decided is when the last review came, else the request's making.
func decided(r *state.Request) time.Time {
	at := r.CreatedAt
	for _, v := range r.Reviews {
		if v.At.After(at) {
			at = v.At
		}
	}
	return at
}
