package ipc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// service is berth.v1 in terms of a Backend, which says what each call does.
type service struct {
	pb.UnimplementedAgentServer

	backend  Backend
	stopping <-chan struct{}
}

func (s *service) GetInfo(context.Context, *pb.GetInfoRequest) (*pb.GetInfoResponse, error) {
	return &pb.GetInfoResponse{Agent: ToProto[pb.AgentInfo](s.backend.Agent.Snapshot().Agent)}, nil
}

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

func (s *service) ListResources(
	ctx context.Context, req *pb.ListResourcesRequest,
) (*pb.ListResourcesResponse, error) {
	list, unasked, err := s.backend.Tunnels.ListResources(ctx, FromProto[ResourceQuery](req))
	if err != nil {
		return nil, err
	}
	return &pb.ListResourcesResponse{Resources: toProtos[pb.Resource](list), Unasked: unasked}, nil
}

func (s *service) AddTunnel(ctx context.Context, req *pb.AddTunnelRequest) (*pb.AddTunnelResponse, error) {
	spec, err := s.backend.Tunnels.AddTunnel(ctx, FromProto[state.TunnelSpec](req.GetSpec()))
	if err != nil {
		return nil, err
	}
	return &pb.AddTunnelResponse{Spec: ToProto[pb.TunnelSpec](spec)}, nil
}

func (s *service) ChangeTunnel(ctx context.Context, req *pb.ChangeTunnelRequest) (*pb.ChangeTunnelResponse, error) {
	spec, err := s.backend.Tunnels.ChangeTunnel(ctx, req.GetName(), FromProto[state.TunnelSpec](req.GetSpec()))
	if err != nil {
		return nil, err
	}
	return &pb.ChangeTunnelResponse{Spec: ToProto[pb.TunnelSpec](spec)}, nil
}

func (s *service) RemoveTunnel(
	ctx context.Context, req *pb.RemoveTunnelRequest,
) (*pb.RemoveTunnelResponse, error) {
	return &pb.RemoveTunnelResponse{}, s.backend.Tunnels.RemoveTunnel(ctx, req.GetName())
}

func (s *service) StartTunnel(ctx context.Context, req *pb.StartTunnelRequest) (*pb.StartTunnelResponse, error) {
	return &pb.StartTunnelResponse{}, s.backend.Tunnels.StartTunnel(ctx, req.GetName())
}

func (s *service) StopTunnel(ctx context.Context, req *pb.StopTunnelRequest) (*pb.StopTunnelResponse, error) {
	return &pb.StopTunnelResponse{}, s.backend.Tunnels.StopTunnel(ctx, req.GetName())
}

func (s *service) RestartTunnel(
	ctx context.Context, req *pb.RestartTunnelRequest,
) (*pb.RestartTunnelResponse, error) {
	return &pb.RestartTunnelResponse{}, s.backend.Tunnels.RestartTunnel(ctx, req.GetName())
}

func (s *service) TunnelHistory(
	ctx context.Context, req *pb.TunnelHistoryRequest,
) (*pb.TunnelHistoryResponse, error) {
	events, err := s.backend.Tunnels.TunnelHistory(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.TunnelHistoryResponse{Events: toProtos[pb.Event](events)}, nil
}

func (s *service) CheckTunnels(ctx context.Context, req *pb.CheckTunnelsRequest) (*pb.CheckTunnelsResponse, error) {
	list, err := s.backend.Tunnels.CheckTunnels(ctx, req.GetNames())
	if err != nil {
		return nil, err
	}
	return &pb.CheckTunnelsResponse{Tunnels: toProtos[pb.Readiness](list)}, nil
}

func (s *service) TunnelPlot(ctx context.Context, req *pb.TunnelPlotRequest) (*pb.TunnelPlotResponse, error) {
	points, err := s.backend.Tunnels.TunnelPlot(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.TunnelPlotResponse{Points: toProtos[pb.PlotPoint](points)}, nil
}

func (s *service) TunnelClients(ctx context.Context, _ *pb.TunnelClientsRequest) (*pb.TunnelClientsResponse, error) {
	clients, err := s.backend.Tunnels.TunnelClients(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.TunnelClientsResponse{Clients: toProtos[pb.TunnelClient](clients)}, nil
}

func (s *service) ChangeSetting(ctx context.Context, req *pb.ChangeSettingRequest) (*pb.ChangeSettingResponse, error) {
	return &pb.ChangeSettingResponse{}, s.backend.Agent.ChangeSetting(ctx, FromProto[SettingChange](req))
}

func (s *service) DismissNotice(ctx context.Context, req *pb.DismissNoticeRequest) (*pb.DismissNoticeResponse, error) {
	if err := s.backend.Agent.DismissNotice(ctx, req.GetId()); err != nil {
		return nil, err
	}
	return &pb.DismissNoticeResponse{}, nil
}

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
