package agent

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/ports"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/internal/simcluster"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies/kube/kubeconfig"
)

func newKubeEnv(t *testing.T, cfg simcluster.Config) *env {
	t.Helper()
	if cfg.Kubes == nil {
		cfg.Kubes = []simcluster.Kube{{Name: "prod"}, {Name: "dev"}}
	}
	return newEnv(t, cfg)
}

// kubeConfig writes the config with kube tunnels on a shared port of their own.
func (e *env) kubeConfig(port int, items ...string) {
	e.t.Helper()
	e.config(items...)
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil {
		e.t.Fatal(err)
	}
	raw = fmt.Appendf(raw, "kube: {port: %d}\n", port)
	if err := os.WriteFile(e.Paths.Config, raw, 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) kubeTunnel(name, resource string, more ...string) string {
	return strings.Join(append([]string{"name: " + name, "kind: kube", "cluster: " + e.Sim.Name(), "resource: " + resource}, more...), ", ")
}

func (e *env) kubeconfig() string { return kubeconfig.Path(e.Paths.StateDir) }

// kube is a client made from berth's kubeconfig as Kubernetes' own are.
func (e *env) kube(tunnel string) (get func(path string) (int, string), base string) {
	e.t.Helper()
	file, err := clientcmd.LoadFromFile(e.kubeconfig())
	if err != nil {
		e.t.Fatal(err)
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*file, kubeconfig.ContextName(tunnel), nil, nil).ClientConfig()
	if err != nil {
		e.t.Fatal(err)
	}
	tlsCfg, err := rest.TLSConfigFor(cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: tlsCfg, ForceAttemptHTTP2: true}
	e.t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr, Timeout: wait}
	return func(path string) (int, string) {
		resp, err := c.Get(cfg.Host + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, err.Error()
		}
		return resp.StatusCode, string(body)
	}, cfg.Host
}

const podsPath = "/api/v1/namespaces/default/pods"

