package cluster

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

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
}

type databaseList struct {
	at  time.Time
	dbs []Database
}

// Databases lists the databases of a cluster (the root, or a leaf) that the
// session may see, by name. Several services that carry the same database are
// one entry.
func (c *Cluster) Databases(ctx context.Context, clusterName string) ([]Database, error) {
	return c.listDatabases(ctx, clusterName, missTTL)
}

// listDatabases is Databases as of maxAge ago at most.
func (c *Cluster) listDatabases(ctx context.Context, clusterName string, maxAge time.Duration) ([]Database, error) {
	c.mu.Lock()
	cached := c.lists[clusterName]
	c.mu.Unlock()
	if cached.dbs != nil && time.Since(cached.at) < maxAge {
		return cached.dbs, nil
	}
	v, err, _ := c.flight.Do("databases/"+clusterName, func() (any, error) {
		var servers []types.DatabaseServer
		err := c.call(context.WithoutCancel(ctx), clusterName, "list databases of "+clusterName, func(ctx context.Context, clt *client.Client) (err error) {
			servers, err = clt.GetDatabaseServers(ctx, "default")
			return err
		})
		if err != nil {
			return nil, err
		}
		list := databaseList{at: time.Now(), dbs: dedupe(servers)}
		c.mu.Lock()
		c.lists[clusterName] = list
		c.mu.Unlock()
		return list.dbs, nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]Database), nil
}

func dedupe(servers []types.DatabaseServer) []Database {
	byName := make(map[string]Database, len(servers))
	for _, s := range servers {
		db := s.GetDatabase()
		if db == nil {
			continue
		}
		byName[db.GetName()] = Database{
			Name:        db.GetName(),
			Protocol:    db.GetProtocol(),
			Description: db.GetDescription(),
			Labels:      maps.Clone(db.GetAllLabels()),
		}
	}
	dbs := make([]Database, 0, len(byName))
	for _, db := range byName {
		dbs = append(dbs, db)
	}
	slices.SortFunc(dbs, func(a, b Database) int { return strings.Compare(a.Name, b.Name) })
	return dbs
}

// Database returns the named database of a cluster, or UnknownDatabaseError.
func (c *Cluster) Database(ctx context.Context, clusterName, name string) (Database, error) {
	named := func(db Database) bool { return db.Name == name }
	dbs, err := c.listDatabases(ctx, clusterName, listTTL)
	if err == nil && !slices.ContainsFunc(dbs, named) {
		dbs, err = c.listDatabases(ctx, clusterName, missTTL) // it may have been added since
	}
	if err != nil {
		return Database{}, err
	}
	i := slices.IndexFunc(dbs, named)
	if i < 0 {
		names := make([]string, len(dbs))
		for i, db := range dbs {
			names[i] = db.Name
		}
		return Database{}, &UnknownDatabaseError{Cluster: clusterName, Database: name, Similar: similar(name, names)}
	}
	return dbs[i], nil
}

// similar returns the listed name that shares the longest run with name at its
// start or end, if that run is at least half of it.
func similar(name string, listed []string) string {
	best, bestLen := "", (len(name)+1)/2
	for _, other := range listed {
		if n := max(sharedPrefix(name, other), sharedSuffix(name, other)); n >= bestLen {
			best, bestLen = other, n+1
		}
	}
	return best
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func sharedSuffix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// MFARequired reports whether the cluster wants per-session MFA for this
// route. Only tsh can answer such a challenge with a security key.
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
