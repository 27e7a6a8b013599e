package ipc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// RequestBackend is what the server asks of the agent about access requests.
// Ids may be given by their beginning.
type RequestBackend interface {
	// RequestAbilities says what the user may ask for.
	RequestAbilities(ctx context.Context, profile string, resources []string) (RequestAbilities, error)
	// CreateRequest makes an access request.
	CreateRequest(ctx context.Context, n NewRequest) (state.Request, error)
	// DecideRequest approves or denies a request and returns it as it then is.
	DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error)
	// AssumeRequest takes a request's roles, after the login that it takes.
	// Where the session's end would come nearer, or the session lose what other
	// tunnels lead to, and that is not accepted, the error has CodeConfirm.
	AssumeRequest(ctx context.Context, a Assume) (Assumed, error)
	// DropRequests gives roles up and returns the ids of the requests.
	DropRequests(ctx context.Context, ids []string, tunnel string) ([]string, error)
	// WatchRequests shows each event from now on until ctx ends or show fails.
	WatchRequests(ctx context.Context, show func(state.RequestEvent) error) error
}

// RequestAbilities is what a user may ask for.
type RequestAbilities struct {
	Roles         []string `json:"roles"`
	ResourceRoles []string `json:"resource_roles"` // what a request for the resources would use
	Reviewers     []string `json:"reviewers"`
	RequireReason bool     `json:"require_reason"`
	Prompt        string   `json:"prompt"` // how the cluster asks for a reason; may be empty
}

// NewRequest is an access request to be made.
type NewRequest struct {
	Profile   string // a proxy or a cluster; empty means the current profile
	Roles     []string
	Resources []string // as /CLUSTER/KIND/NAME
	Reason    string
	Reviewers []string
	For       time.Duration // zero means with the session
	Start     *time.Time    // nil means at once
}

// Assume says which request's roles to take, and for what.
type Assume struct {
	ID     string
	Tunnel string // empty means the session
	// AcceptEarlierEnd accepts what it costs: an earlier end of the session or,
	// with a request for resources, what other tunnels lead to.
	AcceptEarlierEnd bool
	// Hold is how long a login is waited for where one is needed; zero means
	// not at all, nil that it is the tunnel's own, else state.DefaultHold.
	Hold *time.Duration
}

// Assumed is what came of it.
type Assumed struct {
	Request      state.Request
	SessionUntil *time.Time // when the session ends now; nil for a tunnel, or when nobody knows
}

// requestService is berth.v1's AccessRequests in terms of a RequestBackend.
type requestService struct {
	pb.UnimplementedAccessRequestsServer

	backend  RequestBackend
	stopping <-chan struct{}
}

// Abilities says what the user may ask for.
func (s *requestService) Abilities(ctx context.Context, req *pb.AbilitiesRequest) (*pb.AbilitiesResponse, error) {
	able, err := s.backend.RequestAbilities(ctx, req.GetProfile(), req.GetResources())
	if err != nil {
		return nil, err
	}
	return &pb.AbilitiesResponse{
		Roles: convert(able.Roles, utf8), ResourceRoles: convert(able.ResourceRoles, utf8), Reviewers: convert(able.Reviewers, utf8),
		RequireReason: able.RequireReason, Prompt: utf8(able.Prompt),
	}, nil
}

// AbilitiesFromProto is the other direction.
func AbilitiesFromProto(r *pb.AbilitiesResponse) RequestAbilities {
	return RequestAbilities{
		Roles: convert(r.GetRoles(), same), ResourceRoles: convert(r.GetResourceRoles(), same),
		Reviewers: convert(r.GetReviewers(), same), RequireReason: r.GetRequireReason(), Prompt: r.GetPrompt(),
	}
}

