package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"berth/agent/state"
	"berth/internal/clientenv"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/proxies/db"
	"berth/proxies/kube/kubeconfig"
)

// kubeConnection is the JSON of "berth tunnel url" for Kubernetes.
type kubeConnection struct {
	Name       string               `json:"name"`
	Protocol   string               `json:"protocol"`
	Kubeconfig string               `json:"kubeconfig"`
	Context    string               `json:"context"`
	Formats    map[db.Format]string `json:"formats"`
	Command    []string             `json:"command"`
}

// kubectl is the usual client's command for a tunnel.
func kubectl(path, tunnel string) []string {
	return []string{"kubectl", "--kubeconfig", path, "--context", kubeconfig.ContextIn(path, tunnel)}
}

// serverURL is what berth's kubeconfig has clients of the tunnel call. The agent
// may not have written it yet: then it is the tunnel's address.
func serverURL(path string, t state.Tunnel) string {
	if data, err := os.ReadFile(path); err == nil {
		contexts, err := kubeconfig.Contexts(data)
		i := slices.IndexFunc(contexts, func(c kubeconfig.Context) bool { return c.Name == t.Name })
		if err == nil && i >= 0 {
			return contexts[i].Server
		}
	}
	return "https://" + t.Address
}

// contextVars are the variables, as KEY=VALUE, by which clients choose a context:
// kubectl has none.
func contextVars(path, tunnel string) []string {
	context := kubeconfig.ContextIn(path, tunnel)
	return []string{"HELM_KUBECONTEXT=" + context, "KUBE_CTX=" + context, "K8S_AUTH_CONTEXT=" + context}
}

// kubeEnv are lines for a shell that lead clients to berth's kubeconfig.
func kubeEnv(path, tunnel string) string {
	vars := append(kubeconfig.Env(path), contextVars(path, tunnel)...)
	for i, kv := range vars {
		name, value, _ := strings.Cut(kv, "=")
		vars[i] = "export " + name + "=" + shell.Quote(value)
	}
	return strings.Join(vars, "\n")
}

// kubeCommands holds the commands' behaviour for tunnels to Kubernetes.
type kubeCommands struct{}

func (kubeCommands) addHelp() (long, example string) {
	return `Add a tunnel to a Kubernetes cluster. It becomes the context berth-NAME of berth's
kubeconfig. All these tunnels share one local port, unless one is given here.

Where your roles let you be several users in Kubernetes, --as says which one to
be; kubectl's own --as takes precedence.`, `  berth tunnel add kube prod-k8s --resource prod
  export KUBECONFIG="$(berth kube config --path)"
  kubectl --context berth-prod-k8s get pods`
}

func (kubeCommands) client(a *app, t state.Tunnel) ([]string, error) {
	path, err := a.kubeconfigPath()
	if err != nil {
		return nil, err
	}
	return kubectl(path, t.Name), nil
}

func (kubeCommands) forms(a *app, t state.Tunnel) (map[db.Format]string, error) {
	path, err := a.kubeconfigPath()
	if err != nil {
		return nil, err
	}
	return map[db.Format]string{db.URL: serverURL(path, t), db.Env: kubeEnv(path, t.Name)}, nil
}

func (k kubeCommands) printURL(a *app, t state.Tunnel, o urlOptions) error {
	path, err := a.kubeconfigPath()
	if err != nil {
		return err
	}
	formats, err := k.forms(a, t)
	if err != nil {
		return err
	}
	c := kubeConnection{
		Name: t.Name, Protocol: "kubernetes", Kubeconfig: path, Context: kubeconfig.ContextIn(path, t.Name),
		Formats: formats, Command: kubectl(path, t.Name),
	}
	if o.json {
		return a.printJSON(c)
	}
	text, ok := c.Formats[db.Format(o.as)]
	if o.as == string(db.Env) {
		set := append(kubeconfig.Env(path), contextVars(path, t.Name)...)
		text = unsetLines(slices.DeleteFunc(clientenv.Named(os.Environ(), kubeconfig.ClearEnv()), func(name string) bool {
			return slices.ContainsFunc(set, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
		})) + text
	}
	if o.chosen && !ok {
		return usageError{fmt.Errorf("Kubernetes cannot be written as %q: choose from url, env", o.as)} //nolint:staticcheck // ST1005: a name
	}
	_, err = fmt.Fprintln(a.out, text)
	return err
}

func (k kubeCommands) describe(a *app, w io.Writer, t state.Tunnel) {
	argv, err := k.client(a, t)
	if err != nil {
		return // the tunnel is there all the same
	}
	_, _ = fmt.Fprintf(w, "  %s get pods\nin your own kubeconfig: berth kube config merge\n", plain.Line(shell.Quote(argv...)))
}

// exec runs a client with a kubeconfig whose current context is the tunnel's,
// and keeps in berth's own what the client writes about it. The file is berth's own, and stays: programs that go on in the
// background may still read it.
func (kubeCommands) exec(ctx context.Context, a *app, t state.Tunnel, argv []string, quiet bool) error {
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
	if other, ok := db.ClientOf(argv[0], path); ok && !kubeconfig.Obeys(argv[0]) {
		return wrongClient(argv[0], other.Title, t, "Kubernetes")
	}
	env := clientenv.Make(os.Environ(), kubeconfig.ClearEnv(), kubeconfig.Env(file))
	if home, err := os.UserHomeDir(); err == nil && !kubeconfig.NamesKuberc(argv[1:]) {
		if rc, flag := kubeconfig.Misleading(a.env, home); rc != "" {
			env = clientenv.Make(env, nil, []string{"KUBERC=off"}) // for what the program calls, too
			if kubeconfig.IsKubectl(argv[0]) {
				fmt.Fprintf(a.err, "berth: warning: kubectl does not read %s, since its --%s would lead elsewhere\n", plain.Line(rc), flag)
			}
		}
	}
	if !quiet && !kubeconfig.Obeys(argv[0]) {
		a.warnUnknown(argv[0], t, "with an emptied environment")
	}
	err = a.runClient(ctx, path, argv, env)
	// The client may have changed its namespace, or added to its context.
	used, failed := os.ReadFile(file)
	if failed == nil {
		failed = kubeconfig.Adopt(context.WithoutCancel(ctx), kubeconfig.Path(p.StateDir), t.Name, own, used)
	}
	if failed != nil {
		fmt.Fprintf(a.err, "berth: warning: what the client wrote into its kubeconfig is lost: %s\n", plain.Line(failed.Error()))
	}
	return err
}
