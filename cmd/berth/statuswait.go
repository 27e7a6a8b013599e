package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/wake"
)

// waitable are the states --wait can wait for.
var waitable = []state.TunnelState{
	state.TunnelReady, state.TunnelWaitingForLogin, state.TunnelPortInUse, state.TunnelError, state.TunnelStopped,
}

// tryPause is between two tries of tunnels that say they are ready.
const tryPause = time.Second

// waitFor returns when the named tunnel, or every tunnel that is not stopped,
// has the state asked for. One that says it is ready is tried.
func (a *app) waitFor(ctx context.Context, c *client.Client, o statusOptions) error {
	watchCtx := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		watchCtx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	for {
		if err := a.waitState(ctx, watchCtx, c, o); err != nil || o.wait != string(state.TunnelReady) {
			return err
		}
		shut, err := notOpen(ctx, c, o.name)
		if err != nil || shut == nil {
			return err
		}
		if !wake.Sleep(watchCtx, tryPause) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return notReached(*shut, o)
		}
	}
}

// notOpen tries the named tunnel, or every one that is not stopped, and returns the
// first that does not let a client through; nil when all do.
func notOpen(ctx context.Context, c *client.Client, name string) (*state.Tunnel, error) {
	var names []string
	if name != "" {
		names = []string{name}
	}
	list, err := c.CheckTunnels(ctx, names...)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if !r.Ready {
			return &state.Tunnel{TunnelSpec: state.TunnelSpec{Name: r.Name}, State: r.State, Problem: &state.Problem{
				Code: r.Code, Text: fmt.Sprintf("The agent tried the way and it is not open: %s.", words(r.Code)), Action: "berth tunnel why " + r.Name,
			}}, nil
		}
	}
	return nil, nil
}

// waitState returns when the agent says that the tunnels have the state asked for;
// watchCtx ends when there is no more time.
func (a *app) waitState(ctx, watchCtx context.Context, c *client.Client, o statusOptions) error {
	// Asked apart from the watch, so that there is something to tell however
	// short the timeout is.
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	missing, err := lacking(s, o)
	if err != nil || len(missing) == 0 {
		return err
	}
	for s, err := range c.Watch(watchCtx) {
		switch {
		case err != nil && o.timeout > 0 && timedOut(watchCtx, err):
			return notReached(missing[0], o)
		case err != nil:
			return err
		}
		if missing, err = lacking(s, o); err != nil || len(missing) == 0 {
			return err
		}
	}
	return watchCtx.Err()
}

// timedOut reports whether err is the end of ctx's time. The agent knows the
// deadline too, and may be the first to notice.
func timedOut(ctx context.Context, err error) bool {
	var rpc *client.Error
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || (errors.As(err, &rpc) && rpc.Code == ipc.CodeTimeout)
}

// lacking are the tunnels that have not reached the state waited for.
func lacking(s state.Snapshot, o statusOptions) ([]state.Tunnel, error) {
	list, err := pick(s.Tunnels, o.name)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(t state.Tunnel) bool {
		return t.State == state.TunnelState(o.wait) || (o.name == "" && t.State == state.TunnelStopped)
	}), nil
}

// notReached says which tunnel did not become what --wait wanted, and why.
func notReached(t state.Tunnel, o statusOptions) error {
	err := fmt.Errorf("tunnel %q is not %s after %s: it is %s", t.Name, words(o.wait), o.timeout, words(t.State))
	if t.Problem != nil {
		err = withHint(fmt.Errorf("%w\n%s", err, plain.Line(t.Problem.Text)), t.Problem.Action)
	}
	if t.State == state.TunnelWaitingForLogin {
		err = fmt.Errorf("%w: %w", errLoginNeeded, err)
	}
	return err
}
