//go:build e2e && linux

package e2e

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/simcluster/simkube"
)

// addKube adds a tunnel to a Kubernetes cluster and returns a kubectl whose
// current context it is.
func (p *person) addKube(name, resource string, more ...string) *kubectltest.Kubectl {
	p.t.Helper()
	p.berth(append([]string{"tunnel", "add", "kube", name, "--resource", resource}, more...)...)
	p.awaitReady(name)
	return p.kubectl(p.berth("exec", "--quiet", name, "--", "sh", "-c", `echo "$KUBECONFIG"`))
}

// TestKubernetes takes kubectl through berth and a real Teleport: what streams,
// a logout, a new login under an open watch, a crowd.
func TestKubernetes(t *testing.T) {
	p := newPerson(t, roleKube)
	p.login()
	p.startAgent()
	k := p.addKube("prod", kubeProd)
	if tun := p.tunnel("prod"); tun.Kind != state.KindKube || tun.Engine != state.EngineNative || tun.CertValidUntil == nil {
		t.Errorf("the tunnel is %+v", tun)
	}
	if got := k.Must(t, "get", "pods"); !strings.Contains(got, simkube.PodWeb) {
		t.Fatalf("get pods:\n%s", got)
	}
	p.checkKubeStreams(k)

	before := p.berth("kube", "config")
	w := k.Start(t, "get", "pods", "-w", "--output-watch-events")
	w.Await(t, simkube.PodWeb)
	p.logout()
	p.berth("status", "--wait=waiting_for_login", "--timeout", "20s", "prod")
	held := k.Start(t, "get", "pods", "-o", "name")
	if err := until(t.Context(), 10*time.Second, 20*time.Millisecond, func() error {
		if p.tunnel("prod").Waiting == 0 {
			return os.ErrDeadlineExceeded
		}
		return nil
	}); err != nil {
		t.Fatalf("no client waits for the login: %v\n%s", err, held.Output())
	}
	if p.berth("kube", "config") != before {
		t.Error("logged out, the kubeconfig is another one")
	}
	p.login()
	held.Await(t, "pod/"+simkube.PodWeb)
	lab.kube.AddPod("default", "late-"+p.name, nil)
	w.Await(t, "late-"+p.name) // the watch of the former login goes on
	w.Stop()

	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if r := k.Run(t, "get", "pods"); r.Code != 0 || !strings.Contains(r.Out, simkube.PodWeb) {
				t.Errorf("one of forty: %+v", r)
			}
		})
	}
	wg.Wait()
	if children := childrenOf(t, p.agent.pid()); len(children) != 0 {
		t.Errorf("the agent has %d children", len(children))
	}
}

// TestKubernetesThroughTSH does the same through a supervised tsh proxy kube.
func TestKubernetesThroughTSH(t *testing.T) {
	p := newPerson(t, roleKube)
	p.login()
	p.startAgent()
	k := p.addKube("viatsh", kubeDev, "--engine", "tsh")
	if tun := p.tunnel("viatsh"); tun.Engine != state.EngineTSH {
		t.Errorf("the tunnel is %+v", tun)
	}
	p.checkKubeStreams(k)
	p.logout()
	p.berth("status", "--wait=waiting_for_login", "--timeout", "20s", "viatsh")
	held := k.Start(t, "get", "pods", "-o", "name")
	p.login()
	held.Await(t, "pod/"+simkube.PodWeb)
}

// TestKubernetesCredentials has kubectl ask berth for a credential each time,
// and a user who may be several say which.
func TestKubernetesCredentials(t *testing.T) {
	p := newPerson(t, roleKubeMany)
	p.login()
	p.startAgent()
	k := p.addKube("many", kubeProd)
	r := k.Run(t, "get", "--raw", "/api/v1/namespaces/default/pods")
	if r.Code == 0 || !strings.Contains(r.Err, "please select a user to impersonate") || !strings.Contains(r.Err, "as: in the config of tunnel many") {
		t.Errorf("without a user: %+v", r)
	}
	k.Must(t, "get", "pods", "--as=ops-user")
	k = p.addKube("one", kubeProd, "--as", "dev-user")
	k.Must(t, "get", "pods")

	path := filepath.Join(p.dir, "exec-kubeconfig")
	if err := os.WriteFile(path, []byte(p.berth("kube", "config", "--exec")), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := p.kubectl(path).With("BERTH_HOME=" + p.berthHome())
	if got := plugin.Must(t, "--context=berth-one", "get", "pods", "--as=ops-user"); !strings.Contains(got, simkube.PodWeb) {
		t.Errorf("with a credential of berth's:\n%s", got)
	}
	begin := time.Now()
	const runs = 10
	for range runs {
		p.berth("kube", "credentials", "--kube-cluster", kubeProd)
	}
	t.Logf("berth kube credentials: %s each", (time.Since(begin) / runs).Round(time.Millisecond))
	p.logout()
	p.berth("status", "--wait=waiting_for_login", "--timeout", "20s", "one")
	if r := plugin.Run(t, "--context=berth-one", "get", "pods"); r.Code == 0 || !strings.Contains(r.Err, "berth login") {
		t.Errorf("logged out: %+v", r)
	}
}

// TestKubeconfigOfOthers runs every command near kubeconfigs, a logout and a
// login among them, and looks at the user's own one.
func TestKubeconfigOfOthers(t *testing.T) {
	p := newPerson(t, roleKube)
	p.login()
	p.startAgent()
	mine := filepath.Join(p.dir, ".kube", "config")
	if err := os.MkdirAll(filepath.Dir(mine), 0o700); err != nil {
		t.Fatal(err)
	}
	own := strings.ReplaceAll(string(lab.kube.Kubeconfig("minikube")), "current-context", "# mine\ncurrent-context")
	if err := os.WriteFile(mine, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	p.addKube("prod", kubeProd)
	for _, args := range [][]string{
		{"kube", "config"}, {"kube", "config", "--exec"}, {"kube", "credentials", "--kube-cluster", kubeProd},
		{"tunnel", "restart", "prod"}, {"tunnel", "stop", "prod"}, {"tunnel", "start", "prod"},
		{"logout", lab.teleport.addr()}, {"tunnel", "rm", "prod"},
	} {
		p.berth(args...)
		raw, err := os.ReadFile(mine)
		if err != nil || sha256.Sum256(raw) != sha256.Sum256([]byte(own)) {
			t.Fatalf("berth %q changed the user's own kubeconfig: %v\n%s", args, err, raw)
		}
	}
	p.berthLogin()
	p.addKube("prod", kubeProd)
	p.berth("kube", "config", "merge")
	p.kubectl(mine).Must(t, "--context=berth-prod", "get", "pods")
	p.berth("kube", "config", "merge", "--undo")
	if raw, err := os.ReadFile(mine); err != nil || string(raw) != own {
		t.Errorf("merge and its undoing changed the user's own kubeconfig: %v\n%s", err, raw)
	}
}
