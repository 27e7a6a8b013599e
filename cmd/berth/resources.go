package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

func (a *app) resourcesCommand() *cobra.Command {
	var clusterName string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "resources [db]",
		Short: "List what the cluster offers you",
		Long: `List the databases the cluster offers you: name, protocol, labels, and the
tunnel that leads there already, if there is one.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || (len(args) == 1 && args[0] == string(state.KindDB)) {
				return nil
			}
			return usageError{withHint(fmt.Errorf("unknown kind of resource %q", args[0]), `use "berth resources db"`)}
		},
		ValidArgs: []string{string(state.KindDB)},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAgent(func(c *client.Client) error {
				list, err := c.Resources(cmd.Context(), client.ResourceQuery{Kind: state.KindDB, Cluster: clusterName})
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(list)
				}
				return a.printResources(list)
			})
		},
	}
	cmd.Flags().StringVar(&clusterName, "cluster", "", "the cluster to ask (default: the current profile's)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the resources as JSON")
	return cmd
}

func (a *app) printResources(list []client.Resource) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.out, "The cluster offers you no database. Roles decide what is listed; an access request may add some.")
		return err
	}
	tw := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tPROTOCOL\tCLUSTER\tTUNNEL\tLABELS\tDESCRIPTION")
	for _, r := range list {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(r.Name), clean(r.Protocol), clean(r.Cluster),
			cmp.Or(r.Tunnel, "-"), clean(labels(r.Labels)), clean(r.Description))
	}
	return tw.Flush()
}

func labels(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, k+"="+m[k])
	}
	return cmp.Or(strings.Join(pairs, ","), "-")
}

// completeWait bounds a completion: a shell must not hang on Tab.
const completeWait = 2 * time.Second

func (a *app) completeTunnels(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	var names []string
	err := a.withAgent(func(c *client.Client) error {
		s, err := c.Snapshot(ctx)
		for _, t := range s.Tunnels {
			names = append(names, cobra.CompletionWithDesc(t.Name, words(string(t.State))+" "+t.Address))
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeResources(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	clusterName, err := cmd.Flags().GetString("cluster")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	err = a.withAgent(func(c *client.Client) error {
		list, err := c.Resources(ctx, client.ResourceQuery{Kind: state.KindDB, Cluster: clusterName})
		for _, r := range list {
			names = append(names, cobra.CompletionWithDesc(clean(r.Name), clean(r.Protocol)))
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
