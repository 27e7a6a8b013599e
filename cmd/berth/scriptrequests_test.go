package main

import (
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/simcluster"
	"berth/internal/testwait"
)

// cmdRequests starts a cluster where alice may ask for dba, giving a reason,
// which two peers must approve, and may review what bob asks for.
func cmdRequests(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	w.start(ts, simcluster.Config{
		Name:  clusterOf(ts),
		Users: []simcluster.User{{Name: "alice"}, {Name: "bob", Roles: []string{"dev"}}},
		Roles: []simcluster.Role{
			{Name: "access", Review: []string{"dba"}, Request: simcluster.RequestRules{
				Roles: []string{"dba"}, SuggestedReviewers: []string{"bob"}, RequireReason: true, Prompt: "Which ticket?",
				Thresholds: []types.AccessReviewThreshold{{Name: "peers", Approve: 2, Deny: 1}},
			}},
			{Name: "dev", Request: simcluster.RequestRules{Roles: []string{"dba"}}}, {Name: "dba"},
		},
		Databases: []simcluster.Database{{Name: "pg", Protocol: "postgres"}},
	})
	ts.Setenv("SSL_CERT_FILE", w.CAFile()) // for tsh
}

// cmdApproveAll approves what is pending, as an administrator does.
func cmdApproveAll(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	if !testwait.Until(func() bool {
		n := 0
		for _, r := range w.Sim.AccessRequests() {
			if r.GetState().IsPending() {
				ts.Check(w.Sim.ResolveAccessRequest(r.GetName(), types.RequestState_APPROVED, "go ahead"))
				n++
			}
		}
		return n > 0
	}) {
		ts.Fatalf("nothing is pending")
	}
}

// cmdRequest puts an access request into the cluster. The state "hostile" is a
// pending one with a reason that attacks the terminal.
func cmdRequest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: request ID USER STATE ROLE")
	}
	w := worldOf(ts)
	r := simcluster.AccessRequest{ID: args[0], User: args[1], Roles: []string{args[3]}, Expires: time.Now().Add(24 * time.Hour)}
	switch args[2] {
	case "approved":
		r.State = types.RequestState_APPROVED
	case "denied":
		r.State, r.ResolveReason = types.RequestState_DENIED, "no"
	case "hostile":
		r.Reason = "\x1b]0;owned\a<b>\u202egpj.exe\n" + strings.Repeat("x", 64<<10)
	}
	w.Sim.PutAccessRequest(r)
	if r.User != "alice" {
		return // it is not watched: whoever acts on it looks for it
	}
	// The watch brings it within the second.
	if !testwait.Until(func() bool { return ts.Exec("berth", "request", "show", r.ID) == nil }) {
		ts.Fatalf("berth does not show request %s", r.ID)
	}
}
