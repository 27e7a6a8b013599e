package requests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/agent/access"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
)

// DropRequests gives roles up: those of a tunnel, or those of the session and
// of all tunnels that have a named request's.
func (rs *Requests) DropRequests(ctx context.Context, ids []string, tunnel string) ([]string, error) {
	if tunnel != "" {
		if err := rs.mustHave(tunnel); err != nil {
			return nil, err
		}
	}
	wanted := make([]string, 0, len(ids))
	for _, id := range ids {
		r, err := rs.findActive(id)
		if err != nil {
			return nil, rs.requestIPC(err, state.Request{ID: id})
		}
		wanted = append(wanted, r)
	}
	named := func(id string) bool { return len(wanted) == 0 || slices.Contains(wanted, id) }
	dropped := rs.dropGrants(tunnel, named)
	if tunnel == "" {
		for _, f := range rs.cfg.Sessions.All() {
			more, err := rs.dropOf(ctx, f, wanted, named)
			if err != nil {
				return nil, rs.requestIPC(err, state.Request{Profile: f.Profile.ProxyAddr})
			}
			dropped = append(dropped, more...)
		}
	}
	slices.Sort(dropped)
	dropped = slices.Compact(dropped)
	if len(dropped) == 0 && (len(ids) > 0 || tunnel != "") {
		return nil, &ipc.Error{Code: ipc.CodeNotFound, Message: "no such access request is assumed", Hint: `see "berth request ls --mine"`}
	}
	rs.cfg.Publish()
	return dropped, nil
}

// findActive finds an assumed request by the beginning of its id. One may be
// assumed that is listed no more.
func (rs *Requests) findActive(id string) (string, error) {
	var active []state.Request
	add := func(id string) {
		if !slices.ContainsFunc(active, func(r state.Request) bool { return r.ID == id }) {
			active = append(active, state.Request{ID: id})
		}
	}
	for _, f := range rs.cfg.Sessions.All() {
		if f.Valid(time.Now()) {
			for _, id := range f.Profile.Session.Identity.ActiveRequests {
				add(id)
			}
		}
	}
	for id := range rs.cfg.Memory.Granted() {
		add(id)
	}
	r, err := access.Find(active, id)
	if _, unknown := errors.AsType[*access.UnknownIDError](err); unknown {
		return "", &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("access request %q is not assumed", access.Clean(id, 200)), Hint: `see "berth request ls --mine"`}
	}
	return r.ID, err
}

func (rs *Requests) dropGrants(tunnel string, named func(string) bool) []string {
	var dropped []string
	for id, tunnels := range rs.cfg.Memory.Granted() {
		for _, t := range tunnels {
			if (tunnel == "" || t == tunnel) && named(id) {
				rs.cfg.Tunnels.Ungrant(t, id)
				dropped = append(dropped, id)
			}
		}
	}
	return dropped
}

// dropOf drops a session's requests; ids are those that were named.
func (rs *Requests) dropOf(ctx context.Context, f sessions.Session, ids []string, named func(string) bool) ([]string, error) {
	if !f.Valid(time.Now()) {
		return nil, nil
	}
	var dropped []string
	err := rs.changeSession(ctx, f, func(f sessions.Session) error {
		drop := slices.DeleteFunc(slices.Clone(f.Profile.Session.Identity.ActiveRequests), func(id string) bool { return !named(id) })
		if len(drop) == 0 {
			return nil
		}
		what := drop
		if len(ids) == 0 {
			what = nil // all, those unknown here included
		}
		if err := rs.changer(f, true).Drop(ctx, what...); err != nil {
			return err
		}
		dropped = drop
		rs.log.Info("access requests dropped", "request_ids", drop, "profile", f.Profile.ProxyAddr)
		_, err := rs.awaitRequests(ctx, f.Profile, func(active []string) bool {
			return !slices.ContainsFunc(active, func(id string) bool { return slices.Contains(drop, id) })
		})
		return err
	})
	return dropped, err
}
