package simcluster

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"

	"berth/internal/testwait"
)

// mintKube mints a Kubernetes cert at the root.
func mintKube(t *testing.T, c *Cluster, session tls.Certificate, cluster, kube string, change ...func(*proto.UserCertsRequest)) tls.Certificate {
	t.Helper()
	req, key := newRequest(t, "alice", session.Leaf.NotAfter)
	req.RouteToCluster, req.KubernetesCluster = cluster, kube
	req.Usage, req.RequesterName = proto.UserCertsRequest_Kubernetes, proto.UserCertsRequest_TSH_KUBE_LOCAL_PROXY
	for _, f := range change {
		f(req)
	}
	certs, err := authClient(t, c, c.Root(), session).GenerateUserCerts(t.Context(), *req)
	if err != nil {
		t.Fatalf("mint for %q: %v", kube, err)
	}
	return certOf(t, certs, key)
}

// kubeClient returns a client of the Kubernetes endpoint.
func kubeClient(t *testing.T, c *Cluster, cert tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: c.Root().HostCAPool(), ServerName: "kube-teleport-proxy-alpn." + c.ProxyHost(),
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// kubeGet asks the Kubernetes endpoint and returns the status code and what is
// said.
func kubeGet(t *testing.T, c *Cluster, clt *http.Client, path string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+c.ProxyAddr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := clt.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestKubeClustersAreToldApart(t *testing.T) {
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}, {Name: "dev"}}})
	leaf, err := c.AddLeaf("leaf.test")
	if err != nil {
		t.Fatal(err)
	}
	leaf.AddKube(Kube{Name: "prod"})
	leaf.Simkube("prod").AddPod("default", "in-the-leaf", nil)
	c.Root().Simkube("dev").AddPod("default", "in-dev", nil)
	session := loginCert(t, c, "alice")
	for _, tt := range []struct{ name, cluster, kube, pod string }{
		{"root_prod", "", "prod", "web-0"},
		{"root_dev", c.Name(), "dev", "in-dev"},
		{"leaf_prod", "leaf.test", "prod", "in-the-leaf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clt := kubeClient(t, c, mintKube(t, c, session, tt.cluster, tt.kube))
			code, body := kubeGet(t, c, clt, "/api/v1/namespaces/default/pods/"+tt.pod, nil)
			if code != http.StatusOK {
				t.Errorf("pod %s: %d %s", tt.pod, code, body)
			}
		})
	}
	if n := c.Counters(); n.KubeTotal["dev"] != 1 || n.KubeTotal["leaf.test/prod"] != 1 || n.Mints["kube/dev"] != 1 {
		t.Errorf("counters %+v", n)
	}
}

