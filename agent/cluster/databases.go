package cluster

import (
	"context"
	"maps"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
)

// Database is a database the cluster offers to this user.
type Database struct {
	Name        string
	Protocol    string // as Teleport says it: postgres, mysql, …
	Description string
	Labels      map[string]string
	Version     string // of a MySQL server; empty where the cluster knows none
}

func databases() *listing[Database] {
	return &listing[Database]{
		kind: "databases", name: func(db Database) string { return db.Name },
		fetch: func(ctx context.Context, clt *client.Client) ([]Database, error) {
			servers, err := resourcePages[types.DatabaseServer](ctx, clt, "databases", types.KindDatabaseServer)
			dbs := make([]Database, 0, len(servers))
			for _, s := range servers {
				if db := s.GetDatabase(); db != nil {
					dbs = append(dbs, Database{
						Name: db.GetName(), Protocol: db.GetProtocol(), Description: db.GetDescription(), Labels: maps.Clone(db.GetAllLabels()),
						Version: db.GetMySQLServerVersion(),
					})
				}
			}
			return dbs, err
		},
	}
}

// Databases lists the databases of a cluster (the root, or a leaf) that the
// session may see, by name. Several services that carry the same database are
// one entry.
func (c *Cluster) Databases(ctx context.Context, clusterName string) ([]Database, error) {
	return c.databases.all(ctx, c, clusterName, missTTL)
}

// Database returns the named database of a cluster, or UnknownDatabaseError.
func (c *Cluster) Database(ctx context.Context, clusterName, name string) (Database, error) {
	db, like, ok, err := c.databases.one(ctx, c, clusterName, name)
	if err == nil && !ok {
		err = &UnknownDatabaseError{Cluster: clusterName, Database: name, Similar: like}
	}
	return db, err
}

// MFARequired reports whether the cluster wants per-session MFA for this
// route; see Factors for what meets it.
func (c *Cluster) MFARequired(ctx context.Context, r DBRoute) (bool, error) {
	route := r.proto()
	return c.mfaRequired(ctx, r.Cluster, r.Service, &proto.IsMFARequiredRequest{
		Target: &proto.IsMFARequiredRequest_Database{Database: &route},
	})
}

func (c *Cluster) mfaRequired(ctx context.Context, clusterName, resource string, req *proto.IsMFARequiredRequest) (bool, error) {
	var resp *proto.IsMFARequiredResponse
	// A leaf decides for itself, and is asked as the identity mapped there.
	err := c.call(ctx, clusterName, "ask whether "+resource+" needs MFA", func(ctx context.Context, clt *client.Client) (err error) {
		resp, err = clt.IsMFARequired(ctx, req)
		return err
	})
	if err != nil {
		return false, err
	}
	return resp.Required || resp.MFARequired == proto.MFARequired_MFA_REQUIRED_YES, nil
}