// TestKubeTunnels takes two tunnels that share a port and one of its own
// through a day: logged out, logged in, certificate renewed, restarted.
func TestKubeTunnels(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	shared, own := simworld.FreePort(t), simworld.FreePort(t)
	e.kubeConfig(shared, e.kubeTunnel("prod", "prod"), e.kubeTunnel("Dev.1", "dev"), e.kubeTunnel("own", "prod", fmt.Sprintf("port: %d", own), "hold: 0s"))
	stop := e.start()
	before, err := os.ReadFile(e.kubeconfig())
	if err != nil {
		t.Fatalf("there is no kubeconfig before the login: %v", err)
	}
	waiting := e.AwaitState("own", state.TunnelWaitingForLogin)
	if want := fmt.Sprintf("127.0.0.1:%d", own); waiting.Address != want || waiting.Kind != state.KindKube {
		t.Errorf("the tunnel is %+v", waiting)
	}
	get, _ := e.kube("own")
	code, body := get(podsPath)
	if code != 401 || !strings.Contains(body, `"kind":"Status"`) || !strings.Contains(body, "berth login") {
		t.Errorf("logged out it says %d %s", code, body)
	}

	// A request that is held goes on with the login.
	held := make(chan string, 1)
	getProd, base := e.kube("prod")
	if base != fmt.Sprintf("https://127.0.0.1:%d/prod", shared) {
		t.Errorf("prod is at %s", base)
	}
	go func() {
		code, body := getProd(podsPath)
		held <- fmt.Sprint(code, body)
	}()
	e.Await("a request to wait", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 })
	e.Login()
	if got := <-held; !strings.HasPrefix(got, "200") || !strings.Contains(got, "web-0") {
		t.Errorf("the held request got %s", got)
	}
	ready := e.AwaitState("Dev.1", state.TunnelReady)
	if ready.Address != fmt.Sprintf("127.0.0.1:%d", shared) || ready.Engine != state.EngineNative || ready.CertValidUntil == nil {
		t.Errorf("the tunnel is %+v", ready)
	}
	e.Sim.Root().Simkube("dev").AddPod("default", "only-in-dev", nil)
	getDev, _ := e.kube("Dev.1")
	if code, body := getDev(podsPath + "/only-in-dev"); code != 200 {
		t.Errorf("dev says %d %s", code, body)
	}
	if code, _ := getProd(podsPath + "/only-in-dev"); code != 404 {
		t.Errorf("prod has the pod of dev: %d", code)
	}

	// Stopped, it says so; the others go on.
	c := e.Client()
	if err := c.StopTunnel(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	if code, body := getProd(podsPath); code != 503 || !strings.Contains(body, "berth tunnel start prod") {
		t.Errorf("a stopped tunnel says %d %s", code, body)
	}
	if code, _ := getDev(podsPath); code != 200 {
		t.Errorf("the other says %d", code)
	}
	if err := c.StartTunnel(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("prod", state.TunnelReady)
	if err := c.RestartTunnel(t.Context(), "prod"); err != nil {
		t.Fatal(err)
	}
	if code, body := getProd(podsPath); code != 200 {
		t.Errorf("restarted it says %d %s", code, body)
	}
	if n := e.Sim.Counters().Mints["kube/prod"]; n != 2 { // own shares the first
		t.Errorf("%d certs for prod", n)
	}
	stop()
	e.start()
	after, err := os.ReadFile(e.kubeconfig())
	if err != nil || string(after) != string(before) {
		t.Errorf("after a restart the kubeconfig is another one: %v", err)
	}
	e.AwaitState("prod", state.TunnelReady)
	if code, body := getProd(podsPath); code != 200 {
		t.Errorf("the same client after the agent's restart: %d %s", code, body)
	}
}

// TestKubeConfigChanges edits the config under a running agent: the shared
// port, a tunnel's setting, the last tunnel gone.
func TestKubeConfigChanges(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.config()
	e.start()
	if _, err := os.Stat(e.kubeconfig()); err == nil {
		t.Error("a kubeconfig although there is no tunnel")
	}
	c := e.Client()
	one := simworld.FreePort(t)
	e.kubeConfig(one, e.kubeTunnel("prod", "prod"))
	if err := c.ReloadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("prod", state.TunnelReady)
	get, base := e.kube("prod")
	if code, body := get(podsPath); code != 200 || base != fmt.Sprintf("https://127.0.0.1:%d/prod", one) {
		t.Errorf("at %s: %d %s", base, code, body)
	}
	two := simworld.FreePort(t)
	e.kubeConfig(two, e.kubeTunnel("prod", "prod", "as: jane", "as_groups: [dev]"), e.kubeTunnel("other", "dev"))
	if err := c.ReloadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("prod", state.TunnelReady)
	if get, base = e.kube("prod"); base != fmt.Sprintf("https://127.0.0.1:%d/prod", two) {
		t.Errorf("prod is at %s", base)
	}
	if code, body := get(podsPath); code != 403 || !strings.Contains(body, "jane") {
		t.Errorf("as jane: %d %s", code, body)
	}
	e.kubeConfig(two)
	if err := c.ReloadConfig(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(e.kubeconfig())
	if err != nil || strings.Contains(string(raw), "prod") {
		t.Errorf("the last tunnel is still in the kubeconfig: %v\n%s", err, raw)
	}
}

func TestKubeProblems(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access", KubeUsers: []string{"dev-user", "ops-user"}, KubeGroups: []string{"dev"}}}})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("typo", "prdo"), e.kubeTunnel("several", "prod"), e.kubeTunnel("one", "prod", "as: ops-user"))
	e.start()
	typo := e.AwaitState("typo", state.TunnelError)
	if typo.Problem == nil || typo.Problem.Code != state.CodeUnknownResource || !strings.Contains(typo.Problem.Action, "berth resources kube") {
		t.Errorf("problem is %+v", typo.Problem)
	}
	get, _ := e.kube("typo")
	if code, body := get(podsPath); code != 503 || !strings.Contains(body, "lists no Kubernetes cluster") {
		t.Errorf("it says %d %s", code, body)
	}
	e.AwaitState("several", state.TunnelReady)
	get, _ = e.kube("several")
	if code, body := get(podsPath); code != 403 || !strings.Contains(body, "as: in the config of tunnel several") {
		t.Errorf("several users: %d %s", code, body)
	}
	get, _ = e.kube("one")
	if code, body := get(podsPath); code != 200 {
		t.Errorf("as one of them: %d %s", code, body)
	}
}

// TestKubectl runs the real kubectl through berth: forty at once, and what
// streams, while the certificate is renewed under it. The user's own kubeconfig
// stays as it is.
func TestKubectl(t *testing.T) {
	testneeds.Time(t, "it starts fifty kubectl")
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"))
	e.start()
	e.AwaitState("prod", state.TunnelReady)
	k := kubectltest.New(t, e.kubeconfig())
	e.Sim.Root().Simkube("prod").AddLogPod("default", "chatty", 4<<20)
	context := "--context=" + kubeconfig.ContextName("prod")
	mine := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(mine, []byte("apiVersion: v1\nkind: Config\ncurrent-context: minikube\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("apiVersion: v1\nkind: Config\ncurrent-context: minikube\n"))

	if r := k.Run(t, context, "get", "pods"); !strings.Contains(r.Out, "web-0") {
		t.Fatalf("get pods: %s%s", r.Out, r.Err)
	}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if r := k.Run(t, context, "get", "pods"); !strings.Contains(r.Out, "web-0") {
				t.Errorf("one of forty: %s%s", r.Out, r.Err)
			}
		})
	}
	wg.Wait()
	if n := e.Sim.Counters().Mints["kube/prod"]; n != 1 {
		t.Errorf("%d certs for 41 runs", n)
	}
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) {
			if r := k.Run(t, context, "exec", "web-0", "--", "echo", "hello"); strings.TrimSpace(r.Out) != "hello" {
				t.Errorf("exec: %q %s", r.Out, r.Err)
			}
			if r := k.Run(t, context, "logs", "chatty"); len(r.Out) != 4<<20 {
				t.Errorf("logs: %d bytes, %s", len(r.Out), r.Err)
			}
			minted := e.Sim.Counters().Mints["kube/prod"]
			e.Login() // a new session, and with it a new certificate
			testwait.Eventually(t, "the new certificate", func() bool { return e.Sim.Counters().Mints["kube/prod"] > minted })
			if r := k.Run(t, context, "exec", "web-0", "--", "echo", "again"); strings.TrimSpace(r.Out) != "again" {
				t.Errorf("exec after a login: %q %s", r.Out, r.Err)
			}
		})
	}
	if raw, err := os.ReadFile(mine); err != nil || sha256.Sum256(raw) != sum {
		t.Error("the user's own kubeconfig was changed")
	}
}

