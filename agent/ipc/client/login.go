package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

// The values of a login.
type (
	// LoginStart says where to log in, and how.
	LoginStart = ipc.LoginStart
	// LoginEvent is a step of a login.
	LoginEvent = ipc.LoginEvent
)

// Login logs in. show receives each step, the last being of kind done. answer
// may be called from any goroutine until Login returns; it does nothing for an
// event that asks for nothing. When ctx ends, or show returns an error, this
// front end leaves the login, which goes on only if others take part in it.
func (c *Client) Login(ctx context.Context, start LoginStart, show func(e LoginEvent, answer func(secret string)) error) error {
	l, err := c.connection()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewAgentClient(l.conn).Login(ctx)
	if err != nil {
		return c.failed(ctx, l, err)
	}
	var sending sync.Mutex
	send := func(req *pb.LoginRequest) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(req)
	}
	if err := send(&pb.LoginRequest{Start: ipc.ToProto[pb.LoginStart](start)}); err != nil && !errors.Is(err, io.EOF) {
		return c.failed(ctx, l, err)
	}
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return &Error{Code: ipc.CodeFailed, Message: "the agent ended the login without a word"}
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return c.failed(ctx, l, err)
		}
		e := ipc.FromProto[LoginEvent](resp)
		err = show(e, func(secret string) {
			// An error here is one of Recv too.
			_ = send(&pb.LoginRequest{Answer: ipc.ToProto[pb.LoginAnswer](ipc.LoginAnswer{ID: e.ID, Secret: secret})})
		})
		if err != nil || e.Kind == state.LoginDone {
			return err
		}
	}
}

// Logout ends the session of a user at a proxy, the current profile's when they are
// empty, and returns that proxy.
func (c *Client) Logout(ctx context.Context, proxy, user string) (string, error) {
	resp, err := call(ctx, c, commandTimeout, &pb.LogoutRequest{Proxy: proxy, User: user}, pb.AgentClient.Logout)
	if err != nil {
		return "", err
	}
	return resp.GetProxy(), nil
}

// Forgotten lists what was deleted from the keychain.
type Forgotten = ipc.Forgotten

// ForgetLogin deletes what the keychain holds for a user at a proxy; empty ones
// mean the current profile's.
func (c *Client) ForgetLogin(ctx context.Context, proxy, user string) (Forgotten, error) {
	resp, err := call(ctx, c, commandTimeout, &pb.ForgetLoginRequest{Proxy: proxy, User: user}, pb.AgentClient.ForgetLogin)
	if err != nil {
		return Forgotten{}, err
	}
	return ipc.FromProto[Forgotten](resp), nil
}

// Snoozed reports that the reminder of a session's expiry is snoozed, and until when.
type Snoozed = ipc.Snoozed

// SnoozeRenewal snoozes the reminder that the session of a user at a proxy expires; empty
// ones mean the current profile's. The next, more urgent reminder comes all the same.
func (c *Client) SnoozeRenewal(ctx context.Context, proxy, user string) (Snoozed, error) {
	resp, err := call(ctx, c, commandTimeout, &pb.SnoozeRenewalRequest{Proxy: proxy, User: user}, pb.AgentClient.SnoozeRenewal)
	if err != nil {
		return Snoozed{}, err
	}
	return ipc.FromProto[Snoozed](resp), nil
}

// CancelLogin ends the login of a user under way at a proxy, the current profile's when
// it is empty, for every front end that takes part in it. An empty user means any.
func (c *Client) CancelLogin(ctx context.Context, proxy, user string) error {
	_, err := call(ctx, c, commandTimeout, &pb.CancelLoginRequest{Proxy: proxy, User: user}, pb.AgentClient.CancelLogin)
	return err
}

// DismissNotice says that a notice need not be shown any more.
func (c *Client) DismissNotice(ctx context.Context, id string) error {
	_, err := call(ctx, c, commandTimeout, &pb.DismissNoticeRequest{Id: id}, pb.AgentClient.DismissNotice)
	return err
}
