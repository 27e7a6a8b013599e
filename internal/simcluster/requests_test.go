package simcluster

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
)

// reviewConfig is a cluster where alice asks, bob and sue review, root may set
// states, and two approvals are needed, one of them by security.
func reviewConfig(version string) Config {
	pw := "some-password"
	return Config{
		Version: version,
		Users: []User{
			{Name: "alice", Password: pw}, {Name: "bob", Password: pw, Roles: []string{"reviewer"}},
			{Name: "sue", Password: pw, Roles: []string{"reviewer", "security"}},
			{Name: "root", Password: pw, Roles: []string{"setter"}}, {Name: "eve", Password: pw, Roles: []string{"nothing"}},
		},
		Roles: []Role{
			{Name: "access", Request: RequestRules{
				Roles: []string{"dba", "adm*"}, SuggestedReviewers: []string{"bob"}, MaxDuration: 2 * time.Hour,
				Thresholds: []types.AccessReviewThreshold{
					{Name: "peers", Approve: 2, Deny: 2},
					{Name: "security", Filter: `contains(reviewer.roles, "security") && !equals(review.reason, "hm")`, Approve: 1, Deny: 1},
				},
			}},
			{Name: "reviewer", Review: []string{"dba"}},
			{Name: "setter", RequestVerbs: []string{"list", "read", "update"}},
			{Name: "security"}, {Name: "nothing"}, {Name: "dba", MaxSessionTTL: time.Hour}, {Name: "admin"},
		},
	}
}

func clientOf(t *testing.T, c *Cluster, user string) *client.Client {
	t.Helper()
	return authClient(t, c, c.Root(), loginCert(t, c, user))
}

func newAccessRequest(t *testing.T, user string, roles ...string) *types.AccessRequestV3 {
	t.Helper()
	req, err := types.NewAccessRequest(uuid.NewString(), user, roles...)
	if err != nil {
		t.Fatal(err)
	}
	v3, ok := req.(*types.AccessRequestV3)
	if !ok {
		t.Fatalf("request is %T", req)
	}
	return v3
}

