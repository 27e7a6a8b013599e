package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/proxies/db"
	"berth/proxies/kube/kubeconfig"
)

// kubeConnection is the JSON of "berth tunnel url" for Kubernetes.
type kubeConnection struct {
	Name       string            `json:"name"`
	Protocol   string            `json:"protocol"`
	Kubeconfig string            `json:"kubeconfig"`
	Context    string            `json:"context"`
	Formats    map[string]string `json:"formats"`
	Command    []string          `json:"command"`
}

// kubectl is the usual client's command for a tunnel.
func kubectl(path, tunnel string) []string {
	return []string{"kubectl", "--kubeconfig", path, "--context", kubeconfig.ContextName(tunnel)}
}

// printKubeURL prints how a client connects to a tunnel to Kubernetes.
func (a *app) printKubeURL(t state.Tunnel, as string, asJSON, chosen bool) error {
	path, err := a.kubeconfigPath()
	if err != nil {
		return err
	}
	c := kubeConnection{
		Name: t.Name, Protocol: "kubernetes", Kubeconfig: path, Context: kubeconfig.ContextName(t.Name),
		Formats: map[string]string{
			string(db.URL): "https://" + t.Address,
			string(db.Env): "export KUBECONFIG=" + shell.Quote(path),
		},
		Command: kubectl(path, t.Name),
	}
	if asJSON {
		return a.printJSON(c)
	}
	text, ok := c.Formats[as]
	if chosen && !ok {
		return usageError{fmt.Errorf("Kubernetes cannot be written as %q: choose from url, env", as)} //nolint:staticcheck // ST1005: a name
	}
	_, err = fmt.Fprintln(a.out, text)
	return err
}

// describeKube says how a new tunnel to Kubernetes is used.
func (a *app) describeKube(w io.Writer, t state.Tunnel) {
	path, err := a.kubeconfigPath()
	if err != nil {
		return // the tunnel is there all the same
	}
	_, _ = fmt.Fprintf(w, "  %s get pods\nin your own kubeconfig: berth kube config merge\n", plain.Line(shell.Quote(kubectl(path, t.Name)...)))
}

// execKube runs a client with a kubeconfig whose current context is the
// tunnel's. The file is berth's own, and stays: programs that go on in the
// background may still read it.
func (a *app) execKube(ctx context.Context, t state.Tunnel, argv []string) error {
	if len(argv) == 0 {
		return usageError{withHint(errors.New("run which client? Kubernetes has many"), fmt.Sprintf("name one: berth exec %s -- kubectl get pods", t.Name))}
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	data, err := readKubeConfig(kubeconfig.Path(p.StateDir))
	if err != nil {
		return err
	}
	own, err := kubeconfig.Select(data, t.Name)
	if err != nil {
		return withHint(err, "see what is wrong with it: berth status "+t.Name)
	}
	dir := filepath.Join(p.StateDir, "kube")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a kubeconfig for %s: %w", t.Name, err)
	}
	file := filepath.Join(dir, t.Name+".kubeconfig")
	if err := kubeconfig.Write(file, own); err != nil {
		return fmt.Errorf("make a kubeconfig for %s: %w", t.Name, err)
	}
	path, err := lookPath(argv[0])
	if err != nil {
		return err
	}
	return a.runClient(ctx, path, argv, append(without(os.Environ(), []string{"KUBECONFIG"}), "KUBECONFIG="+file))
}
