package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
)

// What is asked for later, and for a while, can be had then and no earlier.
func TestRequestForLater(t *testing.T) {
	t.Parallel()
	cfg := requestsConfig()
	cfg.Roles[0].Request.MaxDuration = 48 * time.Hour
	e := newEnv(t, cfg)
	e.Login()
	e.config()
	e.start()
	e.awaitWatch()
	c := e.Client()
	from := time.Now().Add(2 * time.Hour)
	made, err := c.CreateRequest(t.Context(), client.NewRequest{Roles: []string{"dba"}, For: 24 * time.Hour, Start: &from})
	if err != nil {
		t.Fatal(err)
	}
	if made.AccessUntil == nil || time.Until(*made.AccessUntil).Round(time.Minute) != 24*time.Hour {
		t.Errorf("the access ends at %v, want in a day", made.AccessUntil)
	}
	if made.AssumeFrom == nil || made.AssumeFrom.Sub(from).Abs() > time.Second {
		t.Errorf("it begins at %v, want %v", made.AssumeFrom, from)
	}
	if err := e.Sim.ResolveAccessRequest(made.ID, types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	if r := e.awaitRequest(made.ID, func(r state.Request) bool { return r.State == state.RequestApproved }); r.Assumable {
		t.Errorf("offered before its time: %+v", r)
	}
	_, err = c.AssumeRequest(t.Context(), client.Assume{ID: made.ID})
	wantCode(t, err, ipc.CodeDenied, "cannot be assumed before ")
	e.Sim.Faults().ClockOffset(3 * time.Hour)
	defer e.Sim.Faults().ClockOffset(0)
	_, err = c.AssumeRequest(t.Context(), client.Assume{ID: made.ID})
	wantCode(t, err, ipc.CodeDenied, "cannot be assumed before ") // by this machine's clock
}

// Whoever sees a request and may neither review it nor set its state is told so,
// and where those go who may; he is not asked again.
func TestWhoMayDecideNothing(t *testing.T) {
	t.Parallel()
	cfg := requestsConfig()
	cfg.Roles[0].Review, cfg.Roles[0].RequestVerbs = nil, []string{"list", "read"}
	e := newEnv(t, cfg)
	e.Login()
	e.config()
	e.start()
	e.awaitWatch()
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}})
	_, err := e.Client().DecideRequest(t.Context(), id, true, "")
	wantCode(t, err, ipc.CodeDenied, "who may: https://"+e.Sim.ProxyAddr()+"/web/requests/"+id)
	e.awaitRequest(id, func(r state.Request) bool { return !r.Reviewable })
	if r, _ := e.Sim.AccessRequest(id); !r.GetState().IsPending() {
		t.Errorf("it is %s", r.GetState())
	}
}

// A request of another user is found by listing alone, and is none the less there where
// that takes its time.
func TestDecideWhereTheClusterIsSlow(t *testing.T) {
	testneeds.Time(t, "the cluster is slow")
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	e.config()
	e.start()
	e.awaitWatch()
	e.Sim.Faults().RPCDelay("ListAccessRequests", 1500*time.Millisecond) // which is asked twice
	id := e.Sim.PutAccessRequest(simcluster.AccessRequest{User: "bob", Roles: []string{"dba"}})
	if _, err := e.Client().DecideRequest(t.Context(), id, true, ""); err != nil {
		t.Fatal(err)
	}
	if r, _ := e.Sim.AccessRequest(id); !r.GetState().IsApproved() {
		t.Errorf("it is %s", r.GetState())
	}
}

// A request that goes while its notification is up: the click says so.
func TestAssumeOfWhatIsGone(t *testing.T) {
	t.Parallel()
	e, port := requestsEnv(t)
	id := e.approved("dba")
	e.Sim.DeleteAccessRequest(id)
	_, err := e.Client().AssumeRequest(t.Context(), client.Assume{ID: id})
	wantCode(t, err, ipc.CodeNotFound, "is not there any more: it expired, or was taken away; nothing was done")
	if roles := e.rolesAt(port); roles != "access" {
		t.Errorf("and the roles are %q", roles)
	}
}

// The refusal that a client of the database or of Kubernetes gets carries the
// command that asks for access.
func TestRefusalsCarryTheCommand(t *testing.T) {
	t.Parallel()
	cfg := requestsConfig()
	cfg.Roles[0].NoKubes, cfg.Roles[0].Request.Roles = true, []string{"dba"}
	cfg.Kubes = []simcluster.Kube{{Name: "prod"}}
	e := newKubeEnv(t, cfg)
	e.Login()
	item, port := e.pgTunnel("secret")
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"), strings.Replace(item, "resource: pg", "resource: secret", 1))
	e.start()
	const want = "berth request create --role dba"
	for _, name := range []string{"secret", "prod"} {
		if tun := e.AwaitState(name, state.TunnelError); tun.Problem.Action != want {
			t.Errorf("%s: the problem suggests %q, want %q", name, tun.Problem.Action, want)
		}
	}
	_, err := e.pg(t.Context(), port)
	if told, ok := errors.AsType[*pgconn.PgError](err); !ok || told.Hint != want {
		t.Errorf("the client of the database gets %v: %+v", err, told)
	}
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != 503 || !strings.Contains(body, want) {
		t.Errorf("the client of Kubernetes gets %d %s", code, body)
	}
}