func create(t *testing.T, clt *client.Client, req *types.AccessRequestV3) types.AccessRequest {
	t.Helper()
	got, err := clt.CreateAccessRequestV2(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCreateAccessRequest(t *testing.T) {
	c := start(t, reviewConfig(V16))
	clt := clientOf(t, c, "alice")
	sent := newAccessRequest(t, "alice", "dba")
	got := create(t, clt, sent)
	if got.GetName() == sent.GetName() || got.GetName() == "" {
		t.Errorf("id %q, want one the server chose", got.GetName())
	}
	if !got.GetState().IsPending() || !slices.Equal(got.GetSuggestedReviewers(), []string{"bob"}) || len(got.GetThresholds()) != 2 {
		t.Errorf("created %+v", got)
	}
	if left := time.Until(got.Expiry()).Round(time.Minute); left != time.Hour {
		t.Errorf("lapses in %v, want an hour", left)
	}
	if left := time.Until(got.GetAccessExpiry()).Round(time.Minute); left != time.Hour {
		t.Errorf("access for %v, want the role's hour", left)
	}
	for name, tc := range map[string]struct {
		change func(*types.AccessRequestV3)
		want   string
	}{
		"foreign_user":     {func(r *types.AccessRequestV3) { r.Spec.User = "bob" }, `access denied to perform action "create" on "access_request"`},
		"already_approved": {func(r *types.AccessRequestV3) { r.Spec.State = types.RequestState_APPROVED }, `access denied to perform action "create"`},
		"role_not_allowed": {func(r *types.AccessRequestV3) { r.Spec.Roles = []string{"security"} }, `user "alice" can not request role "security"`},
		"unknown_role":     {func(r *types.AccessRequestV3) { r.Spec.Roles = []string{"admiral"} }, "role admiral is not found"},
		"long_reason":      {func(r *types.AccessRequestV3) { r.Spec.RequestReason = string(make([]byte, 4097)) }, "reason is too long"},
		"resource": {func(r *types.AccessRequestV3) {
			r.Spec.RequestedResourceIDs = []types.ResourceID{{ClusterName: c.Name(), Kind: "db", Name: "pg"}}
		}, `require usable "search_as_roles", none found for user "alice"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAccessRequest(t, "alice", "dba")
			tc.change(r)
			_, err := clt.CreateAccessRequestV2(t.Context(), r)
			wantText(t, err, tc.want)
		})
	}
	dry := newAccessRequest(t, "alice", "*")
	dry.SetDryRun(true)
	if got := create(t, clt, dry); !slices.Equal(got.GetRoles(), []string{"admin", "dba"}) {
		t.Errorf("a wildcard stands for %q", got.GetRoles())
	}
	if all, err := clt.GetAccessRequests(t.Context(), types.AccessRequestFilter{}); err != nil || len(all) != 1 {
		t.Errorf("%d requests, %v; a dry run leaves none", len(all), err)
	}
}

func TestAccessCapabilities(t *testing.T) {
	c := start(t, reviewConfig(V16))
	caps, err := clientOf(t, c, "alice").GetAccessCapabilities(t.Context(), types.AccessCapabilitiesRequest{RequestableRoles: true, SuggestedReviewers: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(caps.RequestableRoles, []string{"admin", "dba"}) || !slices.Equal(caps.SuggestedReviewers, []string{"bob"}) {
		t.Errorf("capabilities %+v", caps)
	}
}

func TestWhoSeesWhichRequests(t *testing.T) {
	for _, version := range []string{V16, V17} {
		c := start(t, reviewConfig(version))
		c.PutAccessRequest(AccessRequest{User: "alice", Roles: []string{"dba"}})
		c.PutAccessRequest(AccessRequest{User: "alice", Roles: []string{"admin"}})
		c.PutAccessRequest(AccessRequest{User: "eve", Roles: []string{"dba"}})
		got := make(map[string]int)
		for _, user := range []string{"alice", "bob", "root", "eve"} {
			list, err := clientOf(t, c, user).GetAccessRequests(t.Context(), types.AccessRequestFilter{})
			if err != nil {
				t.Fatal(err)
			}
			got[user] = len(list)
		}
		if diff := cmp.Diff(map[string]int{"alice": 2, "bob": 2, "root": 3, "eve": 1}, got); diff != "" {
			t.Errorf("%s: requests seen (-want +got):\n%s", version, diff)
		}
	}
}

func TestReviewThresholds(t *testing.T) {
	type step struct {
		who    string
		state  types.RequestState
		reason string
	}
	yes, no := types.RequestState_APPROVED, types.RequestState_DENIED
	for name, tc := range map[string]struct {
		steps []step
		want  types.RequestState
	}{
		"one_peer_is_not_enough":   {[]step{{"bob", yes, ""}}, types.RequestState_PENDING},
		"security_alone_is_enough": {[]step{{"sue", yes, "fine"}}, yes},
		"filter_looks_at_reason":   {[]step{{"sue", yes, "hm"}}, types.RequestState_PENDING},
		"two_peers":                {[]step{{"bob", yes, ""}, {"sue", yes, "hm"}}, yes},
		"security_denies":          {[]step{{"bob", yes, ""}, {"sue", no, "never"}}, no},
		"one_peer_denies":          {[]step{{"bob", no, ""}}, types.RequestState_PENDING},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, reviewConfig(V16))
			id := c.PutAccessRequest(AccessRequest{User: "alice", Roles: []string{"dba"}})
			for _, s := range tc.steps {
				if _, err := clientOf(t, c, s.who).SubmitAccessReview(t.Context(), types.AccessReviewSubmission{
					RequestID: id, Review: types.AccessReview{ProposedState: s.state, Reason: s.reason},
				}); err != nil {
					t.Fatal(err)
				}
			}
			req, _ := c.AccessRequest(id)
			if req.GetState() != tc.want {
				t.Errorf("state %v, want %v", req.GetState(), tc.want)
			}
		})
	}
}

func TestRefusedDecisions(t *testing.T) {
	c := start(t, reviewConfig(V16))
	id := c.PutAccessRequest(AccessRequest{User: "alice", Roles: []string{"dba"}})
	own := c.PutAccessRequest(AccessRequest{User: "bob", Roles: []string{"dba"}})
	admin := c.PutAccessRequest(AccessRequest{User: "alice", Roles: []string{"admin"}})
	bob := clientOf(t, c, "bob")
	review := func(clt *client.Client, id string) error {
		_, err := clt.SubmitAccessReview(t.Context(), types.AccessReviewSubmission{
			RequestID: id, Review: types.AccessReview{ProposedState: types.RequestState_APPROVED},
		})
		return err
	}
	wantText(t, review(clientOf(t, c, "alice"), id), `user "alice" cannot submit reviews`)
	wantText(t, review(bob, own), `user "bob" cannot review request`)
	wantText(t, review(bob, admin), `user "bob" cannot review request`)
	wantText(t, review(bob, "nope"), `cannot apply review to access request "nope" (not found)`)
	if err := review(bob, id); err != nil {
		t.Fatal(err)
	}
	wantText(t, review(bob, id), `user "bob" has already reviewed this request`)
	set := func(clt *client.Client, state types.RequestState) error {
		return clt.SetAccessRequestState(t.Context(), types.AccessRequestUpdate{RequestID: id, State: state, Reason: "ok"})
	}
	wantText(t, set(bob, types.RequestState_APPROVED), `access denied to perform action "update" on "access_request"`)
	root := clientOf(t, c, "root")
	if err := set(root, types.RequestState_APPROVED); err != nil {
		t.Fatal(err)
	}
	wantText(t, review(clientOf(t, c, "sue"), id), "has been already approved")
	if err := set(root, types.RequestState_DENIED); err != nil {
		t.Errorf("a denial overrules an approval: %v", err)
	}
	wantText(t, set(root, types.RequestState_APPROVED), "already denied")
}

func TestAssumingShortensTheCert(t *testing.T) {
	c := start(t, reviewConfig(V16))
	session := loginCert(t, c, "alice")
	c.PutAccessRequest(AccessRequest{ID: "short", User: "alice", Roles: []string{"admin"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(10 * time.Minute)})
	c.PutAccessRequest(AccessRequest{ID: "role", User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(5 * time.Hour)})
	for id, want := range map[string]time.Duration{"short": 10 * time.Minute, "role": time.Hour} {
		req, key := newRequest(t, "alice", session.Leaf.NotAfter)
		req.AccessRequests = []string{id}
		certs, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(certOf(t, certs, key).Leaf.NotAfter).Round(time.Minute); left != want {
			t.Errorf("%s: cert for %v, want %v", id, left, want)
		}
	}
}
