package simcluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/client/proto"
	clusterconfigpb "github.com/gravitational/teleport/api/gen/proto/go/teleport/clusterconfig/v1"
	trustpb "github.com/gravitational/teleport/api/gen/proto/go/teleport/trust/v1"
	userspb "github.com/gravitational/teleport/api/gen/proto/go/teleport/users/v1"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Ping tells the version and name of the cluster.
func (a *authService) Ping(context.Context, *proto.PingRequest) (*proto.PingResponse, error) {
	return &proto.PingResponse{
		ClusterName:     a.site.name,
		ServerVersion:   a.c.cfg.Version,
		ProxyPublicAddr: a.c.ProxyAddr(),
		ServerFeatures:  &proto.Features{Kubernetes: true, DB: true, App: true, AccessRequests: &proto.AccessRequestsFeature{}},
		LicenseExpiry:   nil,
	}, nil
}

// GetDomainName returns the cluster's name.
func (a *authService) GetDomainName(context.Context, *emptypb.Empty) (*proto.GetDomainNameResponse, error) {
	return &proto.GetDomainNameResponse{DomainName: a.site.name}, nil
}

// GetClusterCACert returns the host CA.
func (a *authService) GetClusterCACert(context.Context, *emptypb.Empty) (*proto.GetClusterCACertResponse, error) {
	return &proto.GetClusterCACertResponse{TLSCA: a.site.trust.Load().hostCA.pem}, nil
}

// GetCurrentUser returns the caller, as older clients ask for it.
func (a *authService) GetCurrentUser(ctx context.Context, _ *emptypb.Empty) (*types.UserV2, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	u, err := types.NewUser(who.identity.User)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	u.SetRoles(who.identity.Roles)
	u.SetTraits(who.identity.Traits)
	v2, ok := u.(*types.UserV2)
	if !ok {
		return nil, trace.BadParameter("unexpected user type %T", u)
	}
	return v2, nil
}

// GetCurrentUserRoles streams the caller's roles.
func (a *authService) GetCurrentUserRoles(_ *emptypb.Empty, stream proto.AuthService_GetCurrentUserRolesServer) error {
	who, err := a.caller(stream.Context())
	if err != nil {
		return err
	}
	for _, r := range a.c.userRoles(who.identity.Roles) {
		role, err := r.resource()
		if err != nil {
			return trace.Wrap(err)
		}
		if err := stream.Send(role); err != nil {
			return trace.Wrap(err)
		}
	}
	return nil
}

// resource returns the role as Teleport describes it.
func (r Role) resource() (*types.RoleV6, error) {
	spec := types.RoleSpecV6{
		Options: types.RoleOptions{
			MaxSessionTTL:         types.Duration(r.MaxSessionTTL),
			DisconnectExpiredCert: types.Bool(r.DisconnectExpiredCert),
		},
		Allow: types.RoleConditions{
			DatabaseUsers: orAny(r.DBUsers),
			DatabaseNames: orAny(r.DBNames),
			KubeUsers:     r.KubeUsers,
			KubeGroups:    r.KubeGroups,
		},
	}
	switch rule := types.NewRule(types.KindSession, []string{types.VerbList, types.VerbRead}); r.Recordings {
	case "":
		spec.Allow.Rules = append(spec.Allow.Rules, rule)
	case RecordingsOwn:
		rule.Where = "contains(session.participants, user.metadata.name)"
		spec.Allow.Rules = append(spec.Allow.Rules, rule)
	}
	if !r.NoDatabases {
		spec.Allow.DatabaseLabels = orAnyLabel(r.DBLabels)
	}
	if !r.NoKubes {
		spec.Allow.KubernetesLabels = orAnyLabel(r.KubeLabels)
	}
	if r.RequireSessionMFA {
		spec.Options.RequireMFAType = types.RequireMFAType_SESSION
	}
	role, err := types.NewRole(r.Name, spec)
	if err != nil {
		return nil, err
	}
	v6, ok := role.(*types.RoleV6)
	if !ok {
		return nil, fmt.Errorf("unexpected role type %T", role)
	}
	return v6, nil
}

func orAnyLabel(labels map[string][]string) types.Labels {
	if labels == nil {
		return types.Labels{"*": []string{"*"}}
	}
	l := make(types.Labels)
	for key, values := range labels {
		l[key] = values
	}
	return l
}

func orAny(list []string) []string {
	if list == nil {
		return []string{"*"}
	}
	return list
}

// GetAuthPreference returns the cluster's settings, which any user may read.
func (a *authService) GetAuthPreference(context.Context, *emptypb.Empty) (*types.AuthPreferenceV2, error) {
	return a.authPreference()
}

