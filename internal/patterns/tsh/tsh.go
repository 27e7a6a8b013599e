// Package tsh talks to a cluster by running tsh and reading what it prints as
// JSON: a process for each question.
package tsh

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/tsh"
	"berth/internal/patterns"
)

// Features are what this way can do. tsh asks for a one-time code, but on a
// terminal alone.
var Features = patterns.Features{Upgrade: true}

type backend struct {
	patterns.Config

	logins sync.Mutex // "tsh db login" rewrites the files that others read
}

// Open returns a backend for the current profile of the home.
func Open(_ context.Context, cfg patterns.Config) (patterns.Backend, error) {
	if cfg.Poll <= 0 {
		return nil, errors.New("a watch needs to know how often to ask")
	}
	return &backend{Config: cfg}, nil
}

func (b *backend) Close() error { return nil }

// run runs tsh; what it prints is decoded into v, unless that is nil.
func (b *backend) run(ctx context.Context, v any, args ...string) error {
	c := tsh.Command(ctx, b.TSH, b.Home, args...)
	if b.CAFile != "" {
		c.TrustCA(b.CAFile)
	}
	out, err := c.Output()
	if err != nil || v == nil {
		return err
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(v); err != nil {
		return fmt.Errorf("read what tsh %s prints: %w", strings.Join(args[:2], " "), err)
	}
	return nil
}

// Ping lists requests, because tsh has no command that only asks the auth
// service whether it is there: "tsh status" does not fail while it is away.
func (b *backend) Ping(ctx context.Context) error {
	_, err := b.Requests(ctx)
	return err
}

func (b *backend) Databases(ctx context.Context) ([]patterns.Database, error) {
	var list []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			Protocol string `json:"protocol"`
		} `json:"spec"`
	}
	err := b.run(ctx, &list, "db", "ls", "--format=json")
	dbs := make([]patterns.Database, len(list))
	for i, db := range list {
		dbs[i] = patterns.Database{Name: db.Metadata.Name, Protocol: db.Spec.Protocol}
	}
	slices.SortFunc(dbs, func(a, b patterns.Database) int { return strings.Compare(a.Name, b.Name) })
	return dbs, err
}

func (b *backend) Requests(ctx context.Context) ([]patterns.Request, error) {
	var list []struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec struct {
			User   string   `json:"user"`
			Roles  []string `json:"roles"`
			State  int      `json:"state"`
			Reason string   `json:"request_reason"`
		} `json:"spec"`
	}
	err := b.run(ctx, &list, "request", "ls", "--my-requests", "--format=json")
	own := make([]patterns.Request, len(list))
	for i, r := range list {
		own[i] = patterns.Request{
			ID: r.Metadata.Name, User: r.Spec.User, Roles: r.Spec.Roles, Reason: r.Spec.Reason, State: patterns.StateOf(r.Spec.State),
		}
	}
	return own, err
}

// WatchRequests lists again and again: tsh cannot watch.
func (b *backend) WatchRequests(ctx context.Context, handle func(patterns.Request)) error {
	known := make(map[string]patterns.State)
	tick := time.NewTicker(b.Poll)
	defer tick.Stop()
	for {
		list, err := b.Requests(ctx)
		if err != nil {
			return err
		}
		for _, r := range list {
			if known[r.ID] != r.State {
				known[r.ID] = r.State
				handle(r)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// MintDB logs in to the database, which leaves a certificate in the home, and
// reads it from where tsh says it is.
func (b *backend) MintDB(ctx context.Context, to patterns.Route) (*tls.Certificate, error) {
	if to.Code != "" {
		return nil, errors.New("tsh takes a one-time code on a terminal only")
	}
	b.logins.Lock()
	defer b.logins.Unlock()
	as := []string{"--db-user=" + to.User, "--db-name=" + to.Name, to.Database}
	if err := b.run(ctx, nil, append([]string{"db", "login"}, as...)...); err != nil {
		return nil, err
	}
	var files struct {
		Cert string `json:"cert"`
		Key  string `json:"key"`
	}
	if err := b.run(ctx, &files, append([]string{"db", "config", "--format=json"}, as[2])...); err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	return &cert, err
}
