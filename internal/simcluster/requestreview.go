package simcluster

import (
	"slices"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// review applies a review to a request, which may decide it.
func (c *Cluster) review(sub types.AccessReviewSubmission) (*types.AccessRequestV3, error) {
	if err := sub.Check(); err != nil {
		return nil, err
	}
	author := sub.Review.Author
	return c.requests.update(sub.RequestID, "cannot apply review to access request %q (not found)", func(req *types.AccessRequestV3) error {
		if !c.mayReview(author, req) {
			return trace.AccessDenied("user %q cannot review request %q", author, req.GetName())
		}
		return c.applyReview(req, sub.Review)
	})
}

func (c *Cluster) applyReview(req *types.AccessRequestV3, rev types.AccessReview) error {
	if !rev.ProposedState.IsResolved() {
		return trace.BadParameter("invalid state proposal: %s (expected approval/denial)", rev.ProposedState)
	}
	if slices.ContainsFunc(req.GetReviews(), func(r types.AccessReview) bool { return r.Author == rev.Author }) {
		return trace.AccessDenied("user %q has already reviewed this request", rev.Author)
	}
	switch state := req.GetState(); {
	case state.IsApproved():
		return trace.AccessDenied("the access request has been already approved")
	case state.IsDenied():
		return trace.AccessDenied("the access request has been already denied")
	case state.IsPromoted():
		return trace.AccessDenied("the access request has been already promoted")
	}
	rev.ThresholdIndexes = nil
	for i, t := range req.GetThresholds() {
		if c.reviewCondition(t.Filter, rev.Author, req, rev) {
			rev.ThresholdIndexes = append(rev.ThresholdIndexes, uint32(i))
		}
	}
	if rev.Created.IsZero() {
		rev.Created = c.now().UTC()
	}
	if at := rev.AssumeStartTime; at != nil {
		if at.After(req.GetAccessExpiry()) {
			return trace.BadParameter("request start time is after expiry")
		}
		req.SetAssumeStartTime(*at)
	}
	req.SetReviews(append(slices.Clone(req.GetReviews()), rev))
	return resolveByReviews(req, rev)
}

// resolveByReviews sets the state that a request's reviews, the last of which
// is new, amount to: denied as soon as any threshold has its denials, approved
// when of every rule of every role one threshold has its approvals.
func resolveByReviews(req *types.AccessRequestV3, last types.AccessReview) error {
	state := types.RequestState_PENDING
	switch {
	case last.ProposedState.IsDenied():
		for i, t := range req.GetThresholds() {
			if t.Deny != 0 && proposals(req, i, types.RequestState_DENIED) >= t.Deny {
				state = types.RequestState_DENIED
			}
		}
	case last.ProposedState.IsApproved():
		if rolesApproved(req) {
			state = types.RequestState_APPROVED
		}
	}
	if state.IsPending() {
		return nil
	}
	if err := req.SetState(state); err != nil {
		return err
	}
	req.SetResolveReason(last.Reason)
	req.SetExpiry(req.GetAccessExpiry())
	return nil
}

func rolesApproved(req *types.AccessRequestV3) bool {
	thresholds := req.GetThresholds()
	for _, sets := range req.GetRoleThresholdMapping() {
		for _, set := range sets.Sets {
			if !slices.ContainsFunc(set.Indexes, func(i uint32) bool {
				need := thresholds[i].Approve
				return need != 0 && proposals(req, int(i), types.RequestState_APPROVED) >= need
			}) {
				return false
			}
		}
	}
	return true
}

// proposals counts the reviews for a state that a threshold counts.
func proposals(req *types.AccessRequestV3, threshold int, state types.RequestState) uint32 {
	var n uint32
	for _, rev := range req.GetReviews() {
		if rev.ProposedState == state && slices.Contains(rev.ThresholdIndexes, uint32(threshold)) {
			n++
		}
	}
	return n
}
