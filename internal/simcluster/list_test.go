package simcluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

func TestDatabasesAreListedByPage(t *testing.T) {
	var cfg Config
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("db-%02d", i)
		cfg.Databases = append(cfg.Databases, Database{Name: name, Protocol: "postgres", Labels: map[string]string{"n": fmt.Sprint(i % 2)}})
		want = append(want, name)
	}
	c := start(t, cfg)
	clt := authClient(t, c, c.Root(), loginCert(t, c, "alice"))
	var got []string
	pages := 0
	req := proto.ListResourcesRequest{ResourceType: types.KindDatabaseServer, Limit: 10}
	for {
		page, err := client.GetResourcePage[types.DatabaseServer](t.Context(), clt, &req)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Resources {
			got = append(got, s.GetDatabase().GetName())
		}
		pages++
		if page.NextKey == "" {
			break
		}
		req.StartKey = page.NextKey
	}
	if pages != 3 || !slices.Equal(got, want) {
		t.Errorf("%d pages with %q", pages, got)
	}
	odd, err := client.GetAllResources[types.DatabaseServer](t.Context(), clt, &proto.ListResourcesRequest{
		ResourceType: types.KindDatabaseServer, Labels: map[string]string{"n": "1"},
	})
	if err != nil || len(odd) != 12 {
		t.Errorf("%d databases with the label, %v; want 12", len(odd), err)
	}
}

func TestListingIsFilteredByRoles(t *testing.T) {
	c := start(t, Config{
		Roles: []Role{{Name: "access", DBLabels: map[string][]string{"env": {"dev"}}}, {Name: "none", NoDatabases: true}},
		Users: []User{{Name: "alice"}, {Name: "bob", Roles: []string{"none"}}},
		Databases: []Database{
			{Name: "dev", Protocol: "postgres", Labels: map[string]string{"env": "dev"}, Replicas: 2},
			{Name: "prod", Protocol: "mysql", Labels: map[string]string{"env": "prod"}},
		},
	})
	for user, want := range map[string][]string{"alice": {"dev", "dev"}, "bob": nil} {
		servers, err := authClient(t, c, c.Root(), loginCert(t, c, user)).GetDatabaseServers(t.Context(), "default")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range servers {
			got = append(got, s.GetDatabase().GetName())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is shown %q, want %q", user, got, want)
		}
	}
}

func TestPlainUserCalls(t *testing.T) {
	c := startDBs(t, Config{Kubes: []Kube{{Name: "prod"}}, DisconnectExpiredCert: true})
	clt := authClient(t, c, c.Root(), loginCert(t, c, "alice"))
	ctx := t.Context()
	if ping, err := clt.Ping(ctx); err != nil || ping.ClusterName != c.Name() || ping.ServerVersion != V16 {
		t.Errorf("Ping: %v, %v", ping, err)
	}
	if name, err := clt.GetDomainName(ctx); err != nil || name != c.Name() {
		t.Errorf("GetDomainName: %q, %v", name, err)
	}
	if u, err := clt.GetCurrentUser(ctx); err != nil || u.GetName() != "alice" {
		t.Errorf("GetCurrentUser: %v, %v", u, err)
	}
	roles, err := clt.GetCurrentUserRoles(ctx)
	if err != nil || len(roles) != 1 || roles[0].GetName() != "access" || !slices.Equal(roles[0].GetDatabaseUsers(types.Allow), []string{"*"}) {
		t.Errorf("GetCurrentUserRoles: %v, %v", roles, err)
	}
	if pref, err := clt.GetAuthPreference(ctx); err != nil || !pref.GetDisconnectExpiredCert() {
		t.Errorf("GetAuthPreference: %v, %v", pref, err)
	}
	kubes, err := client.GetAllResources[types.KubeCluster](ctx, clt, &proto.ListResourcesRequest{ResourceType: types.KindKubernetesCluster})
	if err != nil || len(kubes) != 1 || kubes[0].GetName() != "prod" {
		t.Errorf("Kubernetes clusters: %v, %v", kubes, err)
	}
	unified, err := client.GetAllUnifiedResources(ctx, clt, &proto.ListUnifiedResourcesRequest{})
	if err != nil || len(unified) != 5 {
		t.Errorf("unified resources: %d, %v; want 5", len(unified), err)
	}
	if ca, err := clt.GetClusterCACert(ctx); err != nil || string(ca.TLSCA) != string(c.Root().HostCAPEM()) {
		t.Errorf("GetClusterCACert: %v, %v", ca, err)
	}
}

