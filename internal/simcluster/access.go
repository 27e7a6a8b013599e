package simcluster

import (
	"slices"

	"github.com/gravitational/teleport/api/types"

	"berth/certwatch"
	"berth/internal/simcluster/simdb"
)

// Refusals of the database service, in its own words.
var (
	errDBDenied            = denied("access to db denied. User does not have permissions. Confirm database user and name.")
	errDBNotAmongResources = denied("access to db denied, not in allowed resource IDs")
	errDBNeedsMFA          = denied("access to resource requires MFA")
)

func denied(words string) error { return &simdb.DeniedError{Words: words} }

// allowsDB reports whether the role allows the database at all.
func (r Role) allowsDB(db Database) bool {
	if r.NoDatabases {
		return false
	}
	for key, values := range r.DBLabels {
		if !slices.Contains(values, "*") && !slices.Contains(values, db.Labels[key]) {
			return false
		}
	}
	return true
}

func allows(list []string, value string) bool {
	return list == nil || slices.Contains(list, "*") || slices.Contains(list, value)
}

// reaches reports whether an identity may have to do with a resource of the
// site at all: an identity from a request for resources reaches those alone,
// whatever its roles allow.
func (s *Site) reaches(id certwatch.Identity, kind, name string) bool {
	if id.AllowedResourceIDs == "" {
		return true
	}
	ids, err := types.ResourceIDsFromString(id.AllowedResourceIDs)
	return err == nil && slices.ContainsFunc(ids, func(r types.ResourceID) bool {
		// What is in a Kubernetes cluster leads to the cluster.
		sameKind := r.Kind == kind || kind == types.KindKubernetesCluster && slices.Contains(types.KubernetesResourcesKinds, r.Kind)
		return r.ClusterName == s.name && sameKind && r.Name == name
	})
}

// visible reports whether an identity's roles allow the database, so that it
// is listed.
func (s *Site) visible(id certwatch.Identity, db Database) bool {
	return s.reaches(id, types.KindDatabase, db.Name) &&
		slices.ContainsFunc(s.c.userRoles(id.Roles), func(r Role) bool { return r.allowsDB(db) })
}

// visibleKube is visible for a Kubernetes cluster.
func (s *Site) visibleKube(id certwatch.Identity, kube Kube) bool {
	return s.reaches(id, types.KindKubernetesCluster, kube.Name) &&
		slices.ContainsFunc(s.c.userRoles(id.Roles), func(r Role) bool { return r.allowsKube(kube) })
}

// authorizeDB decides whether an identity may be user on the database name of
// the site.
func (c *Cluster) authorizeDB(id certwatch.Identity, site *Site, db Database, user, name string) error {
	if !site.reaches(id, types.KindDatabase, db.Name) {
		return errDBNotAmongResources
	}
	roles := c.userRoles(id.Roles)
	if !slices.ContainsFunc(roles, func(r Role) bool {
		return r.allowsDB(db) && allows(r.DBUsers, user) && (name == "" || !namesMatter(db.Protocol) || allows(r.DBNames, name))
	}) {
		return errDBDenied
	}
	if id.MFADeviceID == "" && c.mfaRequired(id.Roles, db) {
		return errDBNeedsMFA
	}
	return nil
}

// namesMatter reports whether roles limit the database names of a protocol, as
// databaseNameMatcher of Teleport 16 (lib/srv/db/common/role) has it.
func namesMatter(protocol string) bool {
	return !slices.Contains([]string{
		"mysql", "cockroachdb", "redis", "cassandra", "elasticsearch", "opensearch", "dynamodb", "snowflake", "oracle",
		"clickhouse", "clickhouse-http",
	}, protocol)
}

// mfaRequired reports whether a role that allows the database wants
// per-session MFA.
func (c *Cluster) mfaRequired(roles []string, db Database) bool {
	return slices.ContainsFunc(c.userRoles(roles), func(r Role) bool {
		return r.RequireSessionMFA && r.allowsDB(db)
	})
}

// anyMFA reports whether any of the roles wants per-session MFA.
func (c *Cluster) anyMFA(roles []string) bool {
	return slices.ContainsFunc(c.userRoles(roles), func(r Role) bool { return r.RequireSessionMFA })
}

// grants collects what the roles allow, as it is written into certs. A role
// that names none allows any.
func (c *Cluster) grants(id *certwatch.Identity) {
	id.DBUsers, id.DBNames, id.KubeUsers, id.KubeGroups = nil, nil, nil, nil
	for _, r := range c.userRoles(id.Roles) {
		if !r.NoDatabases {
			id.DBUsers = union(id.DBUsers, r.DBUsers)
			id.DBNames = union(id.DBNames, r.DBNames)
		}
		for _, u := range r.KubeUsers {
			id.KubeUsers = appendNew(id.KubeUsers, u)
		}
		for _, g := range r.KubeGroups {
			id.KubeGroups = appendNew(id.KubeGroups, g)
		}
	}
}

func union(to, list []string) []string {
	if list == nil {
		return appendNew(to, "*")
	}
	for _, s := range list {
		to = appendNew(to, s)
	}
	return to
}

func appendNew(to []string, s string) []string {
	if slices.Contains(to, s) {
		return to
	}
	return append(to, s)
}
