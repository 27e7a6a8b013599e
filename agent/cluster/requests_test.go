package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"berth/internal/simcluster"
	"berth/internal/testwait"
)

func requestConfig(version string) simcluster.Config {
	return simcluster.Config{
		Version: version,
		Users: []simcluster.User{
			{Name: "alice"}, {Name: "bob", Roles: []string{"reviewer"}}, {Name: "root", Roles: []string{"setter"}},
		},
		Roles: []simcluster.Role{
			{Name: "access", Request: simcluster.RequestRules{
				Roles: []string{"dba"}, SuggestedReviewers: []string{"bob"}, RequireReason: true, Prompt: "Which ticket?", MaxDuration: 48 * time.Hour,
			}},
			{Name: "reviewer", Review: []string{"dba"}}, {Name: "setter", RequestVerbs: []string{"list", "read", "update"}}, {Name: "dba"},
		},
	}
}

// as returns a Cluster for a session of the user.
func as(t *testing.T, sim *simcluster.Cluster, user string) *Cluster {
	t.Helper()
	home := filepath.Join(t.TempDir(), "tsh")
	if err := sim.Login(home, user); err != nil {
		t.Fatal(err)
	}
	return connectHome(t, home)
}

func TestRequestLifecycle(t *testing.T) {
	t.Parallel()
	for _, version := range []string{simcluster.V16, simcluster.V17} {
		t.Run(version, func(t *testing.T) {
			sim := start(t, requestConfig(version))
			alice, bob := as(t, sim, "alice"), as(t, sim, "bob")
			able, err := alice.RequestAbilities(t.Context(), nil)
			want := RequestAbilities{Roles: []string{"dba"}, Reviewers: []string{"bob"}, RequireReason: true, Prompt: "Which ticket?"}
			if diff := cmp.Diff(want, able); diff != "" || err != nil {
				t.Errorf("abilities %v (-want +got):\n%s", err, diff)
			}
			made, err := alice.CreateRequest(t.Context(), NewRequest{Roles: []string{"dba"}, Reason: "ticket 1", For: 24 * time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(made.GetAccessExpiry()).Round(time.Minute); left != 24*time.Hour {
				t.Errorf("access for %v, want a day", left)
			}
			id := made.GetName()
			_, err = alice.Reissue(t.Context(), Reissue{Assume: []string{id}})
			wantWhy(t, err, "pending")
			if err := bob.Decide(t.Context(), id, Decision{Approve: true, Reason: "ok"}); err != nil {
				t.Fatal(err)
			}
			got, err := alice.Request(t.Context(), id)
			if err != nil || !got.GetState().IsApproved() || got.GetResolveReason() != "ok" {
				t.Errorf("after the review: %+v, %v", got, err)
			}
			certs, err := alice.Reissue(t.Context(), Reissue{Assume: []string{id}})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(certs.Requests, []string{id}) || !slices.Equal(certs.Roles, []string{"access", "dba"}) || certs.Cluster != sim.Name() {
				t.Errorf("assumed %q, roles %q in %s", certs.Requests, certs.Roles, certs.Cluster)
			}
			if certs, err = alice.Reissue(t.Context(), Reissue{Drop: []string{"*"}}); err != nil || certs.Requests != nil {
				t.Errorf("dropped all: %+v, %v", certs, err)
			}
		})
	}
}

func wantWhy(t *testing.T, err error, why string) {
	t.Helper()
	if e, ok := errors.AsType[*NotAssumableError](err); !ok || e.Why != why {
		t.Errorf("error %v, want one that is %s", err, why)
	}
}

func TestReissueRefusals(t *testing.T) {
	sim := start(t, requestConfig(simcluster.V16))
	alice := as(t, sim, "alice")
	approved := types.RequestState_APPROVED
	for why, r := range map[string]simcluster.AccessRequest{
		"denied":   {User: "alice", State: types.RequestState_DENIED},
		"promoted": {User: "alice", State: types.RequestState_PROMOTED},
		"early":    {User: "alice", State: approved, AssumeStart: time.Now().Add(time.Minute)},
	} {
		r.Roles = []string{"dba"}
		_, err := alice.Reissue(t.Context(), Reissue{Assume: []string{sim.PutAccessRequest(r)}})
		wantWhy(t, err, why)
	}
	foreign := sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}, State: approved})
	for _, id := range []string{foreign, "nope"} {
		_, err := alice.Reissue(t.Context(), Reissue{Assume: []string{id}})
		if e, ok := errors.AsType[*UnknownRequestError](err); !ok || e.ID != id {
			t.Errorf("assume %s: %v, want UnknownRequestError", id, err)
		}
	}
	if _, err := alice.Request(t.Context(), "nope"); err == nil {
		t.Error("an unknown request was found")
	}
}