// TestKubectlIsToldWhy checks what kubectl prints while no one is logged in,
// with and without knowing what the cluster has.
func TestKubectlIsToldWhy(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod", "hold: 0s"))
	e.Login()
	stop := e.start()
	e.AwaitState("prod", state.TunnelReady)
	k := kubectltest.New(t, e.kubeconfig())
	context := "--context=" + kubeconfig.ContextName("prod")
	commands := [][]string{{"get", "pods"}, {"exec", "web-0", "--", "true"}, {"logs", "web-0"}, {"get", "--raw", podsPath}}
	for _, cached := range []bool{false, true} {
		if cached { // kubectl remembers what a cluster has
			e.Login()
			e.start()
			e.AwaitState("prod", state.TunnelReady)
			k.Must(t, context, "get", "pods")
			if err := os.RemoveAll(e.Home); err != nil {
				t.Fatal(err)
			}
		} else {
			stop()
			if err := os.RemoveAll(e.Home); err != nil {
				t.Fatal(err)
			}
			stop = e.start()
		}
		e.AwaitState("prod", state.TunnelWaitingForLogin)
		for _, args := range commands {
			r := k.Run(t, append([]string{context}, args...)...)
			last := r.Err[strings.LastIndex(strings.TrimSpace(r.Err), "\n")+1:]
			if r.Code == 0 || !strings.Contains(last, "tunnel prod") || !strings.Contains(last, "berth login "+e.Sim.ProxyAddr()) {
				t.Errorf("kubectl %v (cached: %v) ends with %d and says %s", args, cached, r.Code, r.Err)
			}
		}
		if !cached {
			stop()
		}
	}
}

