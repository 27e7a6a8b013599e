package ipc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// service is berth.v1 in terms of a Backend.
type service struct {
	pb.UnimplementedAgentServer

	backend  Backend
	stopping <-chan struct{}
}

// GetInfo says which agent this is.
func (s *service) GetInfo(context.Context, *pb.GetInfoRequest) (*pb.GetInfoResponse, error) {
	return &pb.GetInfoResponse{Agent: ToProto[pb.AgentInfo](s.backend.Agent.Snapshot().Agent)}, nil
}

// GetSnapshot returns the newest snapshot.
func (s *service) GetSnapshot(context.Context, *pb.GetSnapshotRequest) (*pb.GetSnapshotResponse, error) {
	return &pb.GetSnapshotResponse{Snapshot: ToProto[pb.Snapshot](*s.backend.Agent.Snapshot())}, nil
}

// watchPace is the shortest time between two snapshots for one follower: people
// cannot read faster changes.
const watchPace = 50 * time.Millisecond

// WatchSnapshots sends the newest snapshot now and after each wake-up, but not
// faster than watchPace. Meanwhile, and while Send waits for a slow reader,
// wake-ups merge into one, so what is sent next is the newest again.
func (s *service) WatchSnapshots(
	_ *pb.WatchSnapshotsRequest, stream grpc.ServerStreamingServer[pb.WatchSnapshotsResponse],
) error {
	wake, cancel := s.backend.Agent.Subscribe()
	defer cancel()
	pace := time.NewTimer(watchPace)
	defer pace.Stop()
	for {
		pace.Reset(watchPace)
		snapshot := ToProto[pb.Snapshot](*s.backend.Agent.Snapshot())
		if err := stream.Send(&pb.WatchSnapshotsResponse{Snapshot: snapshot}); err != nil {
			return err
		}
		paced := pace.C
		next := wake
		for paced != nil || next != nil {
			select {
			case <-next:
				next = nil
			case <-paced:
				paced = nil
			case <-stream.Context().Done():
				return stream.Context().Err()
			case <-s.stopping:
				return &Error{Code: CodeNotRunning, Message: "the agent is stopping", Hint: ErrNotRunning.Hint}
			}
		}
	}
}

// ListResources asks the clusters what they offer.
func (s *service) ListResources(
	ctx context.Context, req *pb.ListResourcesRequest,
) (*pb.ListResourcesResponse, error) {
	list, unasked, err := s.backend.Tunnels.ListResources(ctx, FromProto[ResourceQuery](req))
	if err != nil {
		return nil, err
	}
	return &pb.ListResourcesResponse{Resources: toProtos[pb.Resource](list), Unasked: unasked}, nil
}

// AddTunnel configures a tunnel.
func (s *service) AddTunnel(ctx context.Context, req *pb.AddTunnelRequest) (*pb.AddTunnelResponse, error) {
	spec, err := s.backend.Tunnels.AddTunnel(ctx, FromProto[state.TunnelSpec](req.GetSpec()))
	if err != nil {
		return nil, err
	}
	return &pb.AddTunnelResponse{Spec: ToProto[pb.TunnelSpec](spec)}, nil
}

// ChangeTunnel makes a tunnel another one.
func (s *service) ChangeTunnel(ctx context.Context, req *pb.ChangeTunnelRequest) (*pb.ChangeTunnelResponse, error) {
	spec, err := s.backend.Tunnels.ChangeTunnel(ctx, req.GetName(), FromProto[state.TunnelSpec](req.GetSpec()))
	if err != nil {
		return nil, err
	}
	return &pb.ChangeTunnelResponse{Spec: ToProto[pb.TunnelSpec](spec)}, nil
}

// RemoveTunnel takes a tunnel out of the config.
func (s *service) RemoveTunnel(
	ctx context.Context, req *pb.RemoveTunnelRequest,
) (*pb.RemoveTunnelResponse, error) {
	return &pb.RemoveTunnelResponse{}, s.backend.Tunnels.RemoveTunnel(ctx, req.GetName())
}

