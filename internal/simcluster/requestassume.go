package simcluster

import (
	"slices"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"berth/certwatch"
)

// assume adds requests to an identity and drops others from it; "*" alone
// drops all. It returns the time at which the roles end, zero meaning that
// they do not before the session does.
func (s *requestStore) assume(id *certwatch.Identity, add, drop []string) (time.Time, error) {
	kept := without(id.ActiveRequests, drop)
	if len(drop) > 0 {
		// Dropping starts over from the user's own roles.
		if u, ok := s.c.user(id.User); ok {
			id.Roles = slices.Clone(u.Roles)
		}
		if len(drop) == 1 && drop[0] == "*" {
			id.ActiveRequests, id.AllowedResourceIDs = nil, ""
			return time.Time{}, nil
		}
		add = without(add, drop)
	}
	id.ActiveRequests, id.AllowedResourceIDs = nil, ""
	var end time.Time
	for _, rid := range append(kept, add...) {
		req, err := s.assumable(id.User, rid)
		if err != nil {
			return end, err
		}
		if at := req.GetAccessExpiry(); end.IsZero() || at.Before(end) {
			end = at
		}
		if ids := req.GetRequestedResourceIDs(); len(ids) > 0 && !slices.Contains(id.ActiveRequests, rid) {
			if id.AllowedResourceIDs != "" {
				return end, trace.BadParameter("cannot generate certificate with multiple resource access requests")
			}
			if id.AllowedResourceIDs, err = types.ResourceIDsToString(ids); err != nil {
				return end, err
			}
		}
		id.ActiveRequests = appendNew(id.ActiveRequests, rid)
		for _, role := range req.GetRoles() {
			id.Roles = appendNew(id.Roles, role)
		}
	}
	return end, nil
}

// roleEnd returns when a cert made now for those roles has to end: the
// strictest role counts. Zero means no role says.
func (c *Cluster) roleEnd(roles []string) time.Time {
	var end time.Time
	for _, r := range c.userRoles(roles) {
		if r.MaxSessionTTL <= 0 {
			continue
		}
		if at := c.now().Add(r.MaxSessionTTL); end.IsZero() || at.Before(end) {
			end = at
		}
	}
	return end
}

// assumable returns a request if its user may take its roles now.
func (s *requestStore) assumable(user, id string) (*types.AccessRequestV3, error) {
	list := s.list(func(r *types.AccessRequestV3) bool { return r.GetName() == id && r.GetUser() == user })
	if len(list) == 0 {
		return nil, trace.NotFound("access request %q not found", id)
	}
	req := list[0]
	switch state := req.GetState(); {
	case state.IsApproved():
	case state.IsDenied():
		return nil, trace.AccessDenied("access request %q has been denied", id)
	case state.IsPromoted():
		return nil, trace.AccessDenied("access request %q has been promoted. Use access list to access resources.", id)
	default:
		return nil, trace.AccessDenied("access request %q is awaiting approval", id)
	}
	if s.c.expired(req.GetAccessExpiry()) {
		return nil, trace.BadParameter("access request %q has expired", id)
	}
	if at := req.GetAssumeStartTime(); at != nil && s.c.now().Before(*at) {
		return nil, trace.BadParameter("access request %q can not be assumed until %v", id, at)
	}
	return req, nil
}
