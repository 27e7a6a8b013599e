package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simcluster/kubectltest"
	"berth/internal/simcluster/simkube"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/proxies/kube/kubeconfig"
)

// informers starts n of client-go's own informers for pods through the tunnel;
// seen tells how many of them know a pod.
func (e *env) informers(tunnel string, n int) (seen func(pod string) int) {
	e.t.Helper()
	file, err := clientcmd.LoadFromFile(e.kubeconfig())
	if err != nil {
		e.t.Fatal(err)
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*file, kubeconfig.ContextName(tunnel), nil, nil).ClientConfig()
	if err != nil {
		e.t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	pods := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("default")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	stores := make([]cache.Store, n)
	for i := range n {
		var ctl cache.Controller
		stores[i], ctl = cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: &cache.ListWatch{
				ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return pods.List(ctx, o) },
				WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return pods.Watch(ctx, o) },
			},
			ObjectType: &unstructured.Unstructured{},
			Handler:    cache.ResourceEventHandlerFuncs{},
		})
		running.Go(func() { ctl.Run(ctx.Done()) })
	}
	e.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return func(pod string) int {
		known := 0
		for _, s := range stores {
			if _, ok, err := s.GetByKey("default/" + pod); ok && err == nil {
				known++
			}
		}
		return known
	}
}

// TestKubeProxyRestart restarts the proxy under fifty informers, and gives them
// a new certificate: they find their way again, by client-go's own means.
func TestKubeProxyRestart(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod"))
	e.start()
	e.AwaitState("prod", state.TunnelReady)
	const n = 50
	seen := e.informers("prod", n)
	testwait.Eventually(t, "all informers know what there is", func() bool { return seen("web-0") == n })
	prod := e.Sim.Root().Simkube("prod")

	e.Login() // under open watches
	prod.AddPod("default", "after-login", nil)
	testwait.Eventually(t, "all informers saw what came after a login", func() bool { return seen("after-login") == n })

	if err := e.Sim.Faults().Restart(t.Context(), 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	prod.AddPod("default", "after-restart", nil)
	testwait.Eventually(t, "all informers saw what came after a restart", func() bool { return seen("after-restart") == n })
	if got := e.AwaitState("prod", state.TunnelReady); got.Connections > 2*n {
		t.Errorf("%d requests are open for %d informers", got.Connections, n)
	}
}

// TestKubeStreamsOutliveTheSession ends the session under a watch and a log
// that is followed: both go on; new requests are told to log in.
func TestKubeStreamsOutliveTheSession(t *testing.T) {
	testneeds.Time(t, "it waits for the end of a session")
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	e.kubeConfig(simworld.FreePort(t), e.kubeTunnel("prod", "prod", "hold: 0s"))
	e.start()
	e.AwaitState("prod", state.TunnelReady)
	e.shortSession(30 * time.Second)
	k := kubectltest.New(t, e.kubeconfig())
	args := "--context=" + kubeconfig.ContextName("prod")
	w := k.Start(t, args, "get", "pods", "-w", "--output-watch-events")
	w.Await(t, simkube.PodWeb)
	logs := k.Start(t, args, "logs", "-f", simkube.PodTalker)
	logs.Await(t, "still here, 1")
	// The session began a minute ago by its cert, so its last eighth is eleven seconds.
	testwait.Eventually(t, "one is warned of the session's end", func() bool {
		r := k.Run(t, args, "get", "pods")
		return strings.Contains(r.Err+w.Output()+logs.Output(), "the Teleport session of tunnel prod ends in")
	})
	var ended atomic.Bool
	testwait.Eventually(t, "the session has ended", func() bool {
		if !ended.Load() {
			ended.Store(e.Snapshot().Tunnels[0].State == state.TunnelWaitingForLogin)
		}
		return ended.Load()
	})
	e.Sim.Root().Simkube("prod").AddPod("default", "late", nil)
	w.Await(t, "late")
	lines := strings.Count(logs.Output(), "\n")
	logs.Await(t, fmt.Sprintf("still here, %d", lines+2))
	if r := k.Run(t, args, "get", "pods"); r.Code == 0 || !strings.Contains(r.Err, "berth login") {
		t.Errorf("a new request after the end: %+v", r)
	}
}
