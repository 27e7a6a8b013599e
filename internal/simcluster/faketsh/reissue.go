package faketsh

import (
	"context"
	"fmt"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/keys"

	"berth/internal/tshhome"
	"berth/internal/wake"
)

// certRequest asks for certs for the session's own keys, as long as it lasts.
func (s *session) certRequest() (proto.UserCertsRequest, error) {
	req := proto.UserCertsRequest{
		Username:       s.profile.User,
		Expires:        s.tls.Leaf.NotAfter,
		RouteToCluster: s.profile.Cluster,
	}
	if s.home.Layout == tshhome.V16 {
		req.PublicKey = s.creds.SSHPub //nolint:staticcheck // what a v16 tsh sends
		return req, nil
	}
	pub, err := keys.MarshalPublicKey(s.tls.Leaf.PublicKey)
	req.SSHPublicKey, req.TLSPublicKey = s.creds.SSHPub, pub
	return req, err
}

// reissue gets new certs for the session's keys.
func (t *tsh) reissue(ctx context.Context, s *session, change func(*proto.UserCertsRequest)) (*proto.Certs, error) {
	req, err := s.certRequest()
	if err != nil {
		return nil, err
	}
	change(&req)
	clt, err := t.auth(ctx, s, s.root())
	if err != nil {
		return nil, err
	}
	defer clt.Close()
	return clt.GenerateUserCerts(ctx, req)
}

// assume takes the roles of an access request, once it is approved.
func (t *tsh) assume(ctx context.Context, s *session, id string) error {
	req, err := t.awaitRequest(ctx, s, id)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stderr, "Approval received, reason=%q\nGetting updated certificates...\n\n", req.GetResolveReason())
	certs, err := t.reissue(ctx, s, func(r *proto.UserCertsRequest) { r.AccessRequests = []string{id} })
	if err != nil {
		return err
	}
	return s.store(certs)
}

// store writes reissued certs the way an assume does. s itself stays as it
// was.
func (s *session) store(certs *proto.Certs) error {
	creds := s.creds
	creds.Cert = certs.TLS
	creds.SSHCerts = map[string][]byte{s.profile.Cluster: certs.SSH}
	return s.home.Reissue(s.profile, creds)
}

// requestPoll is how often a pending request is looked at.
const requestPoll = 200 * time.Millisecond

// awaitRequest waits, without limit, until a request is decided.
func (t *tsh) awaitRequest(ctx context.Context, s *session, id string) (types.AccessRequest, error) {
	clt, err := t.auth(ctx, s, s.root())
	if err != nil {
		return nil, err
	}
	defer clt.Close()
	for waiting := false; ; {
		list, err := clt.GetAccessRequests(ctx, types.AccessRequestFilter{ID: id})
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("invalid access request %q", id)
		}
		switch state := list[0].GetState(); {
		case state.IsApproved():
			return list[0], nil
		case !state.IsPending():
			return nil, fmt.Errorf("request %s has been set to %s, reason=%q", id, state, list[0].GetResolveReason())
		case !waiting:
			waiting = true
			fmt.Fprintln(t.stdout, "Waiting for request approval...")
		}
		if !wake.Sleep(ctx, requestPoll) {
			return nil, ctx.Err()
		}
	}
}

// selectCluster is "tsh login LEAF" while the session is valid.
func (t *tsh) selectCluster(ctx context.Context, s *session, name string) error {
	certs, err := t.reissue(ctx, s, func(r *proto.UserCertsRequest) { r.RouteToCluster = name })
	if err != nil {
		return err
	}
	creds := s.creds
	creds.Cert = certs.TLS
	creds.SSHCerts = map[string][]byte{name: certs.SSH}
	s.profile.Cluster = name
	if err := s.home.Select(s.profile, creds); err != nil {
		return err
	}
	fresh, err := loadSession(s.home, s.profile)
	if err == nil {
		*s = *fresh
	}
	return err
}