func TestDecide(t *testing.T) {
	sim := start(t, requestConfig(simcluster.V16))
	alice, bob, root := as(t, sim, "alice"), as(t, sim, "bob"), as(t, sim, "root")
	put := func() string {
		return sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	}
	id := put()
	err := alice.Decide(t.Context(), id, Decision{Approve: true})
	if e, ok := errors.AsType[*CannotReviewError](err); !ok || e.User != "alice" {
		t.Errorf("a plain user decides: %v, want CannotReviewError", err)
	}
	if err := root.Decide(t.Context(), id, Decision{Reason: "no"}); err != nil {
		t.Errorf("who may set states decides: %v", err)
	}
	if req, _ := sim.AccessRequest(id); !req.GetState().IsDenied() {
		t.Errorf("state %v, want denied", req.GetState())
	}
	if err := bob.Decide(t.Context(), id, Decision{Approve: true}); err == nil {
		t.Error("a denied request was approved")
	}
	sim.Faults().RPCError("SubmitAccessReview", trace.NotImplemented("unknown method"))
	if err := root.Decide(t.Context(), put(), Decision{Approve: true}); err != nil {
		t.Errorf("on a server without reviews: %v", err)
	}
	if _, ok := errors.AsType[*UnknownRequestError](root.Decide(t.Context(), "nope", Decision{})); !ok {
		t.Error("deciding an unknown request is reported as something else")
	}
}

func TestWatchRequests(t *testing.T) {
	sim := start(t, requestConfig(simcluster.V16))
	alice := as(t, sim, "alice")
	events := make(chan RequestEvent, 10)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- alice.WatchRequests(ctx, func(ev RequestEvent) { events <- ev }) }()
	if ev := <-events; !ev.Ready {
		t.Errorf("first event %+v, want ready", ev)
	}
	id := sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	if ev := <-events; ev.Request == nil || ev.Request.GetName() != id {
		t.Errorf("event %+v, want request %s", ev, id)
	}
	sim.DeleteAccessRequest(id)
	if ev := <-events; ev.Deleted != id {
		t.Errorf("event %+v, want %s deleted", ev, id)
	}
	sim.Faults().CutWatches()
	if _, ok := errors.AsType[*UnreachableError](<-ended); !ok {
		t.Error("a cut watch is reported as something else")
	}
	sim.Faults().RPCError("WatchEvents", trace.AccessDenied("no"))
	if _, ok := errors.AsType[*AccessDeniedError](alice.WatchRequests(ctx, func(RequestEvent) {})); !ok {
		t.Error("a refused watch is reported as something else")
	}
	if err := sim.Faults().Clear(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- alice.WatchRequests(ctx, func(ev RequestEvent) { events <- ev }) }()
	<-events
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRequestsByThePage(t *testing.T) {
	sim := start(t, requestConfig(simcluster.V17))
	for range 250 {
		sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}})
	}
	if list, err := as(t, sim, "alice").Requests(t.Context()); err != nil || len(list) != 250 {
		t.Errorf("%d requests, %v; want 250", len(list), err)
	}
}

// One call gives the connection up; another that is under way on it is made
// again on the next.
func TestConnectionGivenUpByAnother(t *testing.T) {
	t.Parallel()
	sim := start(t, requestConfig(simcluster.V16))
	alice := as(t, sim, "alice")
	alice.verdictWait = testwait.Patience
	if _, err := alice.Requests(t.Context()); err != nil {
		t.Fatal(err)
	}
	sim.Faults().RPCDelay("GetAccessRequestsV2", time.Hour)
	before := sim.Counters().RPCs["GetAccessRequestsV2"]
	ended := make(chan error, 1)
	go func() {
		_, err := alice.Requests(t.Context())
		ended <- err
	}()
	testwait.Eventually(t, "the call", func() bool { return sim.Counters().RPCs["GetAccessRequestsV2"] > before })
	alice.reset()
	sim.Faults().RPCDelay("GetAccessRequestsV2", 0)
	if err := <-ended; err != nil {
		t.Errorf("the call ends with %v, want it made again", err)
	}
	if n := sim.Counters().RPCs["GetAccessRequestsV2"] - before; n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}
