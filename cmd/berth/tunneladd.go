package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/proxies/db"
)

type addOptions struct {
	spec state.TunnelSpec
	json bool
}

// tunnelAddCommands are one for each kind of tunnel.
func (a *app) tunnelAddCommands() []*cobra.Command {
	var list []*cobra.Command
	for _, info := range state.Kinds {
		list = append(list, a.tunnelAddCommand(info))
	}
	return list
}

func (a *app) tunnelAddCommand(info state.KindInfo) *cobra.Command {
	o := addOptions{spec: state.TunnelSpec{Kind: info.Kind}}
	long, example := kinds[info.Kind].addHelp()
	cmd := &cobra.Command{
		Use:               string(info.Kind) + " NAME --resource RESOURCE [flags]",
		Short:             "Add a tunnel to a " + info.Title,
		Long:              long,
		Example:           example,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return o.check(cmd, info) },
		RunE: func(cmd *cobra.Command, args []string) error {
			o.spec.Name = args[0]
			return a.tunnelAdd(cmd.Context(), o)
		},
	}
	for _, key := range config.TunnelKeys {
		if key.Flag != "" && key.For(info.Kind) {
			cmd.Flags().Var(&keyFlag{key: key, spec: &o.spec, text: key.Default()}, key.Flag, key.Usage(info.Kind))
			must(cmd.RegisterFlagCompletionFunc(key.Flag, a.completeKey(key, info.Kind)))
		}
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print the new tunnel as JSON")
	must(cmd.MarkFlagRequired("resource")) // for completion; check has the better words
	return cmd
}

// keyFlag is the flag of a tunnel's key.
type keyFlag struct {
	key  config.Key
	spec *state.TunnelSpec
	text string // as given, or the default
}

func (f *keyFlag) String() string { return f.text }
func (f *keyFlag) Type() string   { return f.key.Type() }

func (f *keyFlag) Set(text string) error {
	f.text = text
	return f.key.Set(f.spec, text)
}

// completeKey completes the values of a tunnel's key.
func (a *app) completeKey(key config.Key, kind state.Kind) cobra.CompletionFunc {
	switch choices := key.Choices(); {
	case key.Name == "resource":
		return a.completeResources(kind)
	case key.Name == "cluster":
		return a.completeClusters
	case len(choices) > 0:
		return cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
	default:
		return cobra.NoFileCompletions
	}
}

// check finds what can be found wrong before the agent is asked.
func (o *addOptions) check(cmd *cobra.Command, info state.KindInfo) error {
	if o.spec.Resource == "" {
		return usageError{withHint(fmt.Errorf("--resource is missing: which %s?", info.Title),
			fmt.Sprintf("see %q", "berth resources "+string(info.Kind)))}
	}
	return checkPort(cmd, o.spec.Port)
}

// checkPort refuses a --port that no port can have. The agent would take 0 for one
// that is left out.
func checkPort(cmd *cobra.Command, port int) error {
	if cmd.Flags().Changed("port") && (port < 1 || port > 65535) {
		return usageError{withHint(fmt.Errorf("port %d does not exist", port), "use a port from 1024 to 65535, or leave --port out")}
	}
	return nil
}

func (a *app) tunnelAdd(ctx context.Context, o addOptions) error {
	return a.withAgent(func(c *client.Client) error {
		added, err := a.addTunnel(ctx, c, o.spec, o.json)
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

// addTunnel adds a tunnel, and asks for a database user where one may be several.
// quiet has it ask nothing.
func (a *app) addTunnel(ctx context.Context, c *client.Client, spec state.TunnelSpec, quiet bool) (state.TunnelSpec, error) {
	if spec.Kind.Info().NamesUser && spec.DBUser == "" && !quiet && a.canAsk() {
		user, err := a.askDBUser(ctx, c, spec)
		if err != nil {
			return spec, err
		}
		spec.DBUser = user
	}
	return c.AddTunnel(ctx, spec)
}

// askDBUser asks which of several database users a new tunnel is to use. It
// returns none where there is no choice of a few, which the agent sees to.
func (a *app) askDBUser(ctx context.Context, c *client.Client, spec state.TunnelSpec) (string, error) {
	list, _, err := c.Resources(ctx, client.ResourceQuery{Kind: spec.Kind, Cluster: spec.Cluster})
	if err != nil {
		return "", nil //nolint:nilerr // the agent says the same when it adds the tunnel
	}
	i := slices.IndexFunc(list, func(r ipc.Resource) bool { return r.Name == spec.Resource })
	if i < 0 || len(list[i].DBUsers) < 2 || slices.Contains(list[i].DBUsers, "*") {
		return "", nil
	}
	users := list[i].DBUsers
	fmt.Fprintf(a.err, "You may be these database users of %s: %s\n", plain.Line(spec.Resource), plain.Line(strings.Join(users, ", ")))
	answer, err := a.askLine(ctx, "Which one?")
	if err != nil {
		return "", err
	}
	if answer == "" {
		return "", withHint(errors.New("no database user was named"), "add --db-user")
	}
	return answer, nil
}

// askAnyUser asks for the database user of a resource that you may be any user of.
// Enter leaves it to the clients, unless they cannot name one.
func askAnyUser(ctx context.Context, ask func(context.Context, string) (string, error), r client.Resource) (string, error) {
	if p, _ := db.Lookup(r.Protocol); !p.NeedsDBUser {
		return ask(ctx, "Database user for "+r.Name+", or Enter to leave it to the client:")
	}
	for {
		if user, err := ask(ctx, "Database user for "+r.Name+":"); err != nil || user != "" {
			return user, err
		}
	}
}

// printAdded says where a new tunnel is and what to do with it.
func (a *app) printAdded(t state.Tunnel) error {
	var b strings.Builder
	fmt.Fprintf(&b, "added %s: %s → %s, %s\n", t.Name, t.Address, plain.Line(resourceOf(t)), words(t.State))
	if t.Problem != nil {
		b.WriteString(a.problemLines("  ! ", *t.Problem) + "\n")
	}
	if k, err := commandsOf(t); err == nil {
		k.describe(a, &b, t)
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}