func TestKubeImpersonation(t *testing.T) {
	const pods = "/api/v1/namespaces/default/pods"
	several := Role{Name: "access", KubeUsers: []string{"dev-user", "ops-user"}, KubeGroups: []string{"dev", "ops"}}
	for _, tt := range []struct {
		name   string
		role   Role
		header http.Header
		code   int
		text   string   // of a refusal
		user   string   // who the request is made as
		groups []string // the same
	}{
		{name: "own_name", role: defaultRole(), code: 200, user: "alice", groups: []string{"system:masters", "system:authenticated"}},
		{name: "several_users", role: several, code: 403, text: "please select a user to impersonate, refusing to select a user"},
		{
			name: "one_of_several", role: several, header: http.Header{"Impersonate-User": {"ops-user"}},
			code: 200, user: "ops-user", groups: []string{"dev", "ops", "system:authenticated"},
		},
		{
			name: "one_group", role: several, header: http.Header{"Impersonate-User": {"ops-user"}, "Impersonate-Group": {"ops"}},
			code: 200, user: "ops-user", groups: []string{"ops"},
		},
		{
			name: "foreign_user", role: several, header: http.Header{"Impersonate-User": {"root"}}, code: 403,
			text: `impersonation request has been denied, user header \"root\" is not allowed in roles`,
		},
		{
			name: "foreign_group", role: several, header: http.Header{"Impersonate-User": {"ops-user"}, "Impersonate-Group": {"root"}},
			code: 403, text: `group header \"root\" value is not allowed in roles`,
		},
		{
			name: "extra", role: several, header: http.Header{"Impersonate-Extra-X": {"y"}}, code: 403,
			text: `unsupported impersonation header \"Impersonate-Extra-X\"`,
		},
		{name: "no_principals", role: Role{Name: "access"}, code: 404, text: "does not allow Kubernetes access"},
		{name: "no_kubes", role: Role{Name: "access", NoKubes: true}, code: 403, text: `kubernetes cluster \"prod\" not found`},
		{
			name: "other_labels", role: Role{Name: "access", KubeLabels: map[string][]string{"env": {"dev"}}}, code: 403,
			text: `kubernetes cluster \"prod\" not found`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, Config{Kubes: []Kube{{Name: "prod"}}, Roles: []Role{tt.role}})
			clt := kubeClient(t, c, mintKube(t, c, loginCert(t, c, "alice"), "", "prod"))
			code, body := kubeGet(t, c, clt, pods, tt.header)
			if code != tt.code || !strings.Contains(body, tt.text) {
				t.Errorf("%d %s, want %d with %q", code, body, tt.code, tt.text)
			}
			calls := c.Root().Simkube("prod").Calls()
			if tt.code != 200 {
				var status struct{ Kind, Status string }
				if err := json.Unmarshal([]byte(body), &status); err != nil || status.Kind != "Status" || status.Status != "Failure" {
					t.Errorf("no Status: %s", body)
				}
				if len(calls) != 0 {
					t.Errorf("it got through: %+v", calls)
				}
				return
			}
			if len(calls) != 1 || calls[0].ImpersonateUser != tt.user || !slices.Equal(calls[0].ImpersonateGroups, tt.groups) {
				t.Errorf("calls %+v, want one of %s %v", calls, tt.user, tt.groups)
			}
		})
	}
}

func TestKubeClusterThatIsGone(t *testing.T) {
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}}})
	clt := kubeClient(t, c, mintKube(t, c, loginCert(t, c, "alice"), "", "prod"))
	c.Root().RemoveKube("prod")
	if code, body := kubeGet(t, c, clt, "/api", nil); code != 404 || !strings.Contains(body, `Kubernetes cluster \"prod\" not found`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := kubeGet(t, c, clt, "/version", nil); code != 500 || body != "Kubernetes cluster \"prod\" not found\n" {
		t.Errorf("its version: %d %s", code, body)
	}
}

func TestKubeMFA(t *testing.T) {
	role := defaultRole()
	role.RequireSessionMFA = true
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}}, Roles: []Role{role}})
	session := loginCert(t, c, "alice")
	auth := authClient(t, c, c.Root(), session)
	resp, err := auth.IsMFARequired(t.Context(), &proto.IsMFARequiredRequest{
		Target: &proto.IsMFARequiredRequest_KubernetesCluster{KubernetesCluster: "prod"},
	})
	if err != nil || !resp.Required {
		t.Errorf("MFA required: %v, %v", resp, err)
	}
	clt := kubeClient(t, c, mintKube(t, c, session, "", "prod"))
	if code, body := kubeGet(t, c, clt, "/api", nil); code != 403 {
		t.Errorf("without MFA: %d %s", code, body)
	}
}

func TestKubeClustersAreListedByRole(t *testing.T) {
	role := defaultRole()
	role.KubeLabels = map[string][]string{"env": {"dev"}}
	c := start(t, Config{Roles: []Role{role}, Kubes: []Kube{
		{Name: "prod", Labels: map[string]string{"env": "prod"}}, {Name: "dev", Labels: map[string]string{"env": "dev"}},
	}})
	auth := authClient(t, c, c.Root(), loginCert(t, c, "alice"))
	list, err := client.GetAllResources[types.KubeCluster](t.Context(), auth,
		&proto.ListResourcesRequest{ResourceType: types.KindKubernetesCluster})
	if err != nil || len(list) != 1 || list[0].GetName() != "dev" {
		t.Errorf("listed %v, %v", list, err)
	}
}