func TestKubeResources(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.config()
	e.start()
	e.Await("the login to be seen", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })
	c := e.Client()
	added, err := c.AddTunnel(t.Context(), state.TunnelSpec{Name: "prod", Kind: state.KindKube, Resource: "prod", As: "jane", AsGroups: []string{"dev"}})
	if err != nil || added.Port != 0 {
		t.Fatalf("added %+v, %v", added, err)
	}
	list, _, err := c.Resources(t.Context(), client.ResourceQuery{Kind: state.KindKube})
	if err != nil || len(list) != 2 || list[1].Name != "prod" || list[1].Tunnel != "prod" || list[0].Tunnel != "" {
		t.Errorf("listed %+v, %v", list, err)
	}
	if all, _, err := c.Resources(t.Context(), client.ResourceQuery{}); err != nil || len(all) != 3 {
		t.Errorf("all kinds: %+v, %v", all, err)
	}
	if _, err := c.AddTunnel(t.Context(), state.TunnelSpec{Name: "x", Kind: state.KindKube, Resource: "nope"}); err == nil || !strings.Contains(err.Error(), "lists no Kubernetes cluster") {
		t.Errorf("a cluster that is not there: %v", err)
	}
}

// TestKubePortIsWritten adds tunnels by command: the port that they share is in
// the config from the first one on, and stays when somebody wants it.
func TestKubePortIsWritten(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.config()
	e.start()
	e.Await("the login to be seen", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })
	c := e.Client()
	add := func(spec state.TunnelSpec) {
		t.Helper()
		if _, err := c.AddTunnel(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	port := func() int {
		t.Helper()
		cfg, err := config.Load(e.Paths.Config)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Kube.Port
	}
	add(state.TunnelSpec{Name: "own", Kind: state.KindKube, Resource: "dev", Port: simworld.FreePort(t)})
	if got := port(); got != 0 {
		t.Errorf("a tunnel with a port of its own made the shared one %d", got)
	}
	add(state.TunnelSpec{Name: "prod", Kind: state.KindKube, Resource: "prod"})
	shared := port()
	if ready := e.AwaitState("prod", state.TunnelReady); shared == 0 || ready.Address != fmt.Sprintf("127.0.0.1:%d", shared) {
		t.Errorf("the config says %d, and the tunnel is at %s", shared, ready.Address)
	}
	add(state.TunnelSpec{Name: "dev", Kind: state.KindKube, Resource: "dev"})
	if got := port(); got != shared {
		t.Errorf("a second tunnel made the port %d, before it was %d", got, shared)
	}
	if _, err := c.AddTunnel(t.Context(), state.TunnelSpec{Name: "pg", Kind: state.KindDB, Resource: "pg", DBUser: "alice", Port: shared}); err == nil {
		t.Error("another tunnel could have the shared port")
	}
}

func TestWriteKubePort(t *testing.T) {
	t.Parallel()
	edit := func(text string, spec state.TunnelSpec, busy ...int) int {
		t.Helper()
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := config.Edit(path, func(d *config.Document) error {
			if err := d.AddTunnel(spec); err != nil {
				return err
			}
			return ports.WriteKube(d, spec, func(port int) bool { return slices.Contains(busy, port) })
		}); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Kube.Port
	}
	spec := state.TunnelSpec{Name: "k", Kind: state.KindKube, Cluster: "c", Resource: "r"}
	usual := ports.SharedKube(config.Default())
	if got := edit("", spec); got != usual {
		t.Errorf("the first tunnel: port %d, want %d", got, usual)
	}
	if got := edit("", spec, usual); got == usual || got == 0 {
		t.Errorf("somebody has it: port %d", got)
	}
	byHand := "tunnels: [{name: h, kind: kube, cluster: c, resource: r}]\n"
	if got := edit(byHand, spec, usual); got != usual {
		t.Errorf("berth itself has it: port %d, want %d", got, usual)
	}
	if got := edit("kube: {port: 15999}\n", spec); got != 15999 {
		t.Errorf("one was written: port %d", got)
	}
}

// TestKubeCredentials asks for what "berth kube credentials" prints.
func TestKubeCredentials(t *testing.T) {
	e := newKubeEnv(t, simcluster.Config{})
	e.config()
	e.start()
	c := e.Client()
	if _, err := c.KubeCredentials(t.Context(), e.Sim.Name(), "prod"); err == nil {
		t.Errorf("logged out: %v", err)
	}
	e.Login()
	e.Await("the login to be seen", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })
	k, err := c.KubeCredentials(t.Context(), "", "prod")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(k.Cert, k.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(k.CA) {
		t.Fatalf("no CA in %q", k.CA)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: k.ServerName}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(k.Server + podsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("with the credential: %s", resp.Status)
	}
	minted := e.Sim.Counters().Mints["kube/prod"]
	if again, err := c.KubeCredentials(t.Context(), e.Sim.Name(), "prod"); err != nil || string(again.Cert) != string(k.Cert) {
		t.Errorf("the second time it is another one: %v", err)
	}
	if n := e.Sim.Counters().Mints["kube/prod"]; n != minted {
		t.Errorf("%d certs were minted for the second time, want it from memory", n-minted)
	}
	if _, err := c.KubeCredentials(t.Context(), "", "nope"); err == nil || !strings.Contains(err.Error(), "lists no Kubernetes cluster") {
		t.Errorf("a cluster that is not there: %v", err)
	}
	if strings.Contains(e.Log.String(), "PRIVATE KEY") || strings.Contains(fmt.Sprintf("%v %+v %#v", k, k, k), "PRIVATE") {
		t.Error("the key is in the log")
	}
}

// TestKubeThroughTSH has a supervised tsh carry a tunnel behind the same
// address and kubeconfig, through a new session and the end of one.
func TestKubeThroughTSH(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod", "engine: tsh", "hold: 0s"))
	e.useFakeTSH()
	e.start()
	before, err := os.ReadFile(e.kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	ready := e.AwaitState("prod", state.TunnelReady)
	if ready.Engine != state.EngineTSH || ready.EngineReason != "engine: tsh in the config" {
		t.Errorf("the tunnel is %+v", ready)
	}
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != 200 || !strings.Contains(body, "web-0") {
		t.Fatalf("through tsh: %d %s", code, body)
	}
	k := kubectltest.New(t, e.kubeconfig())
	if out := k.Must(t, "--context="+kubeconfig.ContextName("prod"), "exec", "web-0", "--", "echo", "hello"); strings.TrimSpace(out) != "hello" {
		t.Errorf("exec says %q", out)
	}
	minted := e.Sim.Counters().Mints["kube/prod"]
	e.Login() // tsh is started anew with the new session
	for served := range 1000 {
		if code, body := get(podsPath); code != 200 {
			t.Errorf("after a login: %d %s", code, body)
		}
		if served > 2 && e.Sim.Counters().Mints["kube/prod"] > minted {
			break
		}
	}
	// The tsh that ends may still write there.
	testwait.Eventually(t, "the home to be gone", func() bool { return os.RemoveAll(e.Home) == nil })
	e.AwaitState("prod", state.TunnelWaitingForLogin)
	if code, body := get(podsPath); code != 401 || !strings.Contains(body, "berth login") {
		t.Errorf("logged out: %d %s", code, body)
	}
	if after, err := os.ReadFile(e.kubeconfig()); err != nil || string(after) != string(before) {
		t.Errorf("the kubeconfig is another one: %v", err)
	}
}

// useFakeTSH has the agent run this program in the part of tsh.
func (e *env) useFakeTSH() {
	e.t.Helper()
	path := filepath.Join(e.t.TempDir(), "tsh")
	testneeds.Here(e.t, "symbolic links", os.Symlink(os.Args[0], path))
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.Paths.Config, fmt.Appendf(raw, "tsh: {path: %q}\n", path), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func TestKubeServerName(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"proxy.example.com:443": "kube-teleport-proxy-alpn.proxy.example.com",
		"127.0.0.1:3080":        "kube-teleport-proxy-alpn.teleport.cluster.local",
		"[::1]:3080":            "kube-teleport-proxy-alpn.teleport.cluster.local",
		"no port":               "",
	} {
		if got, err := tunnel.KubeServerName(addr); got != want || (err == nil) != (want != "") {
			t.Errorf("tunnel.KubeServerName(%q) = %q, %v; want %q", addr, got, err, want)
		}
	}
}
