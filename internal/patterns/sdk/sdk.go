// Package sdk talks to a cluster with Teleport's Go library, the way berth does.
package sdk

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/certwatch"
	"berth/internal/patterns"
	"berth/internal/wake"
)

// Features are what this way can do.
var Features = patterns.Features{Push: true, TypedErrors: true, Codes: true, Upgrade: true}

// settle is how long to wait before files that were being written are read again.
const settle = 100 * time.Millisecond

type backend struct{ c *cluster.Cluster }

// Open returns a backend for the current profile of the home.
func Open(ctx context.Context, cfg patterns.Config) (patterns.Backend, error) {
	p, err := current(ctx, cfg.Home)
	if err != nil {
		return nil, err
	}
	c, err := cluster.New(cluster.Config{Profile: p, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return backend{c}, nil
}

func current(ctx context.Context, home string) (*certwatch.Profile, error) {
	for {
		profiles, err := certwatch.Load(home)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(profiles, func(p *certwatch.Profile) bool { return p.Current })
		switch {
		case i < 0:
			return nil, fmt.Errorf("no current profile in %s", home)
		case !profiles[i].Settling:
			return profiles[i], profiles[i].Problem
		case !wake.Sleep(ctx, settle):
			return nil, context.Cause(ctx)
		}
	}
}

func (b backend) Close() error { return b.c.Close() }

func (b backend) Ping(ctx context.Context) error { return typed(b.c.Ping(ctx)) }

func (b backend) Databases(ctx context.Context) ([]patterns.Database, error) {
	list, err := b.c.Databases(ctx, b.c.Root())
	dbs := make([]patterns.Database, len(list))
	for i, db := range list {
		dbs[i] = patterns.Database{Name: db.Name, Protocol: db.Protocol}
	}
	return dbs, typed(err)
}

func (b backend) Requests(ctx context.Context) ([]patterns.Request, error) {
	list, err := b.c.Requests(ctx)
	var own []patterns.Request
	for _, r := range list {
		if r.GetUser() == b.c.Profile().User {
			own = append(own, request(r))
		}
	}
	return own, typed(err)
}

func (b backend) WatchRequests(ctx context.Context, handle func(patterns.Request)) error {
	var listErr error
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err := b.c.WatchRequests(ctx, func(ev cluster.RequestEvent) {
		switch {
		case ev.Ready:
			var list []patterns.Request
			if list, listErr = b.Requests(ctx); listErr != nil {
				stop()
			}
			for _, r := range list {
				handle(r)
			}
		case ev.Request != nil:
			handle(request(ev.Request))
		}
	})
	if listErr != nil {
		return listErr
	}
	return typed(err)
}

func request(r *types.AccessRequestV3) patterns.Request {
	return patterns.Request{
		ID: r.GetName(), User: r.GetUser(), Roles: r.GetRoles(), Reason: r.GetRequestReason(),
		State: patterns.StateOf(int(r.GetState())),
	}
}

func (b backend) MintDB(ctx context.Context, to patterns.Route) (*tls.Certificate, error) {
	route := cluster.DBRoute{
		Cluster: b.c.Root(), Service: to.Database, Protocol: to.Protocol, User: to.User, Database: to.Name,
	}
	if to.Code != "" {
		if err := b.c.Verify(ctx, route, to.Code); err != nil {
			return nil, typed(err)
		}
		cert, err := b.c.Verified(route)
		if err != nil {
			return nil, err
		}
		return cert.TLS, nil
	}
	b.c.Forget(route.Cluster, route.Service)
	cert, err := b.c.DBCert(ctx, route)
	if err != nil {
		return nil, typed(err)
	}
	return cert.TLS, nil
}

// typed says which of the errors of package patterns an error is.
func typed(err error) error {
	var (
		away    *cluster.UnreachableError
		expired *cluster.SessionExpiredError
		denied  *cluster.AccessDeniedError
		refused *cluster.RefusedError
	)
	switch {
	case errors.As(err, &away):
		return fmt.Errorf("%w: %w", patterns.ErrUnreachable, err)
	case errors.As(err, &expired):
		return fmt.Errorf("%w: %w", patterns.ErrExpired, err)
	case errors.As(err, &denied), errors.As(err, &refused):
		return fmt.Errorf("%w: %w", patterns.ErrDenied, err)
	default:
		return err
	}
}
