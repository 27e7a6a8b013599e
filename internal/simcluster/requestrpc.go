package simcluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"google.golang.org/protobuf/types/known/emptypb"
)

// requester returns the caller, whom the root cluster must know: requests
// live there alone.
func (a *authService) requester(ctx context.Context) (caller, error) {
	who, err := a.caller(ctx)
	if err == nil && a.site.root != nil {
		err = errNoVerb("read")
	}
	return who, err
}

// CreateAccessRequestV2 adds a request of the caller's, under an id of the
// server's choice.
func (a *authService) CreateAccessRequestV2(ctx context.Context, req *types.AccessRequestV3) (*types.AccessRequestV3, error) {
	who, err := a.requester(ctx)
	if err != nil {
		return nil, err
	}
	own := req.GetUser() == who.identity.User && (req.GetState().IsPending() || req.GetState().IsNone())
	if !own && !a.c.hasVerbs(who.identity.Roles, "create") {
		return nil, errNoVerb("create")
	}
	req = cloneRequest(req)
	req.SetName(uuid.NewString())
	req.SetCreationTime(a.c.now())
	if err := req.CheckAndSetDefaults(); err != nil {
		return nil, err
	}
	if err := a.c.prepareRequest(req, a.c.faults.sessionEnd(who.cert)); err != nil {
		return nil, err
	}
	if req.GetDryRun() {
		return req, nil
	}
	a.c.PutAccessRequestV3(req)
	stored, _ := a.c.AccessRequest(req.GetName())
	return stored, nil
}

// visibleRequests returns the requests that the caller sees: their own, those
// they may review, and all if a role's rule allows it.
func (a *authService) visibleRequests(who caller, filter types.AccessRequestFilter) []*types.AccessRequestV3 {
	user := who.identity.User
	filter.Requester = user
	all := a.c.hasVerbs(who.identity.Roles, "list", "read")
	return a.c.requests.list(func(r *types.AccessRequestV3) bool {
		return (all || r.GetUser() == user || a.c.mayReview(user, r)) && filter.Match(r)
	})
}

// GetAccessRequestsV2 streams the requests the caller may see.
func (a *authService) GetAccessRequestsV2(filter *types.AccessRequestFilter, stream proto.AuthService_GetAccessRequestsV2Server) error {
	who, err := a.requester(stream.Context())
	if err != nil {
		return err
	}
	for _, req := range a.visibleRequests(who, *filter) {
		if err := stream.Send(req); err != nil {
			return trace.Wrap(err)
		}
	}
	return nil
}

// ListAccessRequests returns the same a page at a time; v16 servers do not
// know it.
func (a *authService) ListAccessRequests(ctx context.Context, req *proto.ListAccessRequestsRequest) (*proto.ListAccessRequestsResponse, error) {
	if strings.HasPrefix(a.c.cfg.Version, "16.") {
		return nil, trace.NotImplemented("unknown method ListAccessRequests for service proto.AuthService")
	}
	who, err := a.requester(ctx)
	if err != nil {
		return nil, err
	}
	var filter types.AccessRequestFilter
	if req.Filter != nil {
		filter = *req.Filter
	}
	all := a.visibleRequests(who, filter)
	start := 0
	if req.StartKey != "" {
		if _, err := fmt.Sscanf(req.StartKey, "at-%d", &start); err != nil {
			return nil, trace.BadParameter("invalid start key %q", req.StartKey)
		}
	}
	all = all[min(start, len(all)):]
	limit := int(req.Limit)
	if limit <= 0 || limit > maxRequestPage {
		limit = maxRequestPage
	}
	resp := &proto.ListAccessRequestsResponse{AccessRequests: all}
	if len(all) > limit {
		resp.AccessRequests, resp.NextKey = all[:limit], fmt.Sprintf("at-%d", start+limit)
	}
	return resp, nil
}

// maxRequestPage is the most requests in one answer.
const maxRequestPage = 100

// GetAccessCapabilities tells what the caller may ask for.
func (a *authService) GetAccessCapabilities(ctx context.Context, req *types.AccessCapabilitiesRequest) (*types.AccessCapabilities, error) {
	who, err := a.requester(ctx)
	if err != nil {
		return nil, err
	}
	user := who.identity.User
	if req.User != "" && req.User != user {
		return nil, trace.AccessDenied("access denied to perform action \"read\" on \"user\"")
	}
	caps := new(types.AccessCapabilities)
	if len(req.ResourceIDs) > 0 {
		if caps.ApplicableRolesForResources = a.c.searchAsRoles(user); len(caps.ApplicableRolesForResources) == 0 {
			return nil, trace.AccessDenied("Resource Access Requests require usable \"search_as_roles\", none found for user %q", user)
		}
	}
	if req.RequestableRoles {
		caps.RequestableRoles = a.c.requestableRoles(user)
	}
	for _, r := range a.c.ownRoles(user) {
		if req.SuggestedReviewers {
			for _, name := range r.Request.SuggestedReviewers {
				caps.SuggestedReviewers = appendNew(caps.SuggestedReviewers, name)
			}
		}
		caps.RequireReason = caps.RequireReason || r.Request.RequireReason
		if caps.RequestPrompt == "" {
			caps.RequestPrompt = r.Request.Prompt
		}
	}
	return caps, nil
}

// SubmitAccessReview adds the caller's review to a request.
func (a *authService) SubmitAccessReview(ctx context.Context, sub *types.AccessReviewSubmission) (*types.AccessRequestV3, error) {
	who, err := a.requester(ctx)
	if err != nil {
		return nil, err
	}
	user := who.identity.User
	if sub.Review.ProposedState.IsPromoted() {
		return nil, trace.BadParameter("state promoted can be only set when promoting to access list")
	}
	if sub.Review.Author == "" {
		sub.Review.Author = user
	}
	if sub.Review.Author != user {
		return nil, trace.AccessDenied("user %q cannot submit reviews on behalf of %q", user, sub.Review.Author)
	}
	if !a.c.reviews(user) {
		return nil, trace.AccessDenied("user %q cannot submit reviews", user)
	}
	return a.c.review(*sub)
}

// SetAccessRequestState decides a request, for those with a rule that lets
// them update it.
func (a *authService) SetAccessRequestState(ctx context.Context, req *proto.RequestStateSetter) (*emptypb.Empty, error) {
	who, err := a.requester(ctx)
	if err != nil {
		return nil, err
	}
	if !a.c.hasVerbs(who.identity.Roles, "update") {
		return nil, errNoVerb("update")
	}
	if req.State.IsPromoted() {
		return nil, trace.BadParameter("state promoted can be only set when promoting to access list")
	}
	return new(emptypb.Empty), a.c.requests.setState(types.AccessRequestUpdate{
		RequestID: req.ID, State: req.State, Reason: req.Reason, Annotations: req.Annotations,
		Roles: slices.Clone(req.Roles), AssumeStartTime: req.AssumeStartTime,
	})
}

// DeleteAccessRequest deletes a request; plain users may not delete even their
// own.
func (a *authService) DeleteAccessRequest(ctx context.Context, req *proto.RequestID) (*emptypb.Empty, error) {
	who, err := a.requester(ctx)
	if err != nil {
		return nil, err
	}
	if !a.c.hasVerbs(who.identity.Roles, "delete") {
		return nil, errNoVerb("delete")
	}
	a.c.DeleteAccessRequest(req.ID)
	return new(emptypb.Empty), nil
}
