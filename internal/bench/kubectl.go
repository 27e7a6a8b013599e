package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"berth/proxies/kube/kubeconfig"
)

// kubectlRun says which kubectl and tsh to measure, and on which cluster.
type kubectlRun struct {
	kubectl, tsh  string
	home, caFile  string // TELEPORT_HOME, and who vouches for the proxy; empty means the system
	cluster, kube string
	tunnel        string
	real          bool // tsh is: the simulated one is not what tsh costs
}

// kubeWay is one of the ways to the same cluster: a kubeconfig and a context.
type kubeWay struct{ name, kubeconfig, context string }

// kubectls compares kubectl through berth, with an exec plugin, and through
// "tsh proxy kube", in turns; then has forty of them at once go through berth.
func (b *bench) kubectls(ctx context.Context, a *kubeAgent, r kubectlRun) (err error) {
	context := kubeconfig.ContextName(r.tunnel)
	berth := kubeWay{"berth", a.kubeconfig, context}
	byBerth, byTSH, err := r.plugins(ctx, b, a)
	if err != nil {
		return err
	}
	proxy, stop, err := r.startProxy(ctx, b)
	if err != nil {
		return err
	}
	defer stop()
	ways := []kubeWay{berth, byBerth, byTSH, proxy}
	took := make([][]time.Duration, len(ways))
	for round := range b.times(15, 2) {
		if round%5 == 0 {
			if err := b.calm(ctx); err != nil {
				return err
			}
		}
		for i, w := range ways {
			began := time.Now()
			if out, err := r.run(ctx, b, w, "get", "--raw", "/version"); err != nil {
				return fmt.Errorf("kubectl by %s: %w: %s", w.name, err, out)
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	parts := make([]string, len(ways))
	for i, w := range ways {
		parts[i] = w.name + " " + ms(median(took[i]))
	}
	line := row{what: r.where() + "`kubectl get --raw /version` (p50)", measured: strings.Join(parts, ", ")}
	if r.real {
		line.budget, line.verdict = "berth ≤ tsh's plugin", within(median(took[0]).Seconds(), median(took[2]).Seconds())
	}
	b.add(line)
	return b.fortyKubectls(ctx, a, r, berth)
}

// where is what the rows begin with.
func (r kubectlRun) where() string {
	if r.real {
		return "real cluster: "
	}
	return "simulated cluster and tsh: "
}

// plugins writes kubeconfigs with the exec plugins of berth and of tsh.
func (r kubectlRun) plugins(ctx context.Context, b *bench, a *kubeAgent) (byBerth, byTSH kubeWay, err error) {
	cmd := exec.CommandContext(ctx, b.binary, "kube", "config", "--exec")
	cmd.Env = a.env
	raw, err := cmd.Output()
	if err != nil {
		return byBerth, byTSH, fmt.Errorf("berth kube config --exec: %w", err)
	}
	b.load.addChild(cmd.ProcessState)
	file, err := clientcmd.Load(raw)
	if err != nil {
		return byBerth, byTSH, err
	}
	context := kubeconfig.ContextName(r.tunnel)
	byBerth = kubeWay{"berth's exec plugin", filepath.Join(b.dir, "plugin-berth"), context}
	byTSH = kubeWay{"tsh's exec plugin", filepath.Join(b.dir, "plugin-tsh"), context}
	if err := clientcmd.WriteToFile(*file, byBerth.kubeconfig); err != nil {
		return byBerth, byTSH, err
	}
	entry := file.Contexts[context]
	if entry == nil {
		return byBerth, byTSH, fmt.Errorf("there is no context %s", context)
	}
	plugin := file.AuthInfos[entry.AuthInfo].Exec
	plugin.Command, plugin.Env = r.tsh, []api.ExecEnvVar{{Name: "TELEPORT_HOME", Value: r.home}}
	plugin.Args = []string{"kube", "credentials", "--kube-cluster=" + r.kube, "--teleport-cluster=" + r.cluster}
	plugin.APIVersion = "client.authentication.k8s.io/v1beta1"
	return byBerth, byTSH, clientcmd.WriteToFile(*file, byTSH.kubeconfig)
}

// startProxy runs "tsh proxy kube" and waits for its kubeconfig.
func (r kubectlRun) startProxy(ctx context.Context, b *bench) (w kubeWay, stop func(), err error) {
	path := filepath.Join(b.dir, "proxy-kube")
	ports, err := freePorts(1)
	if err != nil {
		return w, nil, err
	}
	cmd := exec.CommandContext(ctx, r.tsh, "proxy", "kube", "--port="+strconv.Itoa(ports[0]), "--cluster="+r.cluster, r.kube)
	cmd.Env = append(r.env(), "TELEPORT_KUBECONFIG="+path, "KUBECONFIG="+os.DevNull)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Cancel = func() error { return interrupt(cmd.Process) }
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return w, nil, err
	}
	stop = func() {
		_ = interrupt(cmd.Process)
		_ = cmd.Wait() // it was interrupted
		b.load.addChild(cmd.ProcessState)
	}
	for end := time.Now().Add(startWait); ; {
		if file, err := clientcmd.LoadFromFile(path); err == nil && file.CurrentContext != "" {
			return kubeWay{"tsh proxy kube", path, file.CurrentContext}, stop, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil || time.Now().After(end) {
			stop()
			return w, nil, errors.Join(err, fmt.Errorf("tsh proxy kube wrote no kubeconfig: %s", &said))
		}
	}
}

func (r kubectlRun) env() []string {
	env := append(os.Environ(), "TELEPORT_HOME="+r.home, "TELEPORT_TOOLS_VERSION=off")
	if r.caFile != "" {
		env = append(env, "SSL_CERT_FILE="+r.caFile)
	}
	return env
}

// run runs kubectl once.
func (r kubectlRun) run(ctx context.Context, b *bench, w kubeWay, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, r.kubectl, append([]string{"--context=" + w.context}, args...)...)
	cmd.Env = append(r.env(), "KUBECONFIG="+w.kubeconfig, "HOME="+b.dir, "KUBECACHEDIR="+filepath.Join(b.dir, "cache"))
	out, err := cmd.CombinedOutput()
	return out, err
}

// fortyKubectls runs forty at once, and counts failures and tsh processes.
func (b *bench) fortyKubectls(ctx context.Context, a *kubeAgent, r kubectlRun, w kubeWay) error {
	const many = 40
	if out, err := r.run(ctx, b, w, "get", "pods"); err != nil { // it keeps what the cluster has
		return fmt.Errorf("kubectl get pods: %w: %s", err, out)
	}
	failed, children := 0, 0
	took, err := collect(b.times(5, 1), func(int) (time.Duration, error) {
		if err := b.calm(ctx); err != nil {
			return 0, err
		}
		errs := make([]error, many)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() { _, errs[i] = r.run(ctx, b, w, "get", "pods") })
		}
		wg.Wait()
		took := time.Since(began)
		for _, err := range errs {
			if err != nil {
				failed++
			}
		}
		n, err := childrenOf(ctx, a.pid())
		children = max(children, n)
		return took, err
	})
	if err != nil {
		return err
	}
	b.add(row{
		what:     fmt.Sprintf("%s%d `kubectl get pods` at once: wall time", r.where(), many),
		measured: fmt.Sprintf("%s (fastest %s)", ms(median(took)), ms(quantile(took, 0))),
	}, row{
		what:     fmt.Sprintf("%s%d `kubectl get pods` at once: errors, tsh processes", r.where(), many),
		measured: fmt.Sprintf("%d of %d, %d", failed, many*len(took), children),
		budget:   "0, 0", verdict: within(float64(failed+children), 0), figure: float64(failed + children),
	})
	return nil
}
