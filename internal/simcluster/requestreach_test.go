package simcluster

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
)

// A cert that was made with a request for resources reaches those alone,
// whatever its roles allow: in lists, at databases and at Kubernetes clusters.
func TestResourceRequestReachesThoseAlone(t *testing.T) {
	const pw = "some-password"
	c := start(t, Config{
		Users: []User{{Name: "alice", Password: pw}},
		Roles: []Role{
			{Name: "access", DBLabels: map[string][]string{"env": {"test"}}, KubeUsers: []string{"alice"}, Request: RequestRules{SearchAsRoles: []string{"all"}}},
			{Name: "all", KubeUsers: []string{"alice"}},
		},
		Databases: []Database{
			{Name: "pg", Protocol: "postgres", Labels: map[string]string{"env": "test"}},
			{Name: "secret", Protocol: "postgres", Labels: map[string]string{"env": "prod"}},
			{Name: "other", Protocol: "postgres", Labels: map[string]string{"env": "prod"}},
		},
		Kubes: []Kube{{Name: "prod"}, {Name: "dev"}},
	})
	session := loginCert(t, c, "alice")
	plain := authClient(t, c, c.Root(), session)
	ask := newAccessRequest(t, "alice", "all")
	ask.Spec.Roles = nil // the cluster chooses
	ask.Spec.RequestedResourceIDs = []types.ResourceID{
		{ClusterName: c.Name(), Kind: types.KindDatabase, Name: "secret"},
		{ClusterName: c.Name(), Kind: types.KindKubePod, Name: "prod", SubResourceName: "ns/web"},
		{ClusterName: "elsewhere", Kind: types.KindDatabase, Name: "pg"},
	}
	id := create(t, plain, ask).GetName()
	if err := c.ResolveAccessRequest(id, types.RequestState_APPROVED, "ok"); err != nil {
		t.Fatal(err)
	}
	with := func(r *proto.UserCertsRequest) { r.AccessRequests = []string{id} }
	mint := func(db string, change ...func(*proto.UserCertsRequest)) tls.Certificate {
		return mintDB(t, c, session, proto.RouteToDatabase{ServiceName: db}, change...)
	}
	reach := func(cert tls.Certificate) error {
		_, err := pgConnect(t, dialALPN(t, c, cert, "teleport-postgres"), "bob")
		return err
	}
	if err := reach(mint("secret", with)); err != nil {
		t.Errorf("what was asked for: %v", err)
	}
	const notAmong = "access to db denied, not in allowed resource IDs"
	wantText(t, reach(mint("other", with)), notAmong)
	wantText(t, reach(mint("pg", with)), notAmong) // although the user's own role allows it
	if err := reach(mint("pg")); err != nil {
		t.Errorf("without the request: %v", err)
	}
	wantText(t, reach(mint("secret")), "User does not have permissions")

	req, key := newRequest(t, "alice", session.Leaf.NotAfter)
	with(req)
	certs, err := plain.GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatal(err)
	}
	elevated := certOf(t, certs, key)
	clt := authClient(t, c, c.Root(), elevated)
	for kind, want := range map[string]string{types.KindDatabaseServer: "secret", types.KindKubernetesCluster: "prod"} {
		page, err := clt.ListResources(t.Context(), proto.ListResourcesRequest{ResourceType: kind, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range page.Resources {
			names = append(names, r.GetName())
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%s listed: %q, want %q", kind, got, want)
		}
	}
	for name, want := range map[string]int{"prod": http.StatusOK, "dev": http.StatusForbidden} {
		clt := kubeClient(t, c, mintKube(t, c, session, "", name, with))
		if got, body := kubeGet(t, c, clt, "/api/v1/namespaces/default/pods", nil); got != want {
			t.Errorf("Kubernetes cluster %s answers %d, want %d: %s", name, got, want, body)
		}
	}
}
