package agent

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/simcluster/simkube"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies/kube/kubeconfig"
)

// TestKubectlAcrossARenewal has every kind of kubectl's streams open while the
// session is renewed, and opens them again after it.
func TestKubectlAcrossARenewal(t *testing.T) {
	testneeds.Time(t, "it copies files across renewals")
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"))
	e.start()
	e.AwaitState("prod", state.TunnelReady)
	k := kubectltest.New(t, e.kubeconfig())
	for name, k := range k.Transports() {
		t.Run(name, func(t *testing.T) { e.acrossARenewal(t, name, k) })
	}
}

var forwardLine = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) ->`)

func (e *env) acrossARenewal(t *testing.T, name string, k *kubectltest.Kubectl) {
	context := "--context=" + kubeconfig.ContextName("prod")
	big := make([]byte, 2<<20)
	_, _ = rand.Read(big) // it never fails
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(from, big, 0o600); err != nil {
		t.Fatal(err)
	}
	w := k.Start(t, context, "get", "pods", "-w", "--output-watch-events")
	w.Await(t, simkube.PodWeb)
	logs := k.Start(t, context, "logs", "-f", simkube.PodTalker)
	logs.Await(t, "still here, 1")
	attached := k.Start(t, context, "attach", simkube.PodTalker)
	attached.Await(t, "still here")
	running := k.Start(t, context, "exec", simkube.PodWeb, "--", "sh", "-c", "echo begun; sleep 4; echo finished")
	running.Await(t, "begun")
	forward := k.Start(t, context, "port-forward", "pod/"+simkube.PodWeb, ":80")
	addr := forwardLine.FindStringSubmatch(forward.AwaitFunc(t, "its address", forwardLine.MatchString))[1]
	if got := pageOf(t, addr); !strings.Contains(got, "GET /x") {
		t.Errorf("port-forward before: %q", got)
	}
	k.Must(t, context, "cp", from, simkube.PodWeb+":/tmp/"+name)

	mints := e.Sim.Counters().Mints["kube/prod"]
	e.Login()
	testwait.Eventually(t, "the renewed session has its own cert", func() bool { return e.Sim.Counters().Mints["kube/prod"] > mints })
	e.AwaitState("prod", state.TunnelReady)

	e.Sim.Root().Simkube("prod").AddPod("default", "late-"+name, nil)
	w.Await(t, "late-"+name)
	for what, p := range map[string]*kubectltest.Process{"logs": logs, "attach": attached} {
		lines := strings.Count(p.Output(), "still here")
		p.AwaitFunc(t, what+" to go on", func(out string) bool { return strings.Count(out, "still here") > lines+2 })
	}
	running.Await(t, "finished")
	if got := pageOf(t, addr); !strings.Contains(got, "GET /x") {
		t.Errorf("port-forward after: %q", got)
	}
	k.Must(t, context, "cp", simkube.PodWeb+":/tmp/"+name, to)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, big) {
		t.Errorf("what was copied before the renewal came back after it as %d bytes, %v", len(got), err)
	}
	again := k.Start(t, context, "port-forward", "pod/"+simkube.PodWeb, ":80")
	addr = forwardLine.FindStringSubmatch(again.AwaitFunc(t, "its address", forwardLine.MatchString))[1]
	if got := pageOf(t, addr); !strings.Contains(got, "GET /x") {
		t.Errorf("another port-forward: %q", got)
	}
	object := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-" + name + "}\ndata: {a: b}\n"
	if r := k.RunIn(t, []byte(object), context, "apply", "--server-side", "-f", "-"); r.Code != 0 {
		t.Errorf("apply: %+v", r)
	}
	if got := k.Must(t, context, "get", "cm", "c-"+name, "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("applied: %q", got)
	}
}

// pageOf asks a pod's web server.
func pageOf(t *testing.T, addr string) string {
	t.Helper()
	c := http.Client{Timeout: wait, Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("http://" + addr + "/x")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}
