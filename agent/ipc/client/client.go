// Package client is how front ends talk to the agent: it asks for snapshots,
// follows them and sends commands, over the agent's control socket.
//
// It promises to answer at once when no agent runs ([ErrNotRunning]), to turn
// every failure into an [*Error] with a class and a next step, and to reach no
// credential: it knows berth/agent/state, the wire, and nothing beneath.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// The values of the wire, so that a front end needs this package alone.
type (
	// Error is the answer to a failed call: cause, next step and class.
	Error = ipc.Error
	// Code is the class of a failed call.
	Code = ipc.Code
	// Resource is something a cluster offers that a tunnel can lead to.
	Resource = ipc.Resource
	// Successor is the agent that has taken another one's place.
	Successor = ipc.Successor
	// ResourceQuery says which resources to list.
	ResourceQuery = ipc.ResourceQuery
)

// What decides a program's exit code, for errors.Is.
var (
	ErrNotRunning  = ipc.ErrNotRunning
	ErrLoginNeeded = ipc.ErrLoginNeeded
)

// The classes of failed calls; see [ipc.Code].
const (
	CodeNotRunning  = ipc.CodeNotRunning
	CodeLoginNeeded = ipc.CodeLoginNeeded
	CodeNotFound    = ipc.CodeNotFound
	CodeExists      = ipc.CodeExists
	CodeInvalid     = ipc.CodeInvalid
	CodeDenied      = ipc.CodeDenied
	CodeConfirm     = ipc.CodeConfirm
	CodeTSHMissing  = ipc.CodeTSHMissing
	CodeTimeout     = ipc.CodeTimeout
	CodeUnsupported = ipc.CodeUnsupported
	CodeFailed      = ipc.CodeFailed
)

const (
	// readTimeout bounds what the agent answers from memory.
	readTimeout = 10 * time.Second
	// commandTimeout bounds what may have to ask a cluster; the agent's own
	// limit is shorter and says more.
	commandTimeout = 90 * time.Second
)

// Client talks to one agent. It connects at the first call, and again at the
// next one when the connection broke; many goroutines may use it.
type Client struct {
	address string

	mu   sync.Mutex
	link *link // nil until a call needs it; guarded by mu
}

// link is one gRPC connection and why it could not be made.
type link struct {
	conn *grpc.ClientConn

	mu      sync.Mutex
	dialErr error // guarded by mu
}

// Dial returns a client of the agent at address, the Socket of [paths.Paths]
// gives. It does not connect yet.
func Dial(address string) *Client { return &Client{address: address} }

// Close ends the connection and the calls that use it.
func (c *Client) Close() error {
	c.mu.Lock()
	old := c.link
	c.link = nil
	c.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.conn.Close()
}

// Info says which agent answers.
func (c *Client) Info(ctx context.Context) (state.Agent, error) {
	resp, err := call(ctx, c, readTimeout, &pb.GetInfoRequest{}, pb.AgentClient.GetInfo)
	if err != nil {
		return state.Agent{}, err
	}
	return ipc.FromProto[state.Agent](resp.GetAgent()), nil
}

// Snapshot returns everything the agent knows now.
func (c *Client) Snapshot(ctx context.Context) (state.Snapshot, error) {
	resp, err := call(ctx, c, readTimeout, &pb.GetSnapshotRequest{}, pb.AgentClient.GetSnapshot)
	if err != nil {
		return state.Snapshot{}, err
	}
	return ipc.FromProto[state.Snapshot](resp.GetSnapshot()), nil
}

// Resources lists what the clusters offer, and says which could not be asked.
func (c *Client) Resources(ctx context.Context, q ResourceQuery) (list []Resource, unasked []string, err error) {
	resp, err := call(ctx, c, commandTimeout, ipc.ToProto[pb.ListResourcesRequest](q), pb.AgentClient.ListResources)
	if err != nil {
		return nil, nil, err
	}
	return ipc.FromProtos[Resource](resp.GetResources()), resp.GetUnasked(), nil
}

// AddTunnel configures a tunnel and returns it as it stands in the config,
// with its port.
func (c *Client) AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	req := &pb.AddTunnelRequest{Spec: ipc.ToProto[pb.TunnelSpec](spec)}
	resp, err := call(ctx, c, commandTimeout, req, pb.AgentClient.AddTunnel)
	if err != nil {
		return state.TunnelSpec{}, err
	}
	return ipc.FromProto[state.TunnelSpec](resp.GetSpec()), nil
}