// kubeWatch opens a watch and returns it once its first event is there.
func kubeWatch(t *testing.T, c *Cluster, clt *http.Client) *json.Decoder {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+c.ProxyAddr()+"/api/v1/namespaces/default/pods?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := clt.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	dec := json.NewDecoder(resp.Body)
	if err := dec.Decode(new(any)); err != nil {
		t.Fatal(err)
	}
	return dec
}

// wantCut reads until the stream ends, which has to be soon and an error.
func wantCut(t *testing.T, dec *json.Decoder) {
	t.Helper()
	for {
		if err := dec.Decode(new(any)); err != nil {
			if errors.Is(err, io.EOF) {
				t.Error("the stream ended in an orderly way")
			}
			return
		}
	}
}

func TestKubeStreamsEndWithTheCert(t *testing.T) {
	t.Parallel()
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}}, DisconnectExpiredCert: true})
	session := loginCert(t, c, "alice")
	cert := mintKube(t, c, session, "", "prod", func(r *proto.UserCertsRequest) { r.Expires = time.Now().Add(time.Hour) })
	dec := kubeWatch(t, c, kubeClient(t, c, cert))
	c.Faults().ClockOffset(time.Until(cert.Leaf.NotAfter) - time.Second)
	wantCut(t, dec)
	if left := cert.Leaf.NotAfter.Sub(c.now()); left > 0 {
		t.Errorf("cut %s before the cert's end", left)
	}
	testwait.Eventually(t, "no watch is left", func() bool { return c.Root().Simkube("prod").Stats().Watches == 0 })
}

func TestKubeFaults(t *testing.T) {
	t.Parallel()
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}, {Name: "dev"}}})
	session := loginCert(t, c, "alice")
	prod := kubeClient(t, c, mintKube(t, c, session, "", "prod"))
	dev := kubeClient(t, c, mintKube(t, c, session, "", "dev"))
	dec, other := kubeWatch(t, c, prod), kubeWatch(t, c, dev)
	if n := c.Faults().DropKube("prod"); n != 1 {
		t.Errorf("%d connections dropped", n)
	}
	wantCut(t, dec)
	if code, body := kubeGet(t, c, prod, "/api", nil); code != 200 {
		t.Errorf("after the drop: %d %s", code, body)
	}
	c.Faults().Kube("prod", Stalled)
	short := *prod
	short.Timeout = 300 * time.Millisecond
	if resp, err := short.Get("https://" + c.ProxyAddr() + "/api"); err == nil {
		_ = resp.Body.Close()
		t.Error("a stalled cluster answered")
	}
	if code, _ := kubeGet(t, c, dev, "/api", nil); code != 200 {
		t.Errorf("the other cluster: %d", code)
	}
	c.Faults().Kube("prod", Refusing)
	if resp, err := prod.Get("https://" + c.ProxyAddr() + "/api"); err == nil {
		_ = resp.Body.Close()
		t.Error("a refusing cluster answered")
	}
	if err := c.Faults().Clear(); err != nil {
		t.Fatal(err)
	}
	if code, body := kubeGet(t, c, prod, "/api", nil); code != 200 {
		t.Errorf("after all: %d %s", code, body)
	}
	if err := c.Faults().Restart(t.Context(), 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	wantCut(t, other)
}

func TestKubeWantsACert(t *testing.T) {
	c := start(t, Config{Kubes: []Kube{{Name: "prod"}}})
	clt := kubeClient(t, c, tls.Certificate{})
	clt.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	if resp, err := clt.Get("https://" + c.ProxyAddr() + "/api"); err == nil {
		_ = resp.Body.Close()
		t.Errorf("without a cert: %s", resp.Status)
	}
}
