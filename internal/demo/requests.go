package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/internal/simcluster"
)

const (
	// deciderPause is how long the demo takes over a request: long enough to
	// see that it waits.
	deciderPause = 3 * time.Second
	requestTTL   = time.Hour
)

// roles are those of the demo: what alice has, and what alice may request.
func roles() []simcluster.Role {
	return []simcluster.Role{
		{
			Name: "access", KubeGroups: []string{"system:masters"}, ListEvents: true,
			Request: simcluster.RequestRules{Roles: []string{"dba"}, MaxDuration: requestTTL},
		},
		{Name: "dba", KubeGroups: []string{"system:masters"}},
	}
}

// decide approves every access request that has waited for a while.
func (d *demo) decide(ctx context.Context) error {
	look := time.NewTicker(deciderPause / 3)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		for _, r := range d.sim.AccessRequests() {
			if !r.GetState().IsPending() || time.Since(r.GetCreationTime()) < deciderPause {
				continue
			}
			const reason = "the demo approves everything"
			err := d.sim.ResolveAccessRequest(r.GetName(), types.RequestState_APPROVED, reason)
			if err != nil {
				return fmt.Errorf("approve a simulated request: %w", err)
			}
		}
	}
}
