package simcluster

import (
	"context"
	"crypto"
	"slices"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/utils/keys"
	"github.com/gravitational/trace"
	"golang.org/x/crypto/ssh"

	"berth/certwatch"
)

// certKeys are the public keys a client wants certified, nil where it wants no
// cert of that kind.
type certKeys struct {
	tls crypto.PublicKey
	ssh ssh.PublicKey
}

// keysOf reads the public keys of a request the way the cluster's version
// does. A v16 server knows PublicKey only: without it, it complains of a key
// it cannot parse.
func (c *Cluster) keysOf(req *proto.UserCertsRequest) (certKeys, error) {
	legacy := req.PublicKey //nolint:staticcheck // what a v16 server knows
	if c.cfg.Version == V16 || (req.SSHPublicKey == nil && req.TLSPublicKey == nil) {
		key, err := parseAuthorizedKey(legacy)
		if err != nil {
			return certKeys{}, trace.BadParameter("%v", err)
		}
		pub, err := publicKeyOf(key)
		if err != nil {
			return certKeys{}, trace.BadParameter("%v", err)
		}
		return certKeys{tls: pub, ssh: key}, nil
	}
	var ck certKeys
	var err error
	if req.SSHPublicKey != nil {
		if ck.ssh, err = parseAuthorizedKey(req.SSHPublicKey); err != nil {
			return certKeys{}, trace.BadParameter("%v", err)
		}
	}
	if req.TLSPublicKey != nil {
		if ck.tls, err = keys.ParsePublicKey(req.TLSPublicKey); err != nil {
			return certKeys{}, trace.BadParameter("%v", err)
		}
	}
	return ck, nil
}

// GenerateUserCerts reissues the caller's certs, for what the request routes
// them to.
func (a *authService) GenerateUserCerts(ctx context.Context, req *proto.UserCertsRequest) (*proto.Certs, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	if a.site.root != nil {
		return nil, trace.AccessDenied("access denied: %q is a remote user and cannot be issued certificates here", who.identity.User)
	}
	if req.Username != who.identity.User {
		return nil, trace.AccessDenied("access denied: impersonation is not allowed")
	}
	if who.identity.DisallowReissue {
		return nil, trace.AccessDenied("access denied: identity is not allowed to reissue certificates")
	}
	now := a.c.now()
	if req.Expires.Before(now) {
		return nil, trace.AccessDenied("access denied: client credentials have expired, please relogin.")
	}
	if a.c.cfg.PrivateKeyPolicy != "none" {
		return nil, trace.BadParameter("private key policy not met: %s", a.c.cfg.PrivateKeyPolicy)
	}
	ck, err := a.c.keysOf(req)
	if err != nil {
		return nil, err
	}
	id, route, err := a.routeIdentity(who.identity, req)
	if err != nil {
		return nil, err
	}
	singleUse, err := a.secondFactor(ctx, &id, a.c.faults.sessionEnd(who.cert), req)
	if err != nil {
		return nil, err
	}
	rolesEnd, err := a.c.requests.assume(&id, req.AccessRequests, req.DropAccessRequests)
	if err != nil {
		return nil, err
	}
	a.c.grants(&id)
	// Never longer than the session; and that may have ended, because the server
	// checks the cert only when a connection is opened.
	notAfter := req.Expires
	if end := a.c.faults.sessionEnd(who.cert); notAfter.After(end) {
		notAfter = end
	}
	for _, end := range []time.Time{rolesEnd, a.c.roleEnd(id.Roles), singleUse} {
		if !end.IsZero() && end.Before(notAfter) {
			notAfter = end
		}
	}
	certs, err := a.c.issue(order{identity: id, notAfter: notAfter, tls: ck.tls, ssh: ck.ssh})
	if err != nil {
		return nil, trace.Wrap(err)
	}
	a.c.counters.minted(route)
	if req.Purpose == proto.UserCertsRequest_CERT_PURPOSE_SINGLE_USE_CERTS {
		return &proto.Certs{TLS: certs.tls}, nil
	}
	return &proto.Certs{
		SSH:        certs.ssh,
		TLS:        certs.tls,
		TLSCACerts: [][]byte{a.c.root.trust.Load().hostCA.pem},
		SSHCACerts: [][]byte{ssh.MarshalAuthorizedKey(a.c.root.trust.Load().hostCA.signer.PublicKey())},
	}, nil
}

// routeIdentity returns the identity a request asks for, and the route's name
// for the counters.
func (a *authService) routeIdentity(id certwatch.Identity, req *proto.UserCertsRequest) (certwatch.Identity, string, error) {
	id.Usage, id.KubeCluster = nil, ""
	id.DBService, id.DBProtocol, id.DBUser, id.DBName, id.DBRoles = "", "", "", "", nil
	site := a.c.root
	if req.RouteToCluster != "" {
		if site = a.c.site(req.RouteToCluster); site == nil {
			return id, "", trace.NotFound("remote cluster %q is not found", req.RouteToCluster)
		}
		id.RouteToCluster = req.RouteToCluster
	}
	route := ""
	if db := req.RouteToDatabase; db.ServiceName != "" { // whether there is such a service is not asked here
		id.DBService, id.DBProtocol, id.DBUser, id.DBName, id.DBRoles =
			db.ServiceName, db.Protocol, db.Username, db.Database, db.Roles
		route = "db/" + site.key(db.ServiceName)
	}
	if name := req.KubernetesCluster; name != "" {
		if _, ok := site.kube(name); !ok {
			return id, "", trace.BadParameter("Kubernetes cluster %q is not registered in this Teleport cluster; you can list registered Kubernetes clusters using 'tsh kube ls'", name)
		}
		id.KubeCluster = name
		route = "kube/" + site.key(name)
	}
	switch req.Usage {
	case proto.UserCertsRequest_Database:
		id.Usage = []string{"usage:db"}
	case proto.UserCertsRequest_Kubernetes:
		id.Usage = []string{"usage:kube"}
	case proto.UserCertsRequest_App:
		id.Usage = []string{"usage:apps"}
	default:
	}
	return id, route, nil
}

// IsMFARequired tells whether reaching the target takes per-session MFA.
func (a *authService) IsMFARequired(ctx context.Context, req *proto.IsMFARequiredRequest) (*proto.IsMFARequiredResponse, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	roles := who.identity.Roles
	no := &proto.IsMFARequiredResponse{MFARequired: proto.MFARequired_MFA_REQUIRED_NO}
	if name := req.GetKubernetesCluster(); name != "" && a.c.anyMFA(roles) {
		kube, ok := a.site.kube(name)
		if !ok {
			return nil, trace.NotFound("kubernetes cluster %q not found", name)
		}
		if a.c.kubeMFARequired(roles, kube) {
			return &proto.IsMFARequiredResponse{Required: true, MFARequired: proto.MFARequired_MFA_REQUIRED_YES}, nil
		}
		return no, nil
	}
	target := req.GetDatabase()
	if target == nil || !a.c.anyMFA(roles) {
		return no, nil // nothing is looked up while no role wants MFA
	}
	db, ok := a.site.database(target.ServiceName)
	if !ok {
		return nil, trace.NotFound("database service %q not found", target.ServiceName)
	}
	if !a.c.mfaRequired(roles, db) {
		return no, nil
	}
	return &proto.IsMFARequiredResponse{Required: true, MFARequired: proto.MFARequired_MFA_REQUIRED_YES}, nil
}

// expired reports whether t has passed by the cluster's clock.
func (c *Cluster) expired(t time.Time) bool { return !c.now().Before(t) }

// without returns list less what is in drop.
func without(list, drop []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}
