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
	"berth/internal/paths"
	"berth/internal/plain"
)

// withAgent runs f with a client of the running agent.
func (a *app) withAgent(f func(c *client.Client) error) (err error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	c := client.Dial(p.Socket)
	defer func() { err = errors.Join(err, c.Close()) }()
	return f(c)
}

// tunnel asks the agent for one tunnel.
func (a *app) tunnel(ctx context.Context, name string) (t state.Tunnel, err error) {
	err = a.withAgent(func(c *client.Client) (err error) {
		t, err = find(ctx, c, name)
		return err
	})
	return t, err
}

// find asks the agent for one tunnel.
func find(ctx context.Context, c *client.Client, name string) (state.Tunnel, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return state.Tunnel{}, err
	}
	if name == "" { // which picks all
		return state.Tunnel{}, ipc.UnknownTunnel(name)
	}
	list, err := pick(s.Tunnels, name)
	if err != nil {
		return state.Tunnel{}, err
	}
	return list[0], nil
}

// pick returns a copy of the tunnels, or of the named one.
func pick(tunnels []state.Tunnel, name string) ([]state.Tunnel, error) {
	if name == "" {
		return slices.Clone(tunnels), nil
	}
	name = plain.NFC(name)
	i := slices.IndexFunc(tunnels, func(t state.Tunnel) bool { return t.Name == name })
	if i < 0 {
		return nil, ipc.UnknownTunnel(name, tunnelNames(tunnels)...)
	}
	return []state.Tunnel{tunnels[i]}, nil
}

func tunnelNames(tunnels []state.Tunnel) []string {
	names := make([]string, len(tunnels))
	for i, t := range tunnels {
		names[i] = t.Name
	}
	return names
}

// freeTunnelName makes a name for a tunnel of a resource's, or another text, that
// none of the tunnels has.
func freeTunnelName(text string, taken []string) string {
	base := plain.Name(text, maxTunnelName)
	name := base
	for n := 2; slices.ContainsFunc(taken, func(t string) bool { return plain.SameName(t) == plain.SameName(name) }); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

// maxTunnelName bounds the names that berth makes for tunnels.
const maxTunnelName = 40

// settleWait is how long "tunnel add" gives a new tunnel to find out what it
// leads to, so that it can tell how to use it.
var settleWait = 3 * time.Second

// settled returns the tunnel as soon as it knows how it is, or as it is after
// a while.
func settled(ctx context.Context, c *client.Client, name string) (state.Tunnel, error) {
	waitCtx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	for s, err := range c.Watch(waitCtx) {
		if err != nil {
			break
		}
		list, err := pick(s.Tunnels, name)
		if err == nil && list[0].State != state.TunnelConnecting {
			return list[0], nil
		}
	}
	return find(ctx, c, name)
}
