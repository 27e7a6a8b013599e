//go:build e2e && linux

package e2e

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/simcluster/kubectltest"
	"berth/internal/simcluster/simkube"
)

// The Kubernetes clusters of the laboratory: two names of one API server.
const (
	kubeProd = "prod"
	kubeDev  = "dev"
)

// The roles of the Kubernetes journeys.
const (
	roleKube     = "kube-admin" // every Kubernetes cluster, as the user's own name in system:masters
	roleKubeMany = "kube-many"  // every Kubernetes cluster, as dev-user or ops-user
)

var kubeRoles = []string{
	kubeRole(roleKube, "kubernetes_groups: [system:masters]"),
	kubeRole(roleKubeMany, "kubernetes_groups: [dev, ops]\n    kubernetes_users: [dev-user, ops-user]"),
}

func kubeRole(name, principals string) string {
	return `kind: role
version: v7
metadata: {name: ` + name + `}
spec:
  options: {max_session_ttl: 12h}
  allow:
    logins: [nobody]
    kubernetes_labels: {'*': '*'}
    kubernetes_resources: [{kind: '*', namespace: '*', name: '*', verbs: ['*']}]
    ` + principals + "\n"
}

func (l *laboratory) kubeconfig() string { return filepath.Join(l.dir, "kube-service-kubeconfig") }

// startKube starts the API server that Teleport's Kubernetes service is for.
func (l *laboratory) startKube() error {
	var err error
	if l.kube, err = simkube.Start(simkube.Config{LogInterval: 100 * time.Millisecond}); err != nil {
		return err
	}
	return os.WriteFile(l.kubeconfig(), l.kube.Kubeconfig(kubeProd, kubeDev), 0o600)
}

// kubectl returns a real kubectl with a kubeconfig of the person's. Where that
// starts tsh, it is the person's.
func (p *person) kubectl(kubeconfig string) *kubectltest.Kubectl {
	p.t.Helper()
	return kubectltest.New(p.t, kubeconfig).With("TELEPORT_HOME="+p.tshHome, "SSL_CERT_FILE="+lab.webCA.file)
}

// tshKubeLogin logs in to a Kubernetes cluster by tsh and returns a kubectl
// that goes straight through Teleport.
func (p *person) tshKubeLogin(cluster string) *kubectltest.Kubectl {
	p.t.Helper()
	path := filepath.Join(p.dir, "kubeconfig-"+cluster)
	_, err := mustRun(p.t.Context(), append(p.env(p.tshHome), "KUBECONFIG="+path), "", filepath.Join(lab.bin, "tsh"), "kube", "login", cluster)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.kubectl(path)
}

// TestRealKube proves the laboratory without berth: kubectl reaches the API
// server through Teleport by what tsh itself sets up.
func TestRealKube(t *testing.T) {
	p := newPerson(t, roleKube)
	p.login()
	if got := p.tsh("kube", "ls"); !strings.Contains(got, kubeProd) || !strings.Contains(got, kubeDev) {
		t.Fatalf("tsh kube ls:\n%s", got)
	}
	k := p.tshKubeLogin(kubeProd)
	if got := k.Must(t, "get", "pods"); !strings.Contains(got, simkube.PodWeb) {
		t.Errorf("get pods:\n%s", got)
	}
	if got := k.Must(t, "auth", "can-i", "create", "deployments"); got != "yes\n" {
		t.Errorf("can-i: %q", got)
	}
	k.Must(t, "create", "configmap", p.name, "--from-literal=a=b")
	if got := k.Must(t, "get", "cm", p.name, "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("config map: %q", got)
	}
	p.checkKubeStreams(k)
	for _, call := range lab.kube.Calls() {
		if call.ImpersonateUser == p.name && strings.Contains(call.Path, "/pods") && len(call.ImpersonateGroups) > 0 {
			return
		}
	}
	t.Errorf("nothing arrived in the name of %s", p.name)
}

// checkKubeStreams watches, reads logs, runs commands, copies and forwards.
func (p *person) checkKubeStreams(k *kubectltest.Kubectl) {
	t := p.t
	t.Helper()
	w := k.Start(t, "get", "pods", "-w", "--output-watch-events")
	w.Await(t, simkube.PodWeb)
	fresh := "fresh-" + p.name
	lab.kube.AddPod("default", fresh, nil)
	w.Await(t, fresh)
	w.Stop()
	k.Start(t, "logs", "-f", simkube.PodTalker).Await(t, "still here, 3")
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) {
			if got := k.MustIn(t, []byte("in and out"), "exec", "-i", fresh, "--", "cat"); got != "in and out" {
				t.Errorf("exec: %q", got)
			}
			if r := k.Run(t, "exec", fresh, "--", "sh", "-c", "exit 7"); r.Code != 7 {
				t.Errorf("exec: %+v", r)
			}
			file := filepath.Join(p.dir, "cp-"+name)
			if err := os.WriteFile(file, []byte(strings.Repeat("0123456789", 100_000)), 0o600); err != nil {
				t.Fatal(err)
			}
			k.Must(t, "cp", file, fresh+":/tmp/"+name)
			if got := k.Must(t, "exec", fresh, "--", "cat", "/tmp/"+name); len(got) != 1_000_000 {
				t.Errorf("copied %d bytes", len(got))
			}
			forward := k.Start(t, "port-forward", "pod/"+fresh, ":80")
			addr := "http://" + forwardedTo(t, forward)
			if got, err := httpGet(t.Context(), addr+"/x"); err != nil || !strings.Contains(got, "GET /x") {
				t.Errorf("port-forward: %q, %v", got, err)
			}
		})
	}
}

// TestRealKubeUserMustBeChosen shows Teleport's refusal when a role has
// several users.
func TestRealKubeUserMustBeChosen(t *testing.T) {
	p := newPerson(t, roleKubeMany)
	p.login()
	k := p.tshKubeLogin(kubeDev)
	r := k.Run(t, "get", "--raw", "/api", "-v=9") // in a discovery kubectl would make "unknown" of it
	if r.Code == 0 || !strings.Contains(r.Err, "please select a user to impersonate") {
		t.Errorf("without a user: %+v", r)
	}
	k.Must(t, "get", "pods", "--as=ops-user")
	if r := k.Run(t, "get", "pods", "--as=root"); r.Code == 0 || !strings.Contains(r.Err, "impersonation request has been denied") {
		t.Errorf("as root: %+v", r)
	}
}

var forwardLine = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) ->`)

// forwardedTo returns the local address of a port-forward.
func forwardedTo(t *testing.T, p *kubectltest.Process) string {
	t.Helper()
	out := p.AwaitFunc(t, "its address", forwardLine.MatchString)
	return forwardLine.FindStringSubmatch(out)[1]
}

func httpGet(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
