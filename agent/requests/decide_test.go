package requests

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/access"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// TestDecidedBeforeItIsAnswered: the snapshot that a decision publishes shows it, also one
// that only counts a review, so that a front end offers no buttons for it any longer.
func TestDecidedBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	sim := simworld.Start(t, simcluster.Config{
		Users: []simcluster.User{{Name: "alice"}, {Name: "bob", Roles: []string{"access", "asks"}}},
		Roles: []simcluster.Role{
			{Name: "access", Review: []string{"*"}}, {Name: "dba"}, {Name: "admin"},
			{Name: "asks", Request: simcluster.RequestRules{Roles: []string{"admin"}, Thresholds: []types.AccessReviewThreshold{{Approve: 2, Deny: 1}}}},
		},
	})
	home := filepath.Join(t.TempDir(), "tsh")
	if err := sim.Login(home, "alice"); err != nil {
		t.Fatal(err)
	}
	h := newHeldTest(t)
	h.lookupWait = testwait.Patience
	h.sessions.Update(&certwatch.View{Profiles: []*certwatch.Profile{simworld.Profile(t, home)}})
	t.Cleanup(h.sessions.Close)
	find := func(id string) (state.Request, error) { return access.Find(h.Draw(time.Now()), id) }
	var published state.Request
	asked := ""
	h.cfg.Publish = func() { published, _ = find(asked) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	for name, c := range map[string]struct {
		role    string
		approve bool
		want    state.RequestState
	}{
		"approved": {"dba", true, state.RequestApproved},
		"denied":   {"dba", false, state.RequestDenied},
		"reviewed": {"admin", true, state.RequestPending}, // which needs two
	} {
		asked = sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{c.role}})
		h.Relist()
		testwait.Eventually(t, "the request", func() bool { r, err := find(asked); return err == nil && r.Reviewable })
		answer, err := h.DecideRequest(t.Context(), asked, c.approve, "")
		if err != nil || answer.State != c.want {
			t.Errorf("%s: the answer is %+v, %v", name, answer, err)
		}
		if published.ID != asked || published.State != c.want || len(published.Reviews) != 1 || published.Reviewable {
			t.Errorf("%s: published is %+v", name, published)
		}
	}
}
