package ipc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// RequestBackend is the agent's part about access requests.
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

// RequestAbilities lists what a user may request.
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

// Assumed is the result of assuming.
type Assumed struct {
	Request      state.Request
	SessionUntil *time.Time // when the session ends now; nil for a tunnel, or when that is unknown
}

// requestService is berth.v1's AccessRequests in terms of a RequestBackend.
type requestService struct {
	pb.UnimplementedAccessRequestsServer

	backend  RequestBackend
	stopping <-chan struct{}
}

func (s *requestService) Abilities(ctx context.Context, req *pb.AbilitiesRequest) (*pb.AbilitiesResponse, error) {
	able, err := s.backend.RequestAbilities(ctx, req.GetProfile(), req.GetResources())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.AbilitiesResponse](able), nil
}

func (s *requestService) Create(ctx context.Context, req *pb.CreateRequest) (*pb.CreateResponse, error) {
	made, err := s.backend.CreateRequest(ctx, FromProto[NewRequest](req))
	if err != nil {
		return nil, err
	}
	return &pb.CreateResponse{Request: ToProto[pb.Request](made)}, nil
}

func (s *requestService) Decide(ctx context.Context, req *pb.DecideRequest) (*pb.DecideResponse, error) {
	r, err := s.backend.DecideRequest(ctx, req.GetId(), req.GetApprove(), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &pb.DecideResponse{Request: ToProto[pb.Request](r)}, nil
}

func (s *requestService) Assume(ctx context.Context, req *pb.AssumeRequest) (*pb.AssumeResponse, error) {
	held, cancel := context.WithCancel(ctx)
	defer untilStopping(held, s.stopping, cancel)()
	got, err := s.backend.AssumeRequest(held, FromProto[Assume](req))
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.Canceled):
		return nil, errStopping
	case err != nil:
		return nil, err
	}
	return ToProto[pb.AssumeResponse](got), nil
}

func (s *requestService) Drop(ctx context.Context, req *pb.DropRequest) (*pb.DropResponse, error) {
	ids, err := s.backend.DropRequests(ctx, req.GetIds(), req.GetTunnel())
	if err != nil {
		return nil, err
	}
	return &pb.DropResponse{Ids: ids}, nil
}

// untilStopping has cancel called when the server is to stop, unless ctx ends
// before. The caller calls what it returns at the end.
func untilStopping(ctx context.Context, stopping <-chan struct{}, cancel func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// errStopping answers a call that the end of the server cut short.
var errStopping = &Error{Code: CodeNotRunning, Message: "the agent is stopping", Hint: ErrNotRunning.Hint}

// Watch sends each event from now on.
func (s *requestService) Watch(_ *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer untilStopping(ctx, s.stopping, cancel)()
	err := s.backend.WatchRequests(ctx, func(ev state.RequestEvent) error {
		return stream.Send(ToProto[pb.WatchResponse](ev))
	})
	if stream.Context().Err() == nil && errors.Is(err, context.Canceled) {
		return errStopping
	}
	return err
}