// StartTunnel starts a stopped tunnel.
func (s *service) StartTunnel(ctx context.Context, req *pb.StartTunnelRequest) (*pb.StartTunnelResponse, error) {
	return &pb.StartTunnelResponse{}, s.backend.Tunnels.StartTunnel(ctx, req.GetName())
}

// StopTunnel stops a tunnel.
func (s *service) StopTunnel(ctx context.Context, req *pb.StopTunnelRequest) (*pb.StopTunnelResponse, error) {
	return &pb.StopTunnelResponse{}, s.backend.Tunnels.StopTunnel(ctx, req.GetName())
}

// RestartTunnel stops a tunnel and starts it again.
func (s *service) RestartTunnel(
	ctx context.Context, req *pb.RestartTunnelRequest,
) (*pb.RestartTunnelResponse, error) {
	return &pb.RestartTunnelResponse{}, s.backend.Tunnels.RestartTunnel(ctx, req.GetName())
}

// TunnelHistory returns what happened to a tunnel lately.
func (s *service) TunnelHistory(
	ctx context.Context, req *pb.TunnelHistoryRequest,
) (*pb.TunnelHistoryResponse, error) {
	events, err := s.backend.Tunnels.TunnelHistory(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.TunnelHistoryResponse{Events: toProtos[pb.Event](events)}, nil
}

// CheckTunnels tries the ways of tunnels.
func (s *service) CheckTunnels(ctx context.Context, req *pb.CheckTunnelsRequest) (*pb.CheckTunnelsResponse, error) {
	list, err := s.backend.Tunnels.CheckTunnels(ctx, req.GetNames())
	if err != nil {
		return nil, err
	}
	return &pb.CheckTunnelsResponse{Tunnels: toProtos[pb.Readiness](list)}, nil
}

// TunnelPlot returns how a tunnel was used in the last hour.
func (s *service) TunnelPlot(ctx context.Context, req *pb.TunnelPlotRequest) (*pb.TunnelPlotResponse, error) {
	points, err := s.backend.Tunnels.TunnelPlot(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.TunnelPlotResponse{Points: toProtos[pb.PlotPoint](points)}, nil
}

// TunnelClients returns the programs that are connected to tunnels.
func (s *service) TunnelClients(ctx context.Context, _ *pb.TunnelClientsRequest) (*pb.TunnelClientsResponse, error) {
	clients, err := s.backend.Tunnels.TunnelClients(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.TunnelClientsResponse{Clients: toProtos[pb.TunnelClient](clients)}, nil
}

// ChangeSetting writes one setting to the config file.
func (s *service) ChangeSetting(ctx context.Context, req *pb.ChangeSettingRequest) (*pb.ChangeSettingResponse, error) {
	return &pb.ChangeSettingResponse{}, s.backend.Agent.ChangeSetting(ctx, FromProto[SettingChange](req))
}

// DismissNotice says that a notice need not be shown any more.
func (s *service) DismissNotice(ctx context.Context, req *pb.DismissNoticeRequest) (*pb.DismissNoticeResponse, error) {
	if err := s.backend.Agent.DismissNotice(ctx, req.GetId()); err != nil {
		return nil, err
	}
	return &pb.DismissNoticeResponse{}, nil
}

// ReloadConfig reads the config file again.
func (s *service) ReloadConfig(
	ctx context.Context, _ *pb.ReloadConfigRequest,
) (*pb.ReloadConfigResponse, error) {
	return &pb.ReloadConfigResponse{}, s.backend.Agent.ReloadConfig(ctx)
}

// Shutdown asks the agent to exit; the answer comes before it does.
func (s *service) Shutdown(context.Context, *pb.ShutdownRequest) (*pb.ShutdownResponse, error) {
	s.backend.Agent.Shutdown()
	return &pb.ShutdownResponse{}, nil
}

// HandOver has another agent take this one's place; the answer comes when it has.
func (s *service) HandOver(ctx context.Context, req *pb.HandOverRequest) (*pb.HandOverResponse, error) {
	next, err := s.backend.Agent.HandOver(ctx, req.GetProgram(), req.GetEnv())
	if err != nil {
		return nil, err
	}
	return ToProto[pb.HandOverResponse](next), nil
}
