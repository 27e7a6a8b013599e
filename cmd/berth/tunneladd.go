package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
)

// settleWait is how long "tunnel add" gives a new tunnel to find out what it
// leads to, so that it can tell how to use it.
const settleWait = 3 * time.Second

type addOptions struct {
	spec   state.TunnelSpec
	hold   time.Duration
	guard  string
	engine string
	json   bool
}

func (a *app) tunnelAddDBCommand() *cobra.Command {
	var o addOptions
	cmd := &cobra.Command{
		Use:   "db NAME --resource RESOURCE [flags]",
		Short: "Add a tunnel to a database",
		Long: `Add a tunnel to a database, and say how to use it. The port is written to the
config, so the address stays the same on every start and on every machine that
uses the same config. Without --port one is derived from the cluster and the
resource.`,
		Example: `  berth tunnel add db prod-pg --resource pg-prod --db-user alice --db-name app
  psql "$(berth tunnel url prod-pg)"`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return o.check(cmd, state.KindDB) },
		RunE: func(cmd *cobra.Command, args []string) error {
			o.spec.Name = args[0]
			return a.tunnelAdd(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.spec.Resource, "resource", "", "the database's name in Teleport (required)")
	f.StringVar(&o.spec.Cluster, "cluster", "", "the cluster it is in (default: the current profile's)")
	f.StringVar(&o.spec.DBUser, "db-user", "", "the database user (default: the client's choice)")
	f.StringVar(&o.spec.DBName, "db-name", "", "the database in the server (default: the client's choice)")
	f.IntVar(&o.spec.Port, "port", 0, "the local port (default: derived from cluster and resource)")
	f.DurationVar(&o.hold, "hold", state.DefaultHold, "how long a client is held while a login is needed")
	f.StringVar(&o.engine, "engine", "auto", "who carries the bytes: auto, native or tsh")
	f.StringVar(&o.guard, "guard", "on", "off serves other users' programs too, and containers")
	f.BoolVar(&o.json, "json", false, "print the new tunnel as JSON")
	must(cmd.MarkFlagRequired("resource")) // for completion; check has the better words
	must(cmd.RegisterFlagCompletionFunc("resource", a.completeResources(state.KindDB)))
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
	must(cmd.RegisterFlagCompletionFunc("engine",
		cobra.FixedCompletions([]string{"auto", "native", "tsh"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("guard", cobra.FixedCompletions([]string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, name := range []string{"db-user", "db-name", "port", "hold"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

func (a *app) tunnelAddKubeCommand() *cobra.Command {
	var o addOptions
	cmd := &cobra.Command{
		Use:   "kube NAME --resource RESOURCE [flags]",
		Short: "Add a tunnel to a Kubernetes cluster",
		Long: `Add a tunnel to a Kubernetes cluster. It becomes the context berth-NAME of berth's
kubeconfig. All these tunnels share one local port, unless one is given here.

Where your roles let you be several users in Kubernetes, --as says which one to
be; kubectl's own --as comes first.`,
		Example: `  berth tunnel add kube prod-k8s --resource prod
  kubectl --kubeconfig "$(berth kube config --path)" --context berth-prod-k8s get pods`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return o.check(cmd, state.KindKube) },
		RunE: func(cmd *cobra.Command, args []string) error {
			o.spec.Name = args[0]
			return a.tunnelAdd(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.spec.Resource, "resource", "", "the Kubernetes cluster's name in Teleport (required)")
	f.StringVar(&o.spec.Cluster, "cluster", "", "the Teleport cluster it is in (default: the current profile's)")
	f.StringVar(&o.spec.As, "as", "", "the user to be in Kubernetes (default: the client's choice)")
	f.StringArrayVar(&o.spec.AsGroups, "as-group", nil, "a group to be in, in Kubernetes; may be repeated")
	f.IntVar(&o.spec.Port, "port", 0, "a local port of its own (default: the one all share)")
	f.DurationVar(&o.hold, "hold", state.DefaultHold, "how long a request is held while a login is needed")
	f.StringVar(&o.engine, "engine", "auto", "who carries the bytes: auto, native or tsh")
	f.BoolVar(&o.json, "json", false, "print the new tunnel as JSON")
	must(cmd.MarkFlagRequired("resource")) // for completion; check has the better words
	must(cmd.RegisterFlagCompletionFunc("resource", a.completeResources(state.KindKube)))
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
	must(cmd.RegisterFlagCompletionFunc("engine",
		cobra.FixedCompletions([]string{"auto", "native", "tsh"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, name := range []string{"as", "as-group", "port", "hold"} {
		must(cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions))
	}
	return cmd
}

// check finds what can be found wrong before the agent is asked.
func (o *addOptions) check(cmd *cobra.Command, kind state.Kind) error {
	o.spec.Kind = kind
	if o.spec.Resource == "" {
		what := map[state.Kind]string{state.KindDB: "database", state.KindKube: "Kubernetes cluster"}[kind]
		return usageError{withHint(fmt.Errorf("--resource is missing: which %s?", what), fmt.Sprintf("see %q", "berth resources "+string(kind)))}
	}
	if f := cmd.Flags(); f.Changed("port") && (o.spec.Port < 1 || o.spec.Port > 65535) {
		return usageError{withHint(fmt.Errorf("port %d does not exist", o.spec.Port), "use a port from 1024 to 65535, or leave --port out")}
	}
	if cmd.Flags().Changed("hold") {
		o.spec.Hold = new(state.Duration(o.hold))
	}
	if cmd.Flags().Changed("engine") {
		o.spec.Engine = state.Engine(o.engine)
	}
	if cmd.Flags().Changed("guard") {
		o.spec.Guard = state.Guard(o.guard)
	}
	return nil
}

func (a *app) tunnelAdd(ctx context.Context, o addOptions) error {
	return a.withAgent(func(c *client.Client) error {
		added, err := c.AddTunnel(ctx, o.spec)
		if err != nil {
			return err
		}
		t, err := settled(ctx, c, added.Name)
		if err != nil {
			return err
		}
		if o.json {
			return a.printJSON(t)
		}
		return a.printAdded(t)
	})
}

// settled returns the tunnel as soon as it knows how it is, or as it is after
// a while.
func settled(ctx context.Context, c *client.Client, name string) (state.Tunnel, error) {
	waitCtx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	for s, err := range c.Watch(waitCtx) {
		if err != nil {
			break
		}
		list, err := pick(s.Tunnels, name)
		if err == nil && list[0].State != state.TunnelConnecting {
			return list[0], nil
		}
	}
	return find(ctx, c, name)
}

// printAdded says where a new tunnel is and what to do with it.
func (a *app) printAdded(t state.Tunnel) error {
	var b strings.Builder
	fmt.Fprintf(&b, "added %s: %s → %s, %s\n", t.Name, t.Address, plain.Line(resourceOf(t)), words(t.State))
	if t.Problem != nil {
		fmt.Fprintf(&b, "  ! %s: %s\n    → %s\n", plain.Line(t.Problem.Title), plain.Line(t.Problem.Text), plain.Line(t.Problem.Action))
	}
	if t.Kind == state.KindKube {
		a.describeKube(&b, t)
	} else if proto, ep, err := endpointOf(t); err == nil {
		if argv, err := proto.ClientCommand(ep); err == nil {
			fmt.Fprintf(&b, "  %s\n", plain.Line(shell.Quote(argv...)))
		}
		if formats := proto.Formats(); len(formats) > 0 {
			fmt.Fprintf(&b, "other clients: berth tunnel url %s --as %s\n", t.Name, strings.ReplaceAll(join(formats), ", ", "|"))
		}
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}
