package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
)

// RequestEvent is one thing that a watch of access requests saw.
type RequestEvent struct {
	// Ready says that from now on nothing is missed. It comes once, first.
	Ready bool
	// Request is a request as it is now; nil with Ready and Deleted.
	Request *types.AccessRequestV3
	// Deleted is the id of a request that is gone: lapsed, or taken away.
	// The request may never have been seen: deletions are not filtered.
	Deleted string
}

// WatchRequests calls handle for every change of the user's own access
// requests. It returns an error when the watch breaks, which it does whenever
// the proxy restarts; what happened between two watches is only found by
// listing, after Ready.
func (c *Cluster) WatchRequests(ctx context.Context, handle func(RequestEvent)) error {
	const op = "watch access requests"
	clt, err := c.client(ctx, c.root)
	if err != nil {
		return err
	}
	// The server lets a watch outlive the session's cert.
	ctx, cancel := context.WithDeadline(ctx, c.session.ValidUntil)
	defer cancel()
	w, err := c.newRequestWatcher(ctx, clt)
	if err != nil {
		return c.classify(ctx, c.root, op, err)
	}
	defer w.Close() //nolint:errcheck // it only cancels, and returns nil
	ready := time.NewTimer(rpcTimeout)
	defer ready.Stop()
	started := false
	for {
		select {
		case <-ready.C:
			if !started {
				return &UnreachableError{Proxy: c.profile.ProxyAddr, Err: fmt.Errorf("%s: no answer within %s", op, rpcTimeout)}
			}
		case <-w.Done():
			return c.classify(ctx, c.root, op, w.Error())
		case ev := <-w.Events():
			out, ok := requestEvent(ev)
			if !ok {
				continue
			}
			if out.Ready {
				started = true
				c.answered.Store(true)
			} else if !started {
				return fmt.Errorf("%s: an event came before the watch was ready", op)
			}
			handle(out)
		}
	}
}

func (c *Cluster) newRequestWatcher(ctx context.Context, clt *client.Client) (types.Watcher, error) {
	filter := types.AccessRequestFilter{User: c.session.Identity.User}
	w, err := clt.NewWatcher(ctx, types.Watch{
		Name:  "berth",
		Kinds: []types.WatchKind{{Kind: types.KindAccessRequest, Filter: filter.IntoMap()}},
	})
	if err == nil && w == nil {
		err = errors.New("no watcher")
	}
	return w, err
}

func requestEvent(ev types.Event) (RequestEvent, bool) {
	switch ev.Type {
	case types.OpInit:
		return RequestEvent{Ready: true}, true
	case types.OpPut:
		req, ok := ev.Resource.(*types.AccessRequestV3)
		return RequestEvent{Request: req}, ok
	case types.OpDelete:
		if ev.Resource == nil || ev.Resource.GetKind() != types.KindAccessRequest {
			return RequestEvent{}, false
		}
		return RequestEvent{Deleted: ev.Resource.GetName()}, true
	default:
		return RequestEvent{}, false
	}
}