func (a *authService) authPreference() (*types.AuthPreferenceV2, error) {
	pref, err := types.NewAuthPreference(types.AuthPreferenceSpecV2{
		Type:                  "local",
		SecondFactor:          "off",
		DisconnectExpiredCert: types.NewBoolOption(a.c.cfg.DisconnectExpiredCert),
	})
	if err != nil {
		return nil, trace.Wrap(err)
	}
	v2, ok := pref.(*types.AuthPreferenceV2)
	if !ok {
		return nil, trace.BadParameter("unexpected preference type %T", pref)
	}
	return v2, nil
}

// ListResources lists one kind of resource, a page at a time.
func (a *authService) ListResources(ctx context.Context, req *proto.ListResourcesRequest) (*proto.ListResourcesResponse, error) {
	all, err := a.resources(ctx, req.ResourceType)
	if err != nil {
		return nil, err
	}
	all = filterLabels(all, req.Labels)
	page, next := pageOf(all, req.StartKey, int(req.Limit))
	return &proto.ListResourcesResponse{Resources: page, NextKey: next, TotalCount: int32(len(all))}, nil
}

// ListUnifiedResources lists resources of several kinds, a page at a time.
func (a *authService) ListUnifiedResources(ctx context.Context, req *proto.ListUnifiedResourcesRequest) (*proto.ListUnifiedResourcesResponse, error) {
	kinds := req.Kinds
	if len(kinds) == 0 {
		kinds = []string{types.KindDatabase, types.KindKubernetesCluster}
	}
	var all []*proto.PaginatedResource
	for _, kind := range kinds {
		switch kind {
		case types.KindDatabase:
			kind = types.KindDatabaseServer
		case types.KindKubernetesCluster:
			kind = types.KindKubeServer
		}
		list, err := a.resources(ctx, kind)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	page, next := pageOf(filterLabels(all, req.Labels), req.StartKey, int(req.Limit))
	return &proto.ListUnifiedResourcesResponse{Resources: page, NextKey: next}, nil
}

// resources returns what of a kind the caller may see, by name.
func (a *authService) resources(ctx context.Context, kind string) ([]*proto.PaginatedResource, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	var list []*proto.PaginatedResource
	switch kind {
	case types.KindDatabaseServer:
		for _, db := range a.site.databases(who.identity) {
			for replica := range db.Replicas {
				server, err := db.resource(a.c.cfg.Version, replica)
				if err != nil {
					return nil, trace.Wrap(err)
				}
				list = append(list, &proto.PaginatedResource{
					Resource: &proto.PaginatedResource_DatabaseServer{DatabaseServer: server},
				})
			}
		}
	case types.KindKubernetesCluster, types.KindKubeServer:
		for _, k := range a.site.kubeClusters(who.identity) {
			r, err := k.resource(kind)
			if err != nil {
				return nil, trace.Wrap(err)
			}
			list = append(list, r)
		}
	case types.KindNode, types.KindAppServer, types.KindWindowsDesktop, types.KindUserGroup: // there are none
	default:
		return nil, trace.NotImplemented("resource type %s does not support pagination", kind)
	}
	return list, nil
}

func (db Database) resource(version string, replica int) (*types.DatabaseServerV3, error) {
	meta := types.Metadata{Name: db.Name, Description: db.Description, Labels: db.Labels}
	v3, err := types.NewDatabaseV3(meta, types.DatabaseSpecV3{Protocol: db.Protocol, URI: db.URI})
	if err != nil {
		return nil, err
	}
	v3.SetMySQLServerVersion(db.version)
	host := fmt.Sprintf("host-%d", replica)
	return types.NewDatabaseServerV3(types.Metadata{Name: db.Name}, types.DatabaseServerSpecV3{
		HostID: host, Hostname: host, Version: version, Database: v3,
	})
}

func (k Kube) resource(kind string) (*proto.PaginatedResource, error) {
	meta := types.Metadata{Name: k.Name, Labels: k.Labels}
	v3, err := types.NewKubernetesClusterV3(meta, types.KubernetesClusterSpecV3{})
	if err != nil {
		return nil, err
	}
	if kind == types.KindKubernetesCluster {
		return &proto.PaginatedResource{Resource: &proto.PaginatedResource_KubeCluster{KubeCluster: v3}}, nil
	}
	server, err := types.NewKubernetesServerV3FromCluster(v3, "host-0", "host-0")
	if err != nil {
		return nil, err
	}
	return &proto.PaginatedResource{Resource: &proto.PaginatedResource_KubernetesServer{KubernetesServer: server}}, nil
}

func filterLabels(list []*proto.PaginatedResource, want map[string]string) []*proto.PaginatedResource {
	if len(want) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(r *proto.PaginatedResource) bool {
		var labels map[string]string
		switch {
		case r.GetDatabaseServer() != nil:
			labels = r.GetDatabaseServer().GetDatabase().GetAllLabels()
		case r.GetKubeCluster() != nil:
			labels = r.GetKubeCluster().GetAllLabels()
		case r.GetKubernetesServer() != nil:
			labels = r.GetKubernetesServer().GetCluster().GetAllLabels()
		}
		for key, value := range want {
			if labels[key] != value {
				return true
			}
		}
		return false
	})
}