// ChangeTunnel makes the tunnel called name what spec says, under another name too,
// and returns it as it stands in the config. Port 0 means the present one.
func (c *Client) ChangeTunnel(ctx context.Context, name string, spec state.TunnelSpec) (state.TunnelSpec, error) {
	req := &pb.ChangeTunnelRequest{Name: name, Spec: ipc.ToProto[pb.TunnelSpec](spec)}
	resp, err := call(ctx, c, commandTimeout, req, pb.AgentClient.ChangeTunnel)
	if err != nil {
		return state.TunnelSpec{}, err
	}
	return ipc.FromProto[state.TunnelSpec](resp.GetSpec()), nil
}

// RemoveTunnel stops a tunnel and takes it out of the config.
func (c *Client) RemoveTunnel(ctx context.Context, name string) error {
	req := &pb.RemoveTunnelRequest{Name: name}
	_, err := call(ctx, c, commandTimeout, req, pb.AgentClient.RemoveTunnel)
	return err
}

// StartTunnel starts a stopped tunnel.
func (c *Client) StartTunnel(ctx context.Context, name string) error {
	_, err := call(ctx, c, commandTimeout, &pb.StartTunnelRequest{Name: name}, pb.AgentClient.StartTunnel)
	return err
}

// StopTunnel stops a tunnel until it is started again.
func (c *Client) StopTunnel(ctx context.Context, name string) error {
	_, err := call(ctx, c, commandTimeout, &pb.StopTunnelRequest{Name: name}, pb.AgentClient.StopTunnel)
	return err
}

// RestartTunnel stops a tunnel and starts it again.
func (c *Client) RestartTunnel(ctx context.Context, name string) error {
	req := &pb.RestartTunnelRequest{Name: name}
	_, err := call(ctx, c, commandTimeout, req, pb.AgentClient.RestartTunnel)
	return err
}

// CheckTunnels tries the ways of the tunnels with these names, or of all that are not
// stopped, and says which are open.
func (c *Client) CheckTunnels(ctx context.Context, names ...string) ([]state.Readiness, error) {
	resp, err := call(ctx, c, commandTimeout, &pb.CheckTunnelsRequest{Names: names}, pb.AgentClient.CheckTunnels)
	if err != nil {
		return nil, err
	}
	return ipc.FromProtos[state.Readiness](resp.GetTunnels()), nil
}

// TunnelHistory returns what happened to a tunnel lately, the oldest first.
func (c *Client) TunnelHistory(ctx context.Context, name string) ([]state.Event, error) {
	resp, err := call(ctx, c, readTimeout, &pb.TunnelHistoryRequest{Name: name}, pb.AgentClient.TunnelHistory)
	if err != nil {
		return nil, err
	}
	return ipc.FromProtos[state.Event](resp.GetEvents()), nil
}

// TunnelPlot returns how a tunnel was used in the last hour, the oldest point first.
func (c *Client) TunnelPlot(ctx context.Context, name string) ([]state.PlotPoint, error) {
	resp, err := call(ctx, c, readTimeout, &pb.TunnelPlotRequest{Name: name}, pb.AgentClient.TunnelPlot)
	if err != nil {
		return nil, err
	}
	return ipc.FromProtos[state.PlotPoint](resp.GetPoints()), nil
}

// TunnelClients returns the programs that are connected to tunnels, by the tunnels' names;
// of one tunnel those with the most connections first.
func (c *Client) TunnelClients(ctx context.Context) ([]state.TunnelClient, error) {
	resp, err := call(ctx, c, readTimeout, &pb.TunnelClientsRequest{}, pb.AgentClient.TunnelClients)
	if err != nil {
		return nil, err
	}
	return ipc.FromProtos[state.TunnelClient](resp.GetClients()), nil
}

// SettingChange is one setting of the config file, and its new value.
type SettingChange = ipc.SettingChange

// ChangeSetting has the agent write one setting to the config file.
func (c *Client) ChangeSetting(ctx context.Context, s SettingChange) error {
	_, err := call(ctx, c, commandTimeout, ipc.ToProto[pb.ChangeSettingRequest](s), pb.AgentClient.ChangeSetting)
	return err
}

// ReloadConfig makes the agent read its config file again.
func (c *Client) ReloadConfig(ctx context.Context) error {
	_, err := call(ctx, c, commandTimeout, &pb.ReloadConfigRequest{}, pb.AgentClient.ReloadConfig)
	return err
}

