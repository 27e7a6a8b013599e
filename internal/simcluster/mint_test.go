package simcluster

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/sshutils"
	"golang.org/x/crypto/ssh"

	"berth/certwatch"
)

func TestMintIsClippedToTheSession(t *testing.T) {
	c := start(t, Config{})
	session := loginCert(t, c, "alice", WithTTL(time.Hour))
	clt := authClient(t, c, c.Root(), session)
	for _, tt := range []struct {
		name    string
		expires time.Time
		want    time.Time
	}{
		{"later_than_the_session", time.Now().Add(24 * time.Hour), session.Leaf.NotAfter},
		{"earlier_than_the_session", session.Leaf.NotAfter.Add(-10 * time.Minute), session.Leaf.NotAfter.Add(-10 * time.Minute)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, key := newRequest(t, "alice", tt.expires)
			certs, err := clt.GenerateUserCerts(t.Context(), *req)
			if err != nil {
				t.Fatal(err)
			}
			if got := certOf(t, certs, key).Leaf.NotAfter; !got.Equal(tt.want) {
				t.Errorf("NotAfter = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLoginIsClippedToTheRoles(t *testing.T) {
	c := start(t, Config{SessionTTL: 8 * time.Hour, Roles: []Role{{Name: "access", MaxSessionTTL: time.Hour}}})
	cert := loginCert(t, c, "alice", WithTTL(100*time.Hour))
	if left := time.Until(cert.Leaf.NotAfter); left > time.Hour || left < 59*time.Minute {
		t.Errorf("the session lasts %v, want 1 h", left)
	}
}

func TestMintRefusals(t *testing.T) {
	c := start(t, Config{})
	session := loginCert(t, c, "alice")
	clt := authClient(t, c, c.Root(), session)
	for _, tt := range []struct {
		name   string
		change func(*proto.UserCertsRequest)
		want   string
	}{
		{"no_expiry", func(r *proto.UserCertsRequest) { r.Expires = time.Time{} }, "access denied: client credentials have expired, please relogin."},
		{"expiry_in_the_past", func(r *proto.UserCertsRequest) { r.Expires = time.Now().Add(-time.Second) }, "access denied: client credentials have expired, please relogin."},
		{"another_user", func(r *proto.UserCertsRequest) { r.Username = "root" }, "access denied: impersonation is not allowed"},
		{"unknown_cluster", func(r *proto.UserCertsRequest) { r.RouteToCluster = "x" }, `remote cluster "x" is not found`},
		{"unknown_kube", func(r *proto.UserCertsRequest) { r.KubernetesCluster = "x" }, `Kubernetes cluster "x" is not registered`},
		{"unknown_request", func(r *proto.UserCertsRequest) { r.AccessRequests = []string{"x"} }, `access request "x" not found`},
		{"new_key_fields_only", func(r *proto.UserCertsRequest) { r.PublicKey = nil }, "auth server did not recognize new public key fields"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, _ := newRequest(t, "alice", session.Leaf.NotAfter)
			tt.change(req)
			_, err := clt.GenerateUserCerts(t.Context(), *req)
			wantText(t, err, tt.want)
		})
	}
}

func TestV17TakesTheNewKeyFields(t *testing.T) {
	c := start(t, Config{Version: V17})
	session := loginCert(t, c, "alice")
	req, key := newRequest(t, "alice", session.Leaf.NotAfter)
	req.PublicKey, req.SSHPublicKey = nil, nil
	certs, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatal(err)
	}
	certOf(t, certs, key)
	if certs.SSH != nil {
		t.Error("an SSH cert was issued though no SSH key was sent")
	}
}

func TestPrivateKeyPolicyRefusesPlainKeys(t *testing.T) {
	c := start(t, Config{PrivateKeyPolicy: "hardware_key"})
	session := loginCert(t, c, "alice")
	req, _ := newRequest(t, "alice", session.Leaf.NotAfter)
	_, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
	wantText(t, err, "private key policy not met")
}

// A connection outlives the session it was opened in, and what it mints then
// is stillborn.
func TestMintAfterTheSessionEnded(t *testing.T) {
	c := start(t, Config{})
	session := loginCert(t, c, "alice", WithTTL(time.Hour))
	clt := authClient(t, c, c.Root(), session)
	if _, err := clt.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Faults().ClockOffset(time.Until(session.Leaf.NotAfter) + time.Second)
	req, key := newRequest(t, "alice", time.Now().Add(3*time.Hour))
	certs, err := clt.GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatalf("mint on an open connection: %v", err)
	}
	if got := certOf(t, certs, key).Leaf.NotAfter; !got.Equal(session.Leaf.NotAfter) {
		t.Errorf("NotAfter = %v, want the session's end %v", got, session.Leaf.NotAfter)
	}
	if _, err := authClient(t, c, c.Root(), session).Ping(t.Context()); err == nil {
		t.Error("a new connection was let in with an expired cert")
	}
}

func TestIdentityInCerts(t *testing.T) {
	c := startDBs(t, Config{Roles: []Role{{Name: "access", DBUsers: []string{"reader"}, DBNames: []string{"app", "log"}, KubeGroups: []string{"dev"}}}})
	session := loginCert(t, c, "alice")
	cert := mintDB(t, c, session, proto.RouteToDatabase{ServiceName: "pg", Protocol: "postgres", Username: "reader", Database: "app"})
	id := certwatch.ParseIdentity(cert.Leaf.Subject)
	if id.User != "alice" || id.DBService != "pg" || id.DBUser != "reader" || id.DBName != "app" ||
		id.TeleportCluster != c.Name() || !slices.Equal(id.Usage, []string{"usage:db"}) ||
		!slices.Equal(id.DBUsers, []string{"reader"}) || !slices.Equal(id.DBNames, []string{"app", "log"}) ||
		!slices.Equal(id.KubeGroups, []string{"dev"}) || id.PrivateKeyPolicy != "none" || id.LoginIP != "127.0.0.1" {
		t.Errorf("identity of the minted cert: %+v", id)
	}
	if cert.Leaf.Issuer.CommonName != c.Name() {
		t.Errorf("issuer %q, want %q", cert.Leaf.Issuer.CommonName, c.Name())
	}
	issued := cert.Leaf.NotBefore.Add(time.Minute)
	if d := time.Since(issued); d < 0 || d > 30*time.Second {
		t.Errorf("NotBefore = %v, want a minute before the issue", cert.Leaf.NotBefore)
	}
	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: c.Root().UserCAPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("verify with the user CA: %v", err)
	}
}