func TestNewerCallsAreUnimplemented(t *testing.T) {
	c := start(t, Config{})
	clt := authClient(t, c, c.Root(), loginCert(t, c, "alice"))
	_, err := clt.GetRoles(t.Context())
	if !trace.IsNotImplemented(err) {
		t.Errorf("GetRoles: %v, want not implemented", err)
	}
	_, err = clt.ListAccessRequests(t.Context(), &proto.ListAccessRequestsRequest{})
	if !trace.IsNotImplemented(err) {
		t.Errorf("ListAccessRequests: %v, want not implemented", err)
	}
}

func TestSessionMFA(t *testing.T) {
	c := startDBs(t, Config{Roles: []Role{
		{Name: "access", NoDatabases: true},
		{Name: "mfa", RequireSessionMFA: true},
	}, Users: []User{{Name: "alice", Roles: []string{"access"}}, {Name: "bob", Roles: []string{"mfa"}}}})
	ask := func(user, db string) (*proto.IsMFARequiredResponse, error) {
		return authClient(t, c, c.Root(), loginCert(t, c, user)).IsMFARequired(t.Context(), &proto.IsMFARequiredRequest{
			Target: &proto.IsMFARequiredRequest_Database{Database: &proto.RouteToDatabase{ServiceName: db}},
		})
	}
	if resp, err := ask("bob", "pg"); err != nil || !resp.Required || resp.MFARequired != proto.MFARequired_MFA_REQUIRED_YES {
		t.Errorf("bob: %v, %v, want required", resp, err)
	}
	if resp, err := ask("alice", "missing"); err != nil || resp.MFARequired != proto.MFARequired_MFA_REQUIRED_NO {
		t.Errorf("no role wants MFA: %v, %v, want no at once", resp, err)
	}
	if _, err := ask("bob", "missing"); !trace.IsNotFound(err) {
		t.Errorf("missing database: %v, want not found", err)
	}
	session := loginCert(t, c, "bob")
	cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg"}, func(r *proto.UserCertsRequest) { r.Username = "bob" })
	_, err := pgConnect(t, dialALPN(t, c, cert, "teleport-postgres"), "bob")
	wantText(t, err, "access to resource requires MFA")
}

func TestLeaf(t *testing.T) {
	c := startDBs(t, Config{})
	home := t.TempDir()
	if err := c.Login(home, "alice"); err != nil {
		t.Fatal(err)
	}
	leaf, err := c.AddLeaf("leaf.test", Database{Name: "pg", Protocol: "postgres"}, Database{Name: "only-here", Protocol: "postgres"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddLeaf("leaf.test"); err == nil {
		t.Error("a second leaf of that name was added")
	}
	session := homeCert(t, c, home, "alice")
	root := authClient(t, c, c.Root(), session)
	cas, err := root.GetCertAuthorities(t.Context(), types.HostCA, false)
	if err != nil {
		t.Fatal(err)
	}
	pems := make(map[string]string)
	for _, ca := range cas {
		pems[ca.GetClusterName()] = string(ca.GetTrustedTLSKeyPairs()[0].Cert)
	}
	if len(pems) != 2 || pems["leaf.test"] != string(leaf.HostCAPEM()) || pems[c.Name()] != string(c.Root().HostCAPEM()) {
		t.Errorf("host CAs of %d clusters are listed, want root's and leaf's", len(pems))
	}
	at := authClient(t, c, leaf, session)
	servers, err := at.GetDatabaseServers(t.Context(), "default")
	if err != nil || len(servers) != 2 {
		t.Errorf("the leaf lists %d databases, %v; want 2", len(servers), err)
	}
	if u, err := at.GetCurrentUser(t.Context()); err != nil || u.GetName() != "remote-alice-"+c.Name() {
		t.Errorf("user at the leaf: %v, %v", u, err)
	}
	req, _ := newRequest(t, "alice", session.Leaf.NotAfter)
	if _, err := at.GenerateUserCerts(t.Context(), *req); !trace.IsAccessDenied(err) {
		t.Errorf("mint at the leaf: %v, want access denied", err)
	}
	// Minted at the root with a route to the leaf, dialled at the root's proxy.
	cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "only-here", Protocol: "postgres"},
		func(r *proto.UserCertsRequest) { r.RouteToCluster = "leaf.test" })
	pc, err := pgConnect(t, dialALPN(t, c, cert, "teleport-postgres"), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if got := dbIdentity(t, pc); got["cluster"] != "leaf.test" || got["service"] != "only-here" {
		t.Errorf("served by %v", got)
	}
	n := c.Counters()
	if n.Mints["db/leaf.test/only-here"] != 1 || n.DBTotal["leaf.test/only-here"] != 1 {
		t.Errorf("counters: %+v", n)
	}
}
