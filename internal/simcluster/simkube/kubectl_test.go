package simkube

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/internal/simcluster/kubectltest"
	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	testwait.NoLeaks(m)
}

// startEndpoint starts a stand-in and returns a real kubectl for it.
func startEndpoint(t *testing.T, cfg Config) (*Endpoint, *kubectltest.Kubectl) {
	t.Helper()
	e, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, e.Kubeconfig(), 0o600); err != nil {
		t.Fatal(err)
	}
	return e, kubectltest.New(t, path)
}

func wantContains(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("no %q in:\n%s", p, got)
		}
	}
}

func TestKubectlReads(t *testing.T) {
	e, k := startEndpoint(t, Config{Name: "simnode"})
	wantContains(t, k.Must(t, "version"), "Server Version: "+DefaultVersion)
	wantContains(t, k.Must(t, "api-resources"), "pods", "deployments", "selfsubjectaccessreviews")
	wantContains(t, k.Must(t, "get", "pods"), "NAME", "web-0", "1/1", "Running")
	wantContains(t, k.Must(t, "get", "pods", "-o", "wide"), "simnode", "10.244.0.7")
	wantContains(t, k.Must(t, "get", "all", "-A"), "pod/web-0", "service/kubernetes")
	wantContains(t, k.Must(t, "get", "ns"), "kube-system", "Active")
	wantContains(t, k.Must(t, "describe", "pod", "web-0"), "Image:", "simkube/main:1")
	if got := k.Must(t, "get", "po", "-l", "app in (web-0, nix)", "--field-selector=status.phase=Running", "-o", "name"); got != "pod/web-0\n" {
		t.Errorf("selected %q", got)
	}
	if got := k.Must(t, "get", "--raw", "/version"); !strings.Contains(got, DefaultVersion) {
		t.Errorf("/version: %s", got)
	}
	if r := k.Run(t, "get", "pod", "nix"); r.Code != 1 || r.Err != "Error from server (NotFound): pods \"nix\" not found\n" {
		t.Errorf("a pod that is not there: %+v", r)
	}
	if calls := e.Calls(); len(calls) == 0 || !strings.Contains(calls[0].UserAgent, "kubectl") || !calls[0].Authorization {
		t.Errorf("calls %+v", calls)
	}
}

func TestKubectlMustAuthenticate(t *testing.T) {
	e, k := startEndpoint(t, Config{})
	before := e.Stats().Requests // some kubectl ask for the server's version first of all
	r := k.Run(t, "get", "pods", "--token=wrong")
	if r.Code == 0 || !strings.Contains(r.Err, "must be logged in") {
		t.Errorf("with a wrong token: %+v", r)
	}
	if n := e.Stats().Requests; n > before+1 {
		t.Errorf("%d requests were let through", n-before)
	}
}

