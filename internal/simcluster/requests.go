package simcluster

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"berth/certwatch"
)

// AccessRequest is a request for more roles.
type AccessRequest struct {
	ID      string
	User    string
	Roles   []string
	State   types.RequestState
	Reason  string
	Created time.Time // zero means now
	Expires time.Time // zero means in an hour
	// AssumeStart is when the roles may first be used; zero means at once.
	AssumeStart time.Time
}

// requestStore holds the access requests.
type requestStore struct {
	mu   sync.Mutex
	byID map[string]AccessRequest
}

// PutAccessRequest adds an access request, or replaces the one of that id.
func (c *Cluster) PutAccessRequest(r AccessRequest) {
	if r.Created.IsZero() {
		r.Created = c.now()
	}
	if r.Expires.IsZero() {
		r.Expires = r.Created.Add(time.Hour)
	}
	s := &c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[string]AccessRequest)
	}
	s.byID[r.ID] = r
}

// of returns a user's requests that have not lapsed, oldest first.
func (s *requestStore) of(user string, expired func(time.Time) bool) []AccessRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []AccessRequest
	for _, r := range s.byID {
		if r.User == user && !expired(r.Expires) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b AccessRequest) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// assume adds requests to an identity and drops others from it; "*" drops all.
func (s *requestStore) assume(id *certwatch.Identity, c *Cluster, add, drop []string) error {
	kept := without(id.ActiveRequests, drop)
	if slices.Contains(drop, "*") {
		kept = nil
	}
	if len(drop) > 0 {
		// Dropping starts over from the user's own roles.
		if u, ok := c.user(id.User); ok {
			id.Roles = slices.Clone(u.Roles)
		}
	}
	id.ActiveRequests = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rid := range append(kept, add...) {
		r, ok := s.byID[rid]
		if !ok || r.User != id.User || c.expired(r.Expires) {
			return trace.NotFound("access request %q not found", rid)
		}
		if err := assumable(r, c.now()); err != nil {
			return err
		}
		id.ActiveRequests = appendNew(id.ActiveRequests, rid)
		for _, role := range r.Roles {
			id.Roles = appendNew(id.Roles, role)
		}
	}
	return nil
}

func assumable(r AccessRequest, now time.Time) error {
	switch r.State {
	case types.RequestState_APPROVED:
	case types.RequestState_DENIED:
		return trace.AccessDenied("access request %q has been denied", r.ID)
	default:
		return trace.AccessDenied("access request %q is awaiting approval", r.ID)
	}
	if now.Before(r.AssumeStart) {
		return trace.AccessDenied("access request %q can not be assumed until %v", r.ID, r.AssumeStart.UTC())
	}
	return nil
}

// GetAccessRequestsV2 streams the caller's own access requests.
func (a *authService) GetAccessRequestsV2(filter *types.AccessRequestFilter, stream proto.AuthService_GetAccessRequestsV2Server) error {
	who, err := a.caller(stream.Context())
	if err != nil {
		return err
	}
	for _, r := range a.c.requests.of(who.identity.User, a.c.expired) {
		req, err := r.resource()
		if err != nil {
			return trace.Wrap(err)
		}
		if !filter.Match(req) {
			continue
		}
		if err := stream.Send(req); err != nil {
			return trace.Wrap(err)
		}
	}
	return nil
}

func (r AccessRequest) resource() (*types.AccessRequestV3, error) {
	req := &types.AccessRequestV3{
		Metadata: types.Metadata{Name: r.ID},
		Spec: types.AccessRequestSpecV3{
			User: r.User, Roles: r.Roles, State: r.State, RequestReason: r.Reason,
			Created: r.Created.UTC(), Expires: r.Expires.UTC(),
			MaxDuration: r.Expires.UTC(), SessionTTL: r.Expires.UTC(),
		},
	}
	req.SetExpiry(r.Expires.UTC())
	if err := req.CheckAndSetDefaults(); err != nil {
		return nil, err
	}
	return req, nil
}
