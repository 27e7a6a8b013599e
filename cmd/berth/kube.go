package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/proxies/kube/kubeconfig"
)

func (a *app) kubeCommand() *cobra.Command {
	return commandGroup("kube", "Use Kubernetes clusters: kubeconfig and credentials",
		a.kubeConfigCommand(), a.kubeCredentialsCommand())
}

func (a *app) kubeConfigCommand() *cobra.Command {
	var path, exec bool
	cmd := &cobra.Command{
		Use:   "config [flags]",
		Short: "Print berth's own kubeconfig, or where it is",
		Long: `Print berth's own kubeconfig: a context berth-NAME for each tunnel to a
Kubernetes cluster. It is valid before any login and through all of them, and it
stays the same for as long as the tunnels do. berth makes no context the current
one; what kubectl and others write into it stays.

With --exec, print contexts that lead straight to the Teleport proxy instead and
ask "berth kube credentials" each time. Printing them needs a valid login.`,
		Example: `  export KUBECONFIG="$(berth kube config --path)"
  kubectl --context berth-prod-k8s get pods
  KUBECONFIG=~/.kube/config:$(berth kube config --path) k9s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case path && exec:
				return usageError{withHint(errors.New("--path and --exec do not go together"), "what --exec prints is in no file")}
			case exec:
				return a.printExecConfig(cmd.Context())
			default:
				return a.printKubeConfig(path)
			}
		},
	}
	cmd.Flags().BoolVar(&path, "path", false, "print the file's path only")
	cmd.Flags().BoolVar(&exec, "exec", false, `print contexts that ask "berth kube credentials"`)
	cmd.AddCommand(a.kubeMergeCommand())
	return cmd
}

// kubeconfigPath is where the agent keeps its kubeconfig.
func (a *app) kubeconfigPath() (string, error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return "", err
	}
	return kubeconfig.Path(p.StateDir), nil
}

func (a *app) printKubeConfig(pathOnly bool) error {
	path, err := a.kubeconfigPath()
	if err != nil {
		return err
	}
	if pathOnly {
		_, err = fmt.Fprintln(a.out, path)
		return err
	}
	data, err := readKubeConfig(path)
	if err != nil {
		return err
	}
	a.warnExposed()
	_, err = a.out.Write(data)
	return err
}

// warnExposed says that the private key that is about to be printed goes to a
// file that others can read.
func (a *app) warnExposed() {
	f, ok := a.out.(*os.File)
	if !ok {
		return
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !kubeconfig.Exposed(info) {
		return
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil { // not every system says
		name = "FILE"
	}
	fmt.Fprintf(a.err, "berth: warning: a private key goes to a file that other users have access to (mode %04o): %s\n",
		info.Mode().Perm(), plain.Line(shell.Quote("chmod", "600", name)))
}

func readKubeConfig(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, withHint(errors.New("there is no kubeconfig yet: the agent writes it with the first tunnel to a Kubernetes cluster"),
			"add one: berth tunnel add kube NAME --resource CLUSTER")
	}
	if err != nil {
		return nil, fmt.Errorf("read berth's kubeconfig: %w", err)
	}
	return data, nil
}

// printExecConfig prints contexts of the exec-credential form.
func (a *app) printExecConfig(ctx context.Context) error {
	self, err := ownProgram()
	if err != nil {
		return err
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	var env []string
	if p.Home != "" {
		env = append(env, paths.HomeVar+"="+p.Home)
	}
	var contexts []kubeconfig.Context
	err = a.withAgent(func(c *client.Client) error {
		s, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		for _, t := range s.Tunnels {
			if t.Kind != state.KindKube {
				continue
			}
			k, err := c.KubeCredentials(ctx, t.Cluster, t.Resource)
			if err != nil {
				return err
			}
			contexts = append(contexts, kubeconfig.Context{
				Name: t.Name, Server: k.Server, ServerName: k.ServerName, CA: k.CA,
				Exec: &kubeconfig.Exec{
					Command: self, Env: env,
					Args: []string{"kube", "credentials", "--cluster", t.Cluster, "--kube-cluster", t.Resource},
				},
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = a.out.Write(kubeconfig.Marshal(contexts))
	return err
}

func (a *app) kubeMergeCommand() *cobra.Command {
	var undo, force, asJSON bool
	var file string
	cmd := &cobra.Command{
		Use:   "merge [flags]",
		Short: "Merge berth's contexts into your own kubeconfig, or remove them",
		Long: `Put berth's contexts into your own kubeconfig: the file that kubectl itself would
add them to, by KUBECONFIG or in ~/.kube/config. Your own entries, comments and
the current context stay as they are, and so does what you add to berth's: a
namespace, another name. A copy of the file is kept beside it. berth's contexts hold
a private key, so a file that other users can read is refused.

--undo takes them out again. A file that was not changed since is then as it was
before, to the byte.`,
		Example: `  berth kube config merge
  berth kube config merge --undo`,
		Args:    noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "file") },
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.merge(cmd.Context(), file, undo, force)
			switch {
			case err != nil:
				return mergeError(err, res.Path)
			case asJSON:
				return a.printJSON(res)
			default:
				return a.printMerged(res)
			}
		},
	}
	f := cmd.Flags()
	f.BoolVar(&undo, "undo", false, "take berth's contexts out again")
	f.BoolVar(&force, "force", false, "merge into a file that other users can read, too")
	f.StringVar(&file, "file", "", "the kubeconfig (default: the one kubectl would write to)")
	f.BoolVar(&asJSON, "json", false, "print what was done as JSON")
	return cmd
}

func (a *app) merge(ctx context.Context, file string, undo, force bool) (kubeconfig.Result, error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return kubeconfig.Result{}, err
	}
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return kubeconfig.Result{}, err
		}
		file = kubeconfig.Target(a.env("KUBECONFIG"), home)
	}
	own := kubeconfig.Path(p.StateDir)
	if same(file, own) {
		return kubeconfig.Result{Path: file}, withHint(errors.New("that is berth's own kubeconfig, which has them already"),
			"unset KUBECONFIG, or name another file with --file")
	}
	m := kubeconfig.Merger{Path: file, Record: kubeconfig.RecordPath(p.StateDir)}
	if undo {
		return m.Undo(ctx)
	}
	data, err := readKubeConfig(own)
	if err != nil {
		return kubeconfig.Result{}, err
	}
	contexts, err := kubeconfig.Contexts(data)
	if err != nil {
		return kubeconfig.Result{}, err
	}
	return m.Merge(ctx, contexts, force)
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// mergeError says what to do about a file that cannot be merged into.
func mergeError(err error, path string) error {
	var broken *kubeconfig.BrokenError
	var exposed *kubeconfig.ExposedError
	switch {
	case errors.As(err, &exposed):
		return withHint(err, fmt.Sprintf("%s, or merge with --force", shell.Quote("chmod", "600", exposed.Path)))
	case errors.As(err, &broken):
		return withHint(fmt.Errorf("%s was not touched: %w", path, err), "mend it, or name another file with --file")
	case errors.Is(err, kubeconfig.ErrReadOnly):
		return withHint(err, "make it writable, or use berth's own: export KUBECONFIG=\"$(berth kube config --path)\"")
	case errors.Is(err, kubeconfig.ErrForeign):
		return withHint(err, "rename the tunnel, or that context")
	case errors.Is(err, kubeconfig.ErrNothing):
		return withHint(fmt.Errorf("nothing to undo: %s has no context of berth's", path), `see "berth kube config merge --help"`)
	case errors.Is(err, kubeconfig.ErrBusy):
		return withHint(err, "try again in a moment")
	default:
		return err
	}
}

func (a *app) printMerged(res kubeconfig.Result) error {
	var b strings.Builder
	for _, name := range res.Added {
		fmt.Fprintf(&b, "added %s\n", plain.Line(name))
	}
	for _, name := range res.Removed {
		fmt.Fprintf(&b, "removed %s\n", plain.Line(name))
	}
	switch {
	case !res.Changed:
		fmt.Fprintf(&b, "%s is up to date\n", plain.Line(res.Path))
	case res.Backup != "":
		fmt.Fprintf(&b, "changed %s; what it was before is in %s\n", plain.Line(res.Path), plain.Line(res.Backup))
	default:
		fmt.Fprintf(&b, "changed %s\n", plain.Line(res.Path))
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

// credentialWait bounds "berth kube credentials": kubectl waits for it.
var credentialWait = 5 * time.Second

func (a *app) kubeCredentialsCommand() *cobra.Command {
	var clusterName, kubeCluster string
	cmd := &cobra.Command{
		Use:   "credentials --kube-cluster NAME [flags]",
		Short: "Print a credential for kubectl (exec plugin)",
		Long: `Print a short-lived credential for a Kubernetes cluster as kubectl asks for it of
an exec plugin (client.authentication.k8s.io/v1). It comes from the agent's memory.
It asks nothing, opens no browser and waits for no login: without one it fails.`,
		Example: `  berth kube credentials --cluster example.com --kube-cluster prod
  berth kube config --exec > kubeconfig`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kubeCluster == "" {
				return usageError{withHint(errors.New("--kube-cluster is missing: which cluster?"), `see "berth resources kube"`)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), credentialWait)
			defer cancel()
			return a.withAgent(func(c *client.Client) error {
				k, err := c.KubeCredentials(ctx, clusterName, kubeCluster)
				if err != nil {
					return err
				}
				return a.printCredential(k)
			})
		},
	}
	cmd.Flags().StringVar(&clusterName, "cluster", "", "the Teleport cluster (default: the current profile's)")
	cmd.Flags().StringVar(&kubeCluster, "kube-cluster", "", "the Kubernetes cluster's name in Teleport (required)")
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
	must(cmd.RegisterFlagCompletionFunc("kube-cluster", a.completeResources(state.KindKube)))
	return cmd
}

// execCredential is an exec plugin's answer to kubectl. Source: client-go,
// pkg/apis/clientauthentication/v1.
type execCredential struct {
	Kind       string           `json:"kind"`
	APIVersion string           `json:"apiVersion"`
	Spec       struct{}         `json:"spec"`
	Status     credentialStatus `json:"status"`
}

type credentialStatus struct {
	Expires time.Time `json:"expirationTimestamp"`
	Cert    string    `json:"clientCertificateData"`
	Key     string    `json:"clientKeyData"`
}

func (a *app) printCredential(k client.KubeCredentials) error {
	a.warnExposed()
	return json.NewEncoder(a.out).Encode(execCredential{
		Kind: "ExecCredential", APIVersion: "client.authentication.k8s.io/v1",
		Status: credentialStatus{Expires: k.ValidUntil.UTC(), Cert: string(k.Cert), Key: string(k.Key)},
	})
}
