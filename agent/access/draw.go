package access

import (
	"slices"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
)

// Who is the session that a request is drawn for.
type Who struct {
	Profile  string   // host:port of the proxy
	Cluster  string   // the root cluster
	User     string   // the Teleport user
	Active   []string // the requests whose roles the session has
	NoReview bool     // the server said that the user may not review
}

// Draw returns a request as the snapshot has it, at now.
func Draw(req *types.AccessRequestV3, who Who, now time.Time) state.Request {
	p := progressOf(req)
	r := state.Request{
		ID: CleanName(req.GetName()), Profile: who.Profile, Cluster: who.Cluster, User: CleanName(req.GetUser()),
		Roles: cleanNames(req.GetRoles()), Resources: []string{},
		Reason: Clean(req.GetRequestReason(), maxReason), ResolveReason: Clean(req.GetResolveReason(), maxReason),
		State: stateOf(req.GetState()), CreatedAt: req.GetCreationTime().UTC(), ExpiresAt: req.Expiry().UTC(),
		AccessUntil: instant(req.GetAccessExpiry()), SessionUntil: instant(req.GetSessionTLL()),
		PromotedTo: CleanName(req.GetPromotedAccessListTitle()),
		Approvals:  p.Approvals, ApprovalsNeeded: p.Needed,
		Reviews: []state.Review{}, SuggestedReviewers: cleanNames(req.GetSuggestedReviewers()), Tunnels: []string{},
		Mine: req.GetUser() == who.User,
	}
	if at := req.GetAssumeStartTime(); at != nil {
		r.AssumeFrom = instant(*at)
	}
	if r.ExpiresAt.IsZero() {
		r.ExpiresAt = req.GetAccessExpiry().UTC()
	}
	for _, id := range req.GetRequestedResourceIDs() {
		r.Resources = append(r.Resources, CleanName(types.ResourceIDToString(id)))
	}
	reviewed := false
	for _, rev := range req.GetReviews() {
		reviewed = reviewed || rev.Author == who.User
		r.Reviews = append(r.Reviews, state.Review{
			Author: CleanName(rev.Author), State: stateOf(rev.ProposedState),
			Reason: Clean(rev.Reason, maxReason), At: rev.Created.UTC(),
		})
	}
	if over := !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt); over && (r.State == state.RequestPending || r.State == state.RequestApproved) {
		r.State = state.RequestExpired // by the server's own time; it deletes it within the minute
	}
	if r.State == state.RequestPending {
		r.Progress = p.String()
	}
	r.Reviewable = !r.Mine && r.State == state.RequestPending && !reviewed && !who.NoReview
	r.Assumed = r.Mine && slices.Contains(who.Active, req.GetName())
	r.Assumable = AssumableAt(r, now) && !r.Assumed
	return r
}

// AssumableAt reports whether the roles of a request could be taken at now:
// it is one's own, the server says approved, and it is within its time.
func AssumableAt(r state.Request, now time.Time) bool {
	return r.Mine && r.State == state.RequestApproved &&
		(r.AssumeFrom == nil || !now.Before(*r.AssumeFrom)) &&
		(r.AccessUntil == nil || now.Before(*r.AccessUntil))
}

func stateOf(s types.RequestState) state.RequestState {
	switch s {
	case types.RequestState_APPROVED:
		return state.RequestApproved
	case types.RequestState_DENIED:
		return state.RequestDenied
	case types.RequestState_PROMOTED:
		return state.RequestPromoted
	default:
		return state.RequestPending
	}
}

func instant(t time.Time) *time.Time {
	if t.IsZero() || t.Unix() <= 0 { // an absent time comes over the wire as the epoch
		return nil
	}
	t = t.UTC()
	return &t
}
