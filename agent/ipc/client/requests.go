package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// The values of access requests.
type (
	// RequestAbilities lists what a user may request.
	RequestAbilities = ipc.RequestAbilities
	// NewRequest is an access request to be made.
	NewRequest = ipc.NewRequest
	// Assume says which request's roles to take, and for what.
	Assume = ipc.Assume
	// Assumed is the result of assuming.
	Assumed = ipc.Assumed
)

// RequestAbilities says what the user may ask for at a profile, empty meaning
// the current one.
func (c *Client) RequestAbilities(ctx context.Context, profile string, resources []string) (RequestAbilities, error) {
	req := &pb.AbilitiesRequest{Profile: profile, Resources: resources}
	resp, err := callRequests(ctx, c, requestTimeout, req, pb.AccessRequestsClient.Abilities)
	if err != nil {
		return RequestAbilities{}, err
	}
	return ipc.FromProto[RequestAbilities](resp), nil
}

// CreateRequest makes an access request.
func (c *Client) CreateRequest(ctx context.Context, n NewRequest) (state.Request, error) {
	resp, err := callRequests(ctx, c, requestTimeout, ipc.ToProto[pb.CreateRequest](n), pb.AccessRequestsClient.Create)
	if err != nil {
		return state.Request{}, err
	}
	return ipc.FromProto[state.Request](resp.GetRequest()), nil
}

// DecideRequest approves or denies a request and returns it as it then is.
func (c *Client) DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error) {
	req := &pb.DecideRequest{Id: id, Approve: approve, Reason: reason}
	resp, err := callRequests(ctx, c, requestTimeout, req, pb.AccessRequestsClient.Decide)
	if err != nil {
		return state.Request{}, err
	}
	return ipc.FromProto[state.Request](resp.GetRequest()), nil
}

// AssumeRequest takes a request's roles. Where that takes a login it waits for
// one, see Assume.Hold. An error with ipc.CodeConfirm says
// that the session would end earlier: ask, and set AcceptEarlierEnd.
func (c *Client) AssumeRequest(ctx context.Context, a Assume) (Assumed, error) {
	resp, err := callRequests(ctx, c, assumeTimeout, ipc.ToProto[pb.AssumeRequest](a), pb.AccessRequestsClient.Assume)
	if err != nil {
		return Assumed{}, err
	}
	return ipc.FromProto[Assumed](resp), nil
}

// DropRequests gives the roles of requests up, of all when none is named. It
// returns the requests' ids.
func (c *Client) DropRequests(ctx context.Context, ids []string, tunnel string) ([]string, error) {
	resp, err := callRequests(ctx, c, requestTimeout, &pb.DropRequest{Ids: ids, Tunnel: tunnel}, pb.AccessRequestsClient.Drop)
	if err != nil {
		return nil, err
	}
	return resp.GetIds(), nil
}

// RequestEvents yields each event of an access request from now on, until the
// loop breaks, ctx ends or the agent goes away; the last two yield an error,
// once, as the last thing.
func (c *Client) RequestEvents(ctx context.Context) iter.Seq2[state.RequestEvent, error] {
	return streamed[state.RequestEvent](ctx, c, func(ctx context.Context, l *link) (receiver[*pb.WatchResponse], error) {
		return pb.NewAccessRequestsClient(l.conn).Watch(ctx, &pb.WatchRequest{})
	})
}

// callRequests is call for the service of access requests.
func callRequests[Req, Resp any](
	ctx context.Context, c *Client, limit time.Duration, req Req,
	method func(pb.AccessRequestsClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (Resp, error) {
	return callOf(ctx, c, limit, req, pb.NewAccessRequestsClient, method)
}

// requestTimeout bounds a call about access requests: those ask a cluster,
// and an assume may wait for tsh.
const requestTimeout = 90 * time.Second

// assumeTimeout bounds a call that may be held for a login, for ten minutes at
// most, and for the user who answers it.
const assumeTimeout = 20 * time.Minute