func TestSSHCert(t *testing.T) {
	c := start(t, Config{})
	session := loginCert(t, c, "alice")
	req, _ := newRequest(t, "alice", session.Leaf.NotAfter)
	certs, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := sshutils.ParseCertificate(certs.SSH)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := int64(cert.ValidBefore), session.Leaf.NotAfter.Unix(); got != want {
		t.Errorf("ValidBefore = %d, want %d", got, want)
	}
	if want := []string{"alice", joinPrincipal}; !slices.Equal(cert.ValidPrincipals, want) {
		t.Errorf("principals %q, want %q", cert.ValidPrincipals, want)
	}
	if got, want := cert.Extensions["teleport-roles"], `{"roles":["access"],"version":"v1"}`; got != want {
		t.Errorf("teleport-roles = %s, want %s", got, want)
	}
	checker := ssh.CertChecker{IsUserAuthority: func(ssh.PublicKey) bool { return true }}
	if err := checker.CheckCert("alice", cert); err != nil {
		t.Errorf("check: %v", err)
	}
}

func TestAccessRequests(t *testing.T) {
	c := startDBs(t, Config{Roles: []Role{defaultRole(), {Name: "dba"}, {Name: "auditor"}}})
	later := time.Now().Add(time.Hour)
	for _, r := range []AccessRequest{
		{ID: "ok", User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED},
		{ID: "two", User: "alice", Roles: []string{"auditor"}, State: types.RequestState_APPROVED},
		{ID: "no", User: "alice", Roles: []string{"dba"}, State: types.RequestState_DENIED},
		{ID: "wait", User: "alice", Roles: []string{"dba"}, State: types.RequestState_PENDING},
		{ID: "later", User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED, AssumeStart: later},
		{ID: "other", User: "bob", Roles: []string{"dba"}, State: types.RequestState_APPROVED},
	} {
		c.PutAccessRequest(r)
	}
	session := loginCert(t, c, "alice")
	clt := authClient(t, c, c.Root(), session)
	for id, want := range map[string]string{
		"no": "has been denied", "wait": "is awaiting approval", "later": "can not be assumed until", "other": "not found",
	} {
		req, _ := newRequest(t, "alice", session.Leaf.NotAfter)
		req.AccessRequests = []string{id}
		_, err := clt.GenerateUserCerts(t.Context(), *req)
		wantText(t, err, want)
	}
	assume := func(from func(*proto.UserCertsRequest), ids ...string) certwatch.Identity {
		t.Helper()
		cert := mintDB(t, c, session, proto.RouteToDatabase{}, func(r *proto.UserCertsRequest) { r.Usage = proto.UserCertsRequest_All },
			func(r *proto.UserCertsRequest) { r.AccessRequests = ids }, from)
		session = cert
		return certwatch.ParseIdentity(cert.Leaf.Subject)
	}
	keep := func(*proto.UserCertsRequest) {}
	assume(keep, "ok")
	if id := assume(keep, "two"); !slices.Equal(id.ActiveRequests, []string{"ok", "two"}) || !slices.Contains(id.Roles, "dba") || !slices.Contains(id.Roles, "auditor") {
		t.Errorf("assuming adds up: %q, roles %q", id.ActiveRequests, id.Roles)
	}
	if id := assume(func(r *proto.UserCertsRequest) { r.DropAccessRequests = []string{"ok"} }); !slices.Equal(id.ActiveRequests, []string{"two"}) || slices.Contains(id.Roles, "dba") {
		t.Errorf("after dropping one: %q, roles %q", id.ActiveRequests, id.Roles)
	}
	if id := assume(func(r *proto.UserCertsRequest) { r.DropAccessRequests = []string{"*"} }); id.ActiveRequests != nil || !slices.Equal(id.Roles, []string{"access"}) {
		t.Errorf("after dropping all: %q, roles %q", id.ActiveRequests, id.Roles)
	}
	own, err := clt.GetAccessRequests(t.Context(), types.AccessRequestFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if len(own) != 5 {
		t.Errorf("%d own requests listed, want 5", len(own))
	}
}
