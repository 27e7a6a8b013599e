//go:build unix

package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
)

// A request for a resource is asked for from the refusal, and gives access to
// that resource alone: for one tunnel, or for the whole session.
func TestRequestForAResource(t *testing.T) {
	t.Parallel()
	cfg := requestsConfig()
	cfg.Roles[0].Request.SearchAsRoles = []string{"dba"}
	e := newEnv(t, cfg)
	e.Login()
	to := func(name, resource string) (string, int) {
		item, port := e.pgTunnel(name)
		return strings.Replace(item, "resource: pg", "resource: "+resource, 1), port
	}
	pgItem, pg := to("pg", "pg")
	secretItem, secret := to("secret", "secret")
	e.config(pgItem, secretItem)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.awaitWatch()
	resource := "/" + e.Sim.Name() + "/db/secret"
	refused := e.AwaitState("secret", state.TunnelError)
	if got, want := refused.Problem.Action, "berth request create --resource "+resource; got != want {
		t.Fatalf("the refusal suggests %q, want %q", got, want)
	}
	c := e.Client()
	able, err := c.RequestAbilities(t.Context(), "", []string{resource})
	if err != nil || !slices.Equal(able.ResourceRoles, []string{"dba"}) {
		t.Errorf("abilities %+v, %v", able, err)
	}
	made, err := c.CreateRequest(t.Context(), client.NewRequest{Resources: []string{resource}})
	if err != nil || !slices.Equal(made.Resources, []string{resource}) || !slices.Equal(made.Roles, []string{"dba"}) {
		t.Fatalf("made %+v, %v", made, err)
	}
	if err := e.Sim.ResolveAccessRequest(made.ID, types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	e.awaitRequest(made.ID, func(r state.Request) bool { return r.Assumable })

	// For one tunnel, and only for one that leads there.
	_, err = c.AssumeRequest(t.Context(), client.Assume{ID: made.ID, Tunnel: "pg"})
	wantCode(t, err, ipc.CodeInvalid, "tunnel pg leads to pg, and the request gives access to "+resource+" alone")
	if _, err := c.AssumeRequest(t.Context(), client.Assume{ID: made.ID, Tunnel: "secret"}); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelReady)
	e.newRoles(secret, "access,dba")
	e.newRoles(pg, "access")
	if _, err := c.DropRequests(t.Context(), nil, "secret"); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelError)

	// For the session, which then reaches nothing else: that is asked first.
	_, err = c.AssumeRequest(t.Context(), client.Assume{ID: made.ID})
	wantCode(t, err, ipc.CodeConfirm, "the session reaches "+resource+" alone until it is dropped, which leaves these tunnels without access: pg")
	if _, err := c.AssumeRequest(t.Context(), client.Assume{ID: made.ID, AcceptEarlierEnd: true}); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("secret", state.TunnelReady)
	e.newRoles(secret, "access,dba")
	if lost := e.AwaitState("pg", state.TunnelError); lost.Problem.Action != "berth request drop" {
		t.Errorf("the lost tunnel's problem: %+v", lost.Problem)
	}
	if _, err := c.DropRequests(t.Context(), nil, ""); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.newRoles(pg, "access")
}

// What two requests would cost is told together: the session's earlier end, and
// the tunnels that it leaves without access.
func TestCostsAreToldTogether(t *testing.T) {
	t.Parallel()
	e, _ := requestsEnv(t)
	req, err := types.NewAccessRequestWithResources("7c1f", "alice", []string{"brief"}, []types.ResourceID{
		{ClusterName: e.Sim.Name(), Kind: types.KindDatabase, Name: "secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	v3, ok := req.(*types.AccessRequestV3)
	if !ok {
		t.Fatalf("request is a %T", req)
	}
	if err := v3.SetState(types.RequestState_APPROVED); err != nil {
		t.Fatal(err)
	}
	v3.SetExpiry(time.Now().Add(13 * time.Hour))
	v3.SetAccessExpiry(time.Now().Add(13 * time.Hour))
	e.Sim.PutAccessRequestV3(v3)
	e.awaitRequest("7c1f", func(r state.Request) bool { return r.Assumable })
	_, err = e.Client().AssumeRequest(t.Context(), client.Assume{ID: "7c1f"})
	wantCode(t, err, ipc.CodeConfirm, "the session ends at ")
	wantCode(t, err, ipc.CodeConfirm, " and reaches /"+e.Sim.Name()+"/db/secret alone until it is dropped, which leaves these tunnels without access: pg, other")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access"}) {
		t.Errorf("nothing was to change, and the roles are %q", roles)
	}
}