func TestKubectlWrites(t *testing.T) {
	_, k := startEndpoint(t, Config{})
	k.Must(t, "create", "configmap", "c1", "--from-literal=a=b")
	k.Must(t, "create", "secret", "generic", "s1", "--from-literal=a=b")
	k.Must(t, "create", "namespace", "other")
	k.Must(t, "create", "deployment", "made", "--image=x:1", "--replicas=3")
	wantContains(t, k.Must(t, "get", "deploy", "made"), "3/3")
	k.Must(t, "label", "cm", "c1", "x=y")
	k.Must(t, "patch", "cm", "c1", "--type=merge", "-p", `{"data":{"z":"1","a":null}}`)
	if got := k.Must(t, "get", "cm", "c1", "-o", "jsonpath={.data} {.metadata.labels}"); got != `{"z":"1"} {"x":"y"}` {
		t.Errorf("config map %s", got)
	}
	if got := k.Must(t, "get", "secret", "s1", "-o", "jsonpath={.data.a}"); got != "Yg==" {
		t.Errorf("secret %s", got)
	}
	k.Must(t, "run", "p1", "--image=x", "-n", "other")
	k.Must(t, "wait", "pod/p1", "-n", "other", "--for=condition=Ready", "--timeout=10s")
	k.Must(t, "delete", "namespace", "other")
	if r := k.Run(t, "get", "pod", "p1", "-n", "other"); !strings.Contains(r.Err, "NotFound") {
		t.Errorf("a pod outlived its namespace: %+v", r)
	}
	k.Must(t, "delete", "pod", "web-0")
	k.Must(t, "delete", "cm", "--all")
	if r := k.Run(t, "create", "configmap", "c1", "-n", "nowhere"); !strings.Contains(r.Err, `namespaces "nowhere" not found`) {
		t.Errorf("in a namespace that is not there: %+v", r)
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: d1, labels: {app: d1}}
spec:
  replicas: 2
  selector: {matchLabels: {app: d1}}
  template:
    metadata: {labels: {app: d1}}
    spec:
      containers:
      - {name: c, image: "x:1", env: [{name: A, value: b}, {name: C, value: d}]}
      - {name: side, image: "y:1"}
`

func TestKubectlApplies(t *testing.T) {
	_, k := startEndpoint(t, Config{})
	changed := []byte(strings.Replace(strings.Replace(deployment, "x:1", "x:2", 1), ", {name: C, value: d}", "", 1))
	const show = "jsonpath={.spec.replicas} {.spec.template.spec.containers[*].image} {.spec.template.spec.containers[0].env[*].name}"
	k.MustIn(t, []byte(deployment), "apply", "-f", "-")
	wantContains(t, k.MustIn(t, changed, "apply", "-f", "-"), "configured")
	if got := k.Must(t, "get", "deploy", "d1", "-o", show); got != "2 x:2 y:1 A" {
		t.Errorf("applied: %s", got)
	}
	k.Must(t, "scale", "deploy/d1", "--replicas=5")
	k.Must(t, "set", "image", "deploy/d1", "c=x:9")
	k.Must(t, "rollout", "status", "deploy/d1", "--timeout=10s")
	if got := k.Must(t, "get", "deploy", "d1", "-o", show); got != "5 x:9 y:1 A" {
		t.Errorf("scaled: %s", got)
	}
}

func TestKubectlAppliesServerSide(t *testing.T) {
	_, k := startEndpoint(t, Config{})
	apply := func(text string, args ...string) kubectltest.Result {
		return k.RunIn(t, []byte(text), append([]string{"apply", "--server-side", "-f", "-"}, args...)...)
	}
	if r := apply(deployment); r.Code != 0 {
		t.Fatalf("create: %+v", r)
	}
	if r := apply(strings.Replace(deployment, "x:1", "x:2", 1)); r.Code != 0 {
		t.Errorf("change: %+v", r)
	}
	const show = "jsonpath={.spec.replicas} {.spec.template.spec.containers[*].image}"
	if got := k.Must(t, "get", "deploy", "d1", "-o", show); got != "2 x:2 y:1" {
		t.Errorf("applied: %s", got)
	}
}

func TestKubectlWatches(t *testing.T) {
	e, k := startEndpoint(t, Config{})
	p := k.Start(t, "get", "pods", "-w", "--output-watch-events")
	p.Await(t, "web-0")
	testwait.Eventually(t, "watch", func() bool { return e.Stats().Watches == 1 })
	e.AddPod("default", "fresh", nil)
	p.Await(t, "ADDED      fresh")
	if err := e.SetLabel("default", "fresh", "a", "b"); err != nil {
		t.Fatal(err)
	}
	p.Await(t, "MODIFIED   fresh")
	if err := e.RemovePod("default", "fresh"); err != nil {
		t.Fatal(err)
	}
	p.Await(t, "DELETED    fresh")
	e.CutStreams()
	testwait.Eventually(t, "end of the watch", func() bool { return p.Ended() && e.Stats().Watches == 0 })
}

func TestKubectlLogs(t *testing.T) {
	e, k := startEndpoint(t, Config{LogInterval: 20 * time.Millisecond})
	for i := range 5 {
		e.Log("default", PodWeb, fmt.Sprintf("line %d", i))
	}
	if got := k.Must(t, "logs", PodWeb, "--tail=2"); got != "line 3\nline 4\n" {
		t.Errorf("tail: %q", got)
	}
	if got := k.Must(t, "logs", PodWeb, "--limit-bytes=9"); got != "line 0\nli" {
		t.Errorf("limit: %q", got)
	}
	k.Start(t, "logs", "-f", PodTalker).Await(t, "still here, 3")
	p := k.Start(t, "logs", "-f", PodWeb)
	p.Await(t, "line 4")
	e.Log("default", PodWeb, "one more")
	p.Await(t, "one more")
	e.AddLogPod("default", "big", 3_000_001)
	if got := len(k.Must(t, "logs", "big")); got != 3_000_001 {
		t.Errorf("a log of 3000001 bytes has %d", got)
	}
	if err := e.RemovePod("default", PodWeb); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "end of the log", p.Ended)
}

func TestKubectlExec(t *testing.T) {
	_, k := startEndpoint(t, Config{})
	big := make([]byte, 2<<20)
	_, _ = rand.Read(big)
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) {
			if got := k.Must(t, "exec", PodWeb, "--", "echo", "hello", "there"); got != "hello there\n" {
				t.Errorf("echo: %q", got)
			}
			if got := k.MustIn(t, big, "exec", "-i", PodWeb, "--", "cat"); got != string(big) {
				t.Errorf("cat: %d bytes of %d, or others", len(got), len(big))
			}
			r := k.Run(t, "exec", PodWeb, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
			if r.Out != "out\n" || r.Code != 7 || !strings.HasPrefix(r.Err, "err\n") {
				t.Errorf("exit: %+v", r)
			}
			if got := k.MustIn(t, []byte("echo one\necho two\n"), "exec", "-i", PodWeb, "--", "sh"); got != "one\ntwo\n" {
				t.Errorf("sh: %q", got)
			}
			if r := k.Run(t, "exec", PodWeb, "--", "nosuch"); r.Code == 0 || !strings.Contains(r.Err, `"nosuch": executable file not found`) {
				t.Errorf("nosuch: %+v", r)
			}
			if r := k.Run(t, "exec", PodWeb, "-c", "nosuch", "--", "true"); !strings.Contains(r.Err, "container nosuch is not valid") &&
				!strings.Contains(r.Err, "container not found") {
				t.Errorf("no such container: %+v", r)
			}
		})
	}
}

// TestKubectlHearsACut: a command whose connection is cut fails over WebSocket. Over
// SPDY kubectl takes the cut for the command's end, and exits with 0, see
// docs/RELIABILITY.md.
func TestKubectlHearsACut(t *testing.T) {
	e, k := startEndpoint(t, Config{})
	p := k.Transports()["websocket"].Start(t, "exec", PodWeb, "--", "sh", "-c", "echo begun; sleep 600")
	p.Await(t, "begun")
	e.CutStreams()
	p.Await(t, "error:")
}

func TestKubectlCopies(t *testing.T) {
	_, k := startEndpoint(t, Config{})
	dir := t.TempDir()
	big := make([]byte, 3<<20)
	_, _ = rand.Read(big)
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, big, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(dir, "back-"+name)
			k.Must(t, "cp", from, PodWeb+":/tmp/"+name)
			k.Must(t, "cp", PodWeb+":/tmp/"+name, to)
			got, err := os.ReadFile(to)
			if err != nil || !bytes.Equal(got, big) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
		})
	}
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) -> (\d+)`)