// pageOf returns at most limit resources from the start key on, and the key of
// the next page; keys are positions.
func pageOf(all []*proto.PaginatedResource, startKey string, limit int) ([]*proto.PaginatedResource, string) {
	start := 0
	if startKey != "" {
		if _, err := fmt.Sscanf(startKey, "at-%d", &start); err != nil {
			start = len(all)
		}
	}
	start = min(max(start, 0), len(all))
	end := len(all)
	if limit > 0 {
		end = min(start+limit, end)
	}
	if end == len(all) {
		return all[start:], ""
	}
	return all[start:end], fmt.Sprintf("at-%d", end)
}

// trustService answers for certificate authorities.
type trustService struct {
	trustpb.UnimplementedTrustServiceServer
	a *authService
}

// GetCertAuthorities lists the CAs of the cluster and, at the root, of the
// leaves that joined it. Any user may ask.
func (t trustService) GetCertAuthorities(ctx context.Context, req *trustpb.GetCertAuthoritiesRequest) (*trustpb.GetCertAuthoritiesResponse, error) {
	if _, err := t.a.caller(ctx); err != nil {
		return nil, err
	}
	if req.IncludeKey {
		return nil, trace.AccessDenied("access denied to perform action \"read\" on \"cert_authority\"")
	}
	kind := types.CertAuthType(req.Type)
	if kind != types.HostCA && kind != types.UserCA {
		return nil, trace.BadParameter("'%v' authority type is not supported", req.Type)
	}
	resp := new(trustpb.GetCertAuthoritiesResponse)
	for _, s := range t.a.c.trustedBy(t.a.site) {
		ca, err := s.certAuthority(kind)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		resp.CertAuthoritiesV2 = append(resp.CertAuthoritiesV2, ca)
	}
	return resp, nil
}

// trustedBy returns the clusters whose CAs a cluster knows.
func (c *Cluster) trustedBy(s *Site) []*Site {
	if s.root != nil {
		return []*Site{s, s.root}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sites := make([]*Site, 0, 1+len(c.leaves))
	for _, leaf := range c.leaves {
		sites = append(sites, leaf)
	}
	slices.SortFunc(sites, func(a, b *Site) int { return strings.Compare(a.name, b.name) })
	return append([]*Site{s}, sites...)
}

func (s *Site) certAuthority(kind types.CertAuthType) (*types.CertAuthorityV2, error) {
	ca := s.trust.Load().hostCA
	if kind == types.UserCA {
		ca = s.trust.Load().userCA
	}
	res, err := types.NewCertAuthority(types.CertAuthoritySpecV2{
		Type:        kind,
		ClusterName: s.name,
		ActiveKeys: types.CAKeySet{
			SSH: []*types.SSHKeyPair{{PublicKey: ssh.MarshalAuthorizedKey(ca.signer.PublicKey())}},
			TLS: []*types.TLSKeyPair{{Cert: ca.pem}},
		},
	})
	if err != nil {
		return nil, err
	}
	v2, ok := res.(*types.CertAuthorityV2)
	if !ok {
		return nil, fmt.Errorf("unexpected CA type %T", res)
	}
	return v2, nil
}

// usersService answers for users.
type usersService struct {
	userspb.UnimplementedUsersServiceServer
	a *authService
}

// GetUser returns the caller and refuses any other user.
func (u usersService) GetUser(ctx context.Context, req *userspb.GetUserRequest) (*userspb.GetUserResponse, error) {
	user, err := u.a.GetCurrentUser(ctx, nil)
	if err != nil {
		return nil, err
	}
	if !req.CurrentUser && req.Name != user.GetName() {
		return nil, trace.AccessDenied("access denied to perform action \"read\" on \"user\"")
	}
	return &userspb.GetUserResponse{User: user}, nil
}

// clusterConfigService answers for the cluster's settings.
type clusterConfigService struct {
	clusterconfigpb.UnimplementedClusterConfigServiceServer
	a *authService
}

// GetAuthPreference returns the cluster's settings.
func (s clusterConfigService) GetAuthPreference(context.Context, *clusterconfigpb.GetAuthPreferenceRequest) (*types.AuthPreferenceV2, error) {
	return s.a.authPreference()
}