// Shutdown asks the agent to drain its tunnels and to exit. It returns when
// the agent has agreed, not when it is gone.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := call(ctx, c, readTimeout, &pb.ShutdownRequest{}, pb.AgentClient.Shutdown)
	return err
}

// HandOver has another agent take the running one's place, started as program, or
// as the same program for an empty one, with env put over the running one's. It
// returns when that serves; after an error the running one goes on.
func (c *Client) HandOver(ctx context.Context, program string, env []string) (Successor, error) {
	resp, err := call(ctx, c, commandTimeout, &pb.HandOverRequest{Program: program, Env: env}, pb.AgentClient.HandOver)
	if err != nil {
		return Successor{}, err
	}
	return ipc.FromProto[Successor](resp), nil
}

// call makes one call, by a method expression of the generated client.
func call[Req, Resp any](
	ctx context.Context, c *Client, limit time.Duration, req Req,
	method func(pb.AgentClient, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (Resp, error) {
	return callOf(ctx, c, limit, req, pb.NewAgentClient, method)
}

// callOf is call for any of the socket's services.
func callOf[Service, Req, Resp any](
	ctx context.Context, c *Client, limit time.Duration, req Req, service func(grpc.ClientConnInterface) Service,
	method func(Service, context.Context, Req, ...grpc.CallOption) (Resp, error),
) (Resp, error) {
	var none Resp
	l, err := c.connection()
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := method(service(l.conn), ctx, req)
	if err != nil {
		return none, c.failed(ctx, l, err)
	}
	return resp, nil
}

// window is how much of a stream may be under way to a front end.
const window = 512 << 10

// receiver is the client's end of a stream.
type receiver[P proto.Message] interface{ Recv() (P, error) }

// streamed yields what a stream brings, each message as a T, until the stream
// ends, the loop breaks, ctx ends or the agent goes away; the last two yield an
// error, once, as the last thing.
func streamed[T any, P proto.Message](
	ctx context.Context, c *Client, open func(context.Context, *link) (receiver[P], error),
) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		l, err := c.connection()
		if err != nil {
			yield(none, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := open(ctx, l)
		if err != nil {
			yield(none, c.failed(ctx, l, err))
			return
		}
		for {
			resp, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil && ctx.Err() != nil:
				yield(none, ctx.Err())
				return
			case err != nil:
				yield(none, c.failed(ctx, l, err))
				return
			case !yield(ipc.FromProto[T](resp), nil):
				return
			}
		}
	}
}

func (c *Client) connection() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		return c.link, nil
	}
	l := &link{}
	conn, err := grpc.NewClient("passthrough:///berth",
		// The peers vouch for each other at the socket; see ipc.Dial.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.dial(ctx, c.address)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		// gRPC's own windows grow to 16 MB with what flows, for networks: here they
		// would be memory for nothing. A set window does not grow.
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(ipc.MaxReplyBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to the agent: %w", err)
	}
	l.conn = conn
	c.link = l
	return l, nil
}

func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := ipc.Dial(ctx, address)
	l.mu.Lock()
	l.dialErr = err
	l.mu.Unlock()
	return conn, err
}

// failed turns a call's error into what the front end gets. A connection that
// failed is given up: gRPC would make the next call wait for its backoff, or
// fail it with an error that is no longer true.
func (c *Client) failed(ctx context.Context, l *link, err error) error {
	// The agent's side of gRPC cancels a call at its deadline, and on a busy machine
	// that arrives before ctx has noticed.
	if deadline, ok := ctx.Deadline(); ok && status.Code(err) == codes.Canceled && !time.Now().Before(deadline) {
		err = status.FromContextError(context.DeadlineExceeded).Err()
	}
	if status.Code(err) != codes.Unavailable {
		return ipc.FromStatus(err)
	}
	c.mu.Lock()
	if c.link == l {
		c.link = nil
	}
	c.mu.Unlock()
	_ = l.conn.Close() // a second close says so, and that is all
	l.mu.Lock()
	dialErr := l.dialErr
	l.mu.Unlock()
	if e, ok := errors.AsType[*Error](dialErr); ok {
		return e // gRPC's text is about itself; the reason is in here
	}
	if dialErr != nil {
		return &Error{Code: ipc.CodeFailed, Message: dialErr.Error()}
	}
	return ipc.FromStatus(err)
}
