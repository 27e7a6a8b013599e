package simcluster

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// AccessRequest is a request for more roles, as a test puts it into a cluster.
type AccessRequest struct {
	ID      string // empty means a random one
	User    string
	Roles   []string
	State   types.RequestState // zero means pending
	Reason  string
	Created time.Time // zero means now
	Expires time.Time // of the request and the access alike; zero means in an hour
	// AssumeStart is when the roles may first be used; zero means at once.
	AssumeStart time.Time
	// ResolveReason is why it was decided as it was.
	ResolveReason string
}

// requestStore holds the access requests and tells watchers of changes.
type requestStore struct {
	c *Cluster

	mu       sync.Mutex
	byID     map[string]*types.AccessRequestV3 // never changed once stored
	watchers map[*requestWatcher]struct{}
	faults   watchFaults
}

func newRequestStore(c *Cluster) *requestStore {
	return &requestStore{
		c:        c,
		byID:     make(map[string]*types.AccessRequestV3),
		watchers: make(map[*requestWatcher]struct{}),
	}
}

// PutAccessRequest adds an access request, or replaces the one of that id. It
// returns the id.
func (c *Cluster) PutAccessRequest(r AccessRequest) string {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	if r.Created.IsZero() {
		r.Created = c.now()
	}
	if r.Expires.IsZero() {
		r.Expires = r.Created.Add(time.Hour)
	}
	req := &types.AccessRequestV3{
		Metadata: types.Metadata{Name: r.ID},
		Spec: types.AccessRequestSpecV3{
			User: r.User, Roles: r.Roles, State: cmp.Or(r.State, types.RequestState_PENDING), RequestReason: r.Reason,
			ResolveReason: r.ResolveReason,
			Created:       r.Created.UTC(), Expires: r.Expires.UTC(),
			MaxDuration: r.Expires.UTC(), SessionTTL: r.Expires.UTC(),
		},
	}
	if !r.AssumeStart.IsZero() {
		req.SetAssumeStartTime(r.AssumeStart)
	}
	req.SetExpiry(r.Expires.UTC())
	c.requestThresholds(req)
	c.PutAccessRequestV3(req)
	return r.ID
}

// PutAccessRequestV3 adds an access request as Teleport describes it, or
// replaces the one of that id.
func (c *Cluster) PutAccessRequestV3(req *types.AccessRequestV3) {
	s := c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(req)
}

// AccessRequest returns a request as it is now, and whether there is one.
func (c *Cluster) AccessRequest(id string) (*types.AccessRequestV3, bool) {
	s := c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	req, ok := s.byID[id]
	if !ok {
		return nil, false
	}
	return cloneRequest(req), true
}

// AccessRequests returns all requests as they are now, the oldest first.
func (c *Cluster) AccessRequests() []*types.AccessRequestV3 {
	return c.requests.list(func(*types.AccessRequestV3) bool { return true })
}

// ResolveAccessRequest decides a request as an administrator does with "tctl
// request approve" or "deny".
func (c *Cluster) ResolveAccessRequest(id string, state types.RequestState, reason string) error {
	return c.requests.setState(types.AccessRequestUpdate{RequestID: id, State: state, Reason: reason})
}

// DeleteAccessRequest takes a request away, as "tctl request rm" does.
func (c *Cluster) DeleteAccessRequest(id string) {
	s := c.requests
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleteLocked(id)
}

func cloneRequest(req *types.AccessRequestV3) *types.AccessRequestV3 {
	out, ok := req.Copy().(*types.AccessRequestV3)
	if !ok {
		panic("an access request's copy is none")
	}
	return out
}

// putLocked stores a copy and tells the watchers.
func (s *requestStore) putLocked(req *types.AccessRequestV3) {
	req = cloneRequest(req)
	if err := req.CheckAndSetDefaults(); err != nil {
		panic(err) // a test's mistake: what clients send is checked before
	}
	req.SetRevision(uuid.NewString())
	s.byID[req.GetName()] = req
	s.tellLocked(types.Event{Type: types.OpPut, Resource: req})
}

func (s *requestStore) deleteLocked(id string) {
	if _, ok := s.byID[id]; !ok {
		return
	}
	delete(s.byID, id)
	s.tellLocked(types.Event{Type: types.OpDelete, Resource: &types.ResourceHeader{
		Kind: types.KindAccessRequest, Version: types.V3, Metadata: types.Metadata{Name: id, Namespace: "default"},
	}})
}

// sweepLocked deletes what has lapsed.
func (s *requestStore) sweepLocked() {
	for id, req := range s.byID {
		if s.c.expired(req.Expiry()) {
			s.deleteLocked(id)
		}
	}
}

// list returns what matches, oldest first.
func (s *requestStore) list(match func(*types.AccessRequestV3) bool) []*types.AccessRequestV3 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	var list []*types.AccessRequestV3
	for _, req := range s.byID {
		if match(req) {
			list = append(list, req)
		}
	}
	slices.SortFunc(list, func(a, b *types.AccessRequestV3) int {
		return cmp.Or(a.GetCreationTime().Compare(b.GetCreationTime()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return list
}

// update changes one request under the lock.
func (s *requestStore) update(id, notFound string, change func(*types.AccessRequestV3) error) (*types.AccessRequestV3, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	stored, ok := s.byID[id]
	if !ok {
		return nil, trace.NotFound(notFound, id)
	}
	req := cloneRequest(stored)
	if err := change(req); err != nil {
		return nil, err
	}
	s.putLocked(req)
	return req, nil
}

// setState decides a request whatever its reviews say. A denial overrules an
// approval; nothing overrules a denial.
func (s *requestStore) setState(u types.AccessRequestUpdate) error {
	if err := u.Check(); err != nil {
		return err
	}
	_, err := s.update(u.RequestID, "cannot set state of access request %q (not found)", func(req *types.AccessRequestV3) error {
		if err := req.SetState(u.State); err != nil {
			return err
		}
		req.SetResolveReason(u.Reason)
		for _, role := range u.Roles {
			if !slices.Contains(req.GetRoles(), role) {
				return trace.BadParameter("role %q not in original request, overrides must be a subset of original role list", role)
			}
		}
		if len(u.Roles) > 0 {
			req.SetRoles(u.Roles)
		}
		if u.AssumeStartTime != nil {
			if err := types.ValidateAssumeStartTime(*u.AssumeStartTime, req.GetAccessExpiry(), req.GetCreationTime()); err != nil {
				return err
			}
			req.SetAssumeStartTime(*u.AssumeStartTime)
		}
		if u.State.IsApproved() {
			req.SetExpiry(req.GetAccessExpiry())
		}
		return nil
	})
	return err
}