// forwarded returns the local addresses by the pod's ports.
func forwarded(t *testing.T, p *kubectltest.Process, n int) map[string]string {
	t.Helper()
	out := p.AwaitFunc(t, "its ports", func(out string) bool { return len(forwarding.FindAllString(out, -1)) >= n })
	ports := make(map[string]string)
	for _, m := range forwarding.FindAllStringSubmatch(out, -1) {
		ports[m[2]] = m[1]
	}
	return ports
}

func TestKubectlForwardsPorts(t *testing.T) {
	_, k := startEndpoint(t, Config{})
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) {
			p := k.Start(t, "port-forward", "pod/"+PodWeb, ":80", ":7", ":9")
			ports := forwarded(t, p, 3)
			for range 3 {
				resp, err := http.Get("http://" + ports["80"] + "/x")
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(body) != "default/web-0 port 80: GET /x\n" {
					t.Errorf("answer %q, %v", body, err)
				}
			}
			http.DefaultClient.CloseIdleConnections()
			conn, err := net.Dial("tcp", ports["7"])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); err != nil || string(got) != "ping" {
				t.Errorf("echo %q, %v", got, err)
			}
			refused, err := net.Dial("tcp", ports["9"])
			if err != nil {
				t.Fatal(err)
			}
			defer refused.Close()
			p.AwaitFunc(t, "a refusal", func(out string) bool { return strings.Contains(out, "connection refused") })
		})
	}
}

func TestKubectlAsks(t *testing.T) {
	e, k := startEndpoint(t, Config{Allow: func(a Access) bool {
		return a.User != "bob" || (a.Verb == "list" && a.Resource == "pods" && a.Namespace == "default")
	}})
	if got := k.Must(t, "auth", "can-i", "create", "deployments"); got != "yes\n" {
		t.Errorf("the administrator may: %q", got)
	}
	if r := k.Run(t, "auth", "can-i", "delete", "pods", "--as=bob"); r.Out != "no\n" || r.Code != 1 {
		t.Errorf("bob may delete pods: %+v", r)
	}
	k.Must(t, "get", "pods", "--as=bob", "--as-group=dev")
	r := k.Run(t, "get", "secrets", "--as=bob", "--as-group=dev")
	if !strings.Contains(r.Err, `secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" in the namespace "default"`) {
		t.Errorf("bob reads secrets: %+v", r)
	}
	calls := e.Calls()
	if last := calls[len(calls)-1]; last.ImpersonateUser != "bob" || strings.Join(last.ImpersonateGroups, ",") != "dev" {
		t.Errorf("last call %+v", last)
	}
	wantContains(t, k.Must(t, "auth", "whoami", "--as=carol"), "carol", "system:authenticated")
}
