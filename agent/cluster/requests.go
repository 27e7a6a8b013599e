package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// Requests lists the access requests that the session's user may see: their
// own, those they may review and, if a role's rule allows it, all.
func (c *Cluster) Requests(ctx context.Context) ([]*types.AccessRequestV3, error) {
	return c.requests(ctx, "list access requests", types.AccessRequestFilter{})
}

// Request returns one access request, or UnknownRequestError.
func (c *Cluster) Request(ctx context.Context, id string) (*types.AccessRequestV3, error) {
	list, err := c.requests(ctx, "look up access request "+id, types.AccessRequestFilter{ID: id})
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if r.GetName() == id {
			return r, nil
		}
	}
	return nil, &UnknownRequestError{ID: id}
}

func (c *Cluster) requests(ctx context.Context, op string, filter types.AccessRequestFilter) ([]*types.AccessRequestV3, error) {
	var list []*types.AccessRequestV3
	err := c.call(ctx, c.root, op, func(ctx context.Context, clt *client.Client) (err error) {
		req := &proto.ListAccessRequestsRequest{Filter: &filter}
		list, err = pages("access requests", func(key string) ([]*types.AccessRequestV3, string, error) {
			req.StartKey = key
			answer, err := clt.ListAccessRequests(ctx, req)
			return answer.GetAccessRequests(), answer.GetNextKey(), err
		})
		if trace.IsNotImplemented(err) { // an older server answers another call, in one piece
			req.StartKey = ""
			list, err = clt.ListAllAccessRequests(ctx, req)
		}
		return err
	})
	return list, err
}

// RequestAbilities lists what the session's user may request.
type RequestAbilities struct {
	Roles         []string // that may be asked for and are not held
	ResourceRoles []string // that a request for the resources would use
	Reviewers     []string // suggested by the roles
	RequireReason bool
	Prompt        string // how the cluster asks for a reason; empty means it does not say
}

// RequestAbilities asks what the user may ask for; resources, in the form
// "/CLUSTER/KIND/NAME", may be none.
func (c *Cluster) RequestAbilities(ctx context.Context, resources []string) (RequestAbilities, error) {
	ids, err := resourceIDs(resources)
	if err != nil {
		return RequestAbilities{}, err
	}
	var caps *types.AccessCapabilities
	err = c.call(ctx, c.root, "ask which roles may be requested", func(ctx context.Context, clt *client.Client) (err error) {
		caps, err = clt.GetAccessCapabilities(ctx, types.AccessCapabilitiesRequest{
			RequestableRoles: true, SuggestedReviewers: true, ResourceIDs: ids,
		})
		return err
	})
	if err != nil {
		return RequestAbilities{}, err
	}
	return RequestAbilities{
		Roles:         caps.RequestableRoles,
		ResourceRoles: caps.ApplicableRolesForResources,
		Reviewers:     caps.SuggestedReviewers,
		RequireReason: caps.RequireReason,
		Prompt:        caps.RequestPrompt,
	}, nil
}

// NewRequest is an access request to be made.
type NewRequest struct {
	Roles     []string
	Resources []string // as "/CLUSTER/KIND/NAME"
	Reason    string
	Reviewers []string      // nil means those the roles suggest
	For       time.Duration // how long the access is to last; zero means until the session ends
	Start     time.Time     // before which the roles cannot be used; zero means at once
	DryRun    bool          // have the server check and fill in everything, and keep nothing
}

// CreateRequest makes an access request and returns it as the server keeps it:
// its id is the server's.
func (c *Cluster) CreateRequest(ctx context.Context, n NewRequest) (*types.AccessRequestV3, error) {
	ids, err := resourceIDs(n.Resources)
	if err != nil {
		return nil, err
	}
	req, err := types.NewAccessRequestWithResources(uuid.NewString(), c.session.Identity.User, n.Roles, ids)
	if err != nil {
		return nil, fmt.Errorf("create access request: %w", plain(err))
	}
	req.SetRequestReason(n.Reason)
	req.SetSuggestedReviewers(n.Reviewers)
	req.SetDryRun(n.DryRun)
	if n.For > 0 {
		// The server counts from its own clock at creation; a second is less
		// than anybody asks for.
		req.SetMaxDuration(time.Now().UTC().Add(n.For))
	}
	if !n.Start.IsZero() {
		req.SetAssumeStartTime(n.Start.UTC())
	}
	var made types.AccessRequest
	err = c.callOnce(ctx, c.root, "create access request", func(ctx context.Context, clt *client.Client) (err error) {
		made, err = clt.CreateAccessRequestV2(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	v3, ok := made.(*types.AccessRequestV3)
	if !ok {
		return nil, fmt.Errorf("create access request: unexpected answer %T", made)
	}
	return v3, nil
}

// BadResourceError is about a text that is no id of a resource.
type BadResourceError struct{ Resource string }

func (e *BadResourceError) Error() string {
	return fmt.Sprintf("%q does not say which resource of which cluster", e.Resource)
}

func resourceIDs(resources []string) ([]types.ResourceID, error) {
	ids := make([]types.ResourceID, 0, len(resources))
	for _, r := range resources {
		id, err := types.ResourceIDFromString(r)
		if err != nil {
			return nil, &BadResourceError{Resource: r}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Decision is a review of a request.
type Decision struct {
	Approve bool
	Reason  string
}

func (d Decision) state() types.RequestState {
	if d.Approve {
		return types.RequestState_APPROVED
	}
	return types.RequestState_DENIED
}

// Decide reviews an access request; where the user may not submit reviews but
// may set the state of requests, it does that. Where the user may do neither
// it returns CannotReviewError.
func (c *Cluster) Decide(ctx context.Context, id string, d Decision) error {
	user := c.session.Identity.User
	reviewErr := c.callOnce(ctx, c.root, "review access request "+id, func(ctx context.Context, clt *client.Client) error {
		_, err := clt.SubmitAccessReview(ctx, types.AccessReviewSubmission{
			RequestID: id,
			Review:    types.AccessReview{Author: user, ProposedState: d.state(), Reason: d.Reason, Created: time.Now().UTC()},
		})
		return err
	})
	if reviewErr == nil {
		return nil
	}
	if !isUnimplemented(reviewErr) && !strings.Contains(reviewErr.Error(), "cannot submit reviews") {
		return requestError(id, reviewErr)
	}
	err := c.callOnce(ctx, c.root, "set the state of access request "+id, func(ctx context.Context, clt *client.Client) error {
		return clt.SetAccessRequestState(ctx, types.AccessRequestUpdate{RequestID: id, State: d.state(), Reason: d.Reason})
	})
	if _, ok := errors.AsType[*AccessDeniedError](err); ok && strings.Contains(err.Error(), `"update"`) {
		return &CannotReviewError{User: user, ID: id, Err: errors.Join(reviewErr, err)}
	}
	return requestError(id, err)
}
