package demo

import (
	"context"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// A request waits long enough to be seen, and is approved then.
func TestDecide(t *testing.T) {
	sim := simworld.Start(t, simcluster.Config{Roles: roles()})
	d := &demo{sim: sim}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.decide(ctx) }()
	asked := time.Now()
	id := sim.PutAccessRequest(simcluster.AccessRequest{User: user, Roles: []string{"dba"}})
	testwait.Eventually(t, "the request to be approved", func() bool {
		r, ok := sim.AccessRequest(id)
		return ok && r.GetState() == types.RequestState_APPROVED
	})
	if took := time.Since(asked); took < deciderPause-time.Second {
		t.Errorf("it was approved after %s: too soon to be seen", took)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("decide = %v", err)
	}
}
