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

// Backend is what the server asks of the agent. An error that is an [*Error]
// reaches the caller whole; any other one arrives with [CodeFailed].
type Backend interface {
	// Snapshot returns the newest snapshot, which no one may change.
	Snapshot() *state.Snapshot
	// Subscribe returns a channel that receives after each newer snapshot, and
	// what ends the subscription. Wake-ups may be merged.
	Subscribe() (wake <-chan struct{}, cancel func())
	// ListResources asks the clusters what they offer.
	ListResources(ctx context.Context, q ResourceQuery) ([]Resource, error)
	// AddTunnel configures a tunnel and returns it with its port.
	AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error)
	// RemoveTunnel stops a tunnel and takes it out of the config.
	RemoveTunnel(ctx context.Context, name string) error
	// StartTunnel starts a stopped tunnel.
	StartTunnel(ctx context.Context, name string) error
	// StopTunnel stops a tunnel.
	StopTunnel(ctx context.Context, name string) error
	// RestartTunnel stops a tunnel and starts it again.
	RestartTunnel(ctx context.Context, name string) error
	// TunnelHistory returns what happened to a tunnel lately, the oldest first.
	TunnelHistory(ctx context.Context, name string) ([]state.Event, error)
	// Login logs in, showing each step and taking answers until it is done or
	// ctx ends. An error of show ends the caller's part in it.
	Login(ctx context.Context, start LoginStart, answers <-chan LoginAnswer, show func(LoginEvent) error) error
	// CancelLogin ends the login under way at a proxy, for everybody.
	CancelLogin(ctx context.Context, proxy string) error
	// Logout ends the session at a proxy and returns which proxy it was.
	Logout(ctx context.Context, proxy string) (string, error)
	// ForgetLogin deletes what the keychain holds for a user at a proxy; an empty
	// user means the profile's own.
	ForgetLogin(ctx context.Context, proxy, user string) (Forgotten, error)
	// SnoozeRenewal puts aside what is said now about a session's end.
	SnoozeRenewal(ctx context.Context, proxy string) (Snoozed, error)
	// KubeCredentials returns a credential for a Kubernetes cluster; an empty
	// cluster means the current profile's.
	KubeCredentials(ctx context.Context, cluster, kubeCluster string) (KubeCredentials, error)
	// DismissNotice says that a notice need not be shown any more.
	DismissNotice(ctx context.Context, id string) error
	// ReloadConfig reads the config file again.
	ReloadConfig(ctx context.Context) error
	// Shutdown asks the agent to exit and returns at once.
	Shutdown()
}

// ServerConfig says how a [Server] works.
type ServerConfig struct {
	Backend Backend      // required
	Logger  *slog.Logger // required
	// Requests answers for access requests; nil means that nothing does.
	Requests RequestBackend
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
	if cfg.Backend == nil || cfg.Logger == nil {
		panic("ipc: a server needs a backend and a logger")
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = defaultCallTimeout
	}
	return &Server{cfg: cfg, log: cfg.Logger.With("component", "ipc")}
}

// Run serves ln until ctx ends; then it takes no more calls, ends the streams,
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

	if s.cfg.Requests != nil {
		pb.RegisterAccessRequestsServer(srv, &requestService{backend: s.cfg.Requests, stopping: stopping})
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