// Create makes a request.
func (s *requestService) Create(ctx context.Context, req *pb.CreateRequest) (*pb.CreateResponse, error) {
	made, err := s.backend.CreateRequest(ctx, NewRequest{
		Profile: req.GetProfile(), Roles: req.GetRoles(), Resources: req.GetResources(), Reason: req.GetReason(),
		Reviewers: req.GetReviewers(), For: req.GetFor().AsDuration(), Start: timePtrFromProto(req.GetStart()),
	})
	if err != nil {
		return nil, err
	}
	return &pb.CreateResponse{Request: requestToProto(made)}, nil
}

// NewRequestToProto is the other direction.
func NewRequestToProto(n NewRequest) *pb.CreateRequest {
	req := &pb.CreateRequest{
		Profile: utf8(n.Profile), Roles: convert(n.Roles, utf8), Resources: convert(n.Resources, utf8), Reason: utf8(n.Reason),
		Reviewers: convert(n.Reviewers, utf8), Start: timePtrToProto(n.Start),
	}
	if n.For > 0 {
		req.For = durationpb.New(n.For)
	}
	return req
}

// Decide approves or denies a request.
func (s *requestService) Decide(ctx context.Context, req *pb.DecideRequest) (*pb.DecideResponse, error) {
	r, err := s.backend.DecideRequest(ctx, req.GetId(), req.GetApprove(), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.DecideResponse{Request: requestToProto(r)}, nil
}

// Assume takes a request's roles.
func (s *requestService) Assume(ctx context.Context, req *pb.AssumeRequest) (*pb.AssumeResponse, error) {
	want := Assume{ID: req.GetId(), Tunnel: req.GetTunnel(), AcceptEarlierEnd: req.GetAcceptEarlierEnd()}
	if req.Hold != nil {
		want.Hold = new(req.Hold.AsDuration())
	}
	held, cancel := context.WithCancel(ctx)
	defer s.untilStopping(held, cancel)()
	got, err := s.backend.AssumeRequest(held, want)
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.Canceled):
		return nil, errStopping
	case err != nil:
		return nil, err
	}
	return &pb.AssumeResponse{Request: requestToProto(got.Request), SessionUntil: timePtrToProto(got.SessionUntil)}, nil
}

// AssumedFromProto is the other direction.
func AssumedFromProto(r *pb.AssumeResponse) Assumed {
	return Assumed{Request: requestFromProto(r.GetRequest()), SessionUntil: timePtrFromProto(r.GetSessionUntil())}
}

// Drop gives roles up.
func (s *requestService) Drop(ctx context.Context, req *pb.DropRequest) (*pb.DropResponse, error) {
	ids, err := s.backend.DropRequests(ctx, req.GetIds(), req.GetTunnel())
	if err != nil {
		return nil, err
	}
	return &pb.DropResponse{Ids: convert(ids, utf8)}, nil
}

// untilStopping has cancel called when the server is to stop, unless ctx ends
// before. The caller calls what it returns at the end.
func (s *requestService) untilStopping(ctx context.Context, cancel func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// errStopping is what a call is answered that the server's end cut short.
var errStopping = &Error{Code: CodeNotRunning, Message: "the agent is stopping", Hint: ErrNotRunning.Hint}

// Watch sends each event from now on.
func (s *requestService) Watch(_ *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer s.untilStopping(ctx, cancel)()
	err := s.backend.WatchRequests(ctx, func(ev state.RequestEvent) error {
		return stream.Send(&pb.WatchResponse{Kind: utf8(string(ev.Kind)), At: timeToProto(ev.At), Request: requestToProto(ev.Request)})
	})
	if stream.Context().Err() == nil && errors.Is(err, context.Canceled) {
		return errStopping
	}
	return err
}

// RequestFromProto turns a request of the wire into a value.
func RequestFromProto(r *pb.Request) state.Request { return requestFromProto(r) }

// RequestEventFromProto turns an event of the wire into a value.
func RequestEventFromProto(r *pb.WatchResponse) state.RequestEvent {
	return state.RequestEvent{
		Kind: state.RequestEventKind(r.GetKind()), At: timeFromProto(r.GetAt()), Request: requestFromProto(r.GetRequest()),
	}
}
