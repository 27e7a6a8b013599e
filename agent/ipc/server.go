package ipc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

const (
	// maxRequestBytes bounds what a front end may send: names and numbers.
	maxRequestBytes = 1 << 20
	// MaxReplyBytes bounds what the agent sends: a snapshot of a thousand
	// tunnels, or the resources of a large cluster, are well below it.
	MaxReplyBytes = 64 << 20

	defaultGrace       = 2 * time.Second
	defaultCallTimeout = time.Minute
	handshakeTimeout   = 5 * time.Second
)

// Backend is the agent as the server sees it: one part for each subject, so
// that the room that owns the subject can answer for it. An error that is an
// [*Error] reaches the caller whole; any other one arrives with [CodeFailed].
type Backend struct {
	Agent    AgentBackend
	Tunnels  TunnelBackend
	Logins   LoginBackend
	Renewals RenewalBackend
	Kube     KubeBackend
	// Requests may be nil: then there are no calls about access requests.
	Requests RequestBackend
	// Recordings may be nil: then there are no calls about recorded sessions.
	Recordings RecordingBackend
}

// AgentBackend answers for the agent as a whole.
type AgentBackend interface {
	// Snapshot returns the newest snapshot, which no one may change.
	Snapshot() *state.Snapshot
	// Subscribe returns a channel that receives after each newer snapshot, and
	// what ends the subscription. Wake-ups may be merged.
	Subscribe() (wake <-chan struct{}, cancel func())
	// DismissNotice says that a notice need not be shown any more.
	DismissNotice(ctx context.Context, id string) error
	// ReloadConfig reads the config file again.
	ReloadConfig(ctx context.Context) error
	// ChangeSetting writes one setting to the config file, and has it take effect.
	ChangeSetting(ctx context.Context, c SettingChange) error
	// Shutdown asks the agent to exit and returns at once.
	Shutdown()
	// HandOver has another agent take this one's place, started as program, or as
	// the same program for an empty one, with env put over this agent's.
	HandOver(ctx context.Context, program string, env []string) (Successor, error)
}

// TunnelBackend answers for the tunnels and what they can lead to.
type TunnelBackend interface {
	// ListResources asks the clusters what they offer, and says which could not be
	// asked.
	ListResources(ctx context.Context, q ResourceQuery) (list []Resource, unasked []string, err error)
	// AddTunnel configures a tunnel and returns it with its port.
	AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error)
	// ChangeTunnel makes a tunnel of the config what spec says, under another name
	// too, and returns it with its port.
	ChangeTunnel(ctx context.Context, name string, spec state.TunnelSpec) (state.TunnelSpec, error)
	// RemoveTunnel stops a tunnel and takes it out of the config.
	RemoveTunnel(ctx context.Context, name string) error
	// StartTunnel starts a stopped tunnel.
	StartTunnel(ctx context.Context, name string) error
	// StopTunnel stops a tunnel.
	StopTunnel(ctx context.Context, name string) error
	// RestartTunnel stops a tunnel and starts it again.
	RestartTunnel(ctx context.Context, name string) error
	// TunnelPlot returns how a tunnel was used in the last hour, the oldest point first.
	TunnelPlot(ctx context.Context, name string) ([]state.PlotPoint, error)
	// TunnelClients returns the programs that are connected to tunnels.
	TunnelClients(ctx context.Context) ([]state.TunnelClient, error)
	// TunnelHistory returns what happened to a tunnel lately, the oldest first.
	TunnelHistory(ctx context.Context, name string) ([]state.Event, error)
	// CheckTunnels tries the ways of the tunnels with these names, or of all that
	// are not stopped.
	CheckTunnels(ctx context.Context, names []string) ([]state.Readiness, error)
}

// ServerConfig says how a [Server] works.
type ServerConfig struct {
	Backend Backend
	Logger  *slog.Logger // required
	// Grace is how long calls in progress may go on at the end; zero means 2 s.
	Grace time.Duration
	// CallTimeout bounds each call that is not a stream; zero means a minute.
	CallTimeout time.Duration
}

// Server serves berth.v1.
type Server struct {
	cfg ServerConfig
	log *slog.Logger
}

// NewServer returns a server that [Server.Run] starts. It panics when the
// config lacks what is required.
func NewServer(cfg ServerConfig) *Server {
	if b := cfg.Backend; b.Agent == nil || b.Tunnels == nil || b.Logins == nil || b.Renewals == nil || b.Kube == nil ||
		cfg.Logger == nil {
		panic("ipc: a server needs a backend for each subject and a logger")
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = defaultCallTimeout
	}
	return &Server{cfg: cfg, log: cfg.Logger.With("component", "ipc")}
}

// Run serves ln until ctx ends; then it stops taking calls, ends the streams,
// gives calls in progress the grace period, closes ln and returns nil.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	creds, err := newPeerCredentials(s.rejected)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	in := interceptor{log: s.log, timeout: s.cfg.CallTimeout}
	srv := grpc.NewServer(
		grpc.Creds(creds),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(MaxReplyBytes),
		grpc.UnaryInterceptor(in.unary),
		grpc.StreamInterceptor(in.stream),
		grpc.WaitForHandlers(true),
	)
	stopping := make(chan struct{})
	pb.RegisterAgentServer(srv, &service{backend: s.cfg.Backend, stopping: stopping})
	if requests := s.cfg.Backend.Requests; requests != nil {
		pb.RegisterAccessRequestsServer(srv, &requestService{backend: requests, stopping: stopping})
	}
	if recordings := s.cfg.Backend.Recordings; recordings != nil {
		pb.RegisterRecordingsServer(srv, &recordingService{backend: recordings, stopping: stopping})
	}

	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served: // only a broken listener ends it by itself
		close(stopping)
		srv.Stop()
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	close(stopping)
	s.drain(srv)
	<-served
	return nil
}

func (s *Server) drain(srv *grpc.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.GracefulStop()
	}()
	timer := time.NewTimer(s.cfg.Grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.log.Warn("calls cut short at shutdown")
		srv.Stop()
		<-done
	}
}

func (s *Server) rejected(p Peer, err error) {
	s.log.Warn("connection refused", "peer_uid", p.UID, "peer_pid", p.PID, "err", err)
}
