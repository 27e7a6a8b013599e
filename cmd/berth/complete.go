package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
)

// completeWait bounds a completion: a shell must not hang on Tab.
var completeWait = 2 * time.Second

// noCompletions is the answer when the agent cannot be asked.
const noCompletions = cobra.ShellCompDirectiveNoFileComp

// complete asks the agent for completions; without an answer there are none.
func (a *app) complete(cmd *cobra.Command, ask func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	var names []string
	err := a.withAgent(func(c *client.Client) (err error) {
		names, err = ask(ctx, c)
		return err
	})
	if err != nil {
		return nil, noCompletions
	}
	return names, noCompletions
}

func (a *app) completeTunnels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noCompletions
	}
	return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		s, err := c.Snapshot(ctx)
		var names []string
		for _, t := range s.Tunnels {
			names = append(names, described(t.Name, words(t.State)+" "+t.Address))
		}
		return names, err
	})
}

// completeTunnelFlag completes the tunnel of a flag, after arguments as well as before.
func (a *app) completeTunnelFlag(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	return a.completeTunnels(cmd, nil, toComplete)
}

// completeExec completes a tunnel, and then leaves the program and its files
// to the shell.
func (a *app) completeExec(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeTunnels(cmd, args, toComplete)
}

// completeResources completes the names of resources of a kind.
func (a *app) completeResources(kind state.Kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.resourceNames(cmd, kind)
	}
}

func (a *app) resourceNames(cmd *cobra.Command, kind state.Kind) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		clusterName, err := cmd.Flags().GetString("cluster")
		if err != nil {
			return nil, err
		}
		list, _, err := c.Resources(ctx, client.ResourceQuery{Kind: kind, Cluster: clusterName})
		var names []string
		for _, r := range list {
			names = append(names, described(r.Name, r.Protocol))
		}
		return names, err
	})
}

func (a *app) completeClusters(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		s, err := c.Snapshot(ctx)
		var names []string
		for _, p := range s.Profiles {
			if name := described(p.Cluster, p.User+" at "+p.Proxy); p.Cluster != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names, err
	})
}

func described(name, text string) string {
	return cobra.CompletionWithDesc(plain.Line(name), plain.Line(text))
}

func (a *app) completionCommand() *cobra.Command {
	write := map[string]func(*cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return bashCompletion(root, a.out) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(a.out) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(a.out, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(a.out) },
	}
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of bash, zsh, fish or powershell. It completes
commands and flags, and asks the agent for the names of tunnels, databases and
clusters.`,
		Example: `  source <(berth completion bash)
  berth completion zsh > "${fpath[1]}/_berth"
  berth completion fish > ~/.config/fish/completions/berth.fish
  berth completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args:      exactArgs("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := write[args[0]]
			if f == nil {
				return usageError{withHint(fmt.Errorf("no completion for shell %q", args[0]), "use one of "+join(shells))}
			}
			return f(cmd.Root())
		},
	}
}
