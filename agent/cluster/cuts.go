package cluster

import (
	"context"
	"slices"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
)

// CutsExpired reports whether a cluster, the root or a leaf, cuts this session's
// connections at the end of the cert they were opened with: its settings say so,
// or one of the roles. What it said is believed for a while.
func (c *Cluster) CutsExpired(ctx context.Context, clusterName string) (bool, error) {
	return c.cuts.get(clusterName, factorsTTL, func() (cuts bool, err error) {
		err = c.call(context.WithoutCancel(ctx), clusterName, "ask whether "+clusterName+" cuts connections", func(ctx context.Context, clt *client.Client) error {
			pref, err := clt.GetAuthPreference(ctx)
			if err != nil {
				return err
			}
			roles, err := clt.GetCurrentUserRoles(ctx)
			cuts = pref.GetDisconnectExpiredCert() || slices.ContainsFunc(roles, func(r types.Role) bool {
				return r.GetOptions().DisconnectExpiredCert.Value()
			})
			return err
		})
		return cuts, err
	})
}
