package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

func (a *app) resourcesCommand() *cobra.Command {
	var clusterName string
	var asJSON bool
	var kinds, commands []string
	for _, info := range state.Kinds {
		kinds = append(kinds, string(info.Kind))
		commands = append(commands, fmt.Sprintf("%q", "berth resources "+string(info.Kind)))
	}
	cmd := &cobra.Command{
		Use:   "resources [" + strings.Join(kinds, "|") + "] [flags]",
		Short: "List what the cluster offers you",
		Long: `List the databases and Kubernetes clusters the cluster offers you: name, protocol,
labels, and the tunnel that leads there already, if there is one. Without --cluster
these are of every cluster that you are logged in to, and of their leaf clusters.`,
		Example: `  berth resources db
  berth resources db --json | jq -r '.[] | select(.tunnel == "") | .name'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongArgs(cmd, cmd.CommandPath()+" takes one kind of resource", args)
			}
			if len(args) == 1 && !slices.Contains(kinds, args[0]) {
				return usageError{withHint(fmt.Errorf("unknown kind of resource %q", args[0]), "use "+strings.Join(commands, " or "))}
			}
			return nil
		},
		ValidArgs: kinds,
		PreRunE:   func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "cluster") },
		RunE: func(cmd *cobra.Command, args []string) error {
			query := client.ResourceQuery{Cluster: clusterName, Kind: state.Kind(only(args))}
			return a.withAgent(func(c *client.Client) error {
				list, err := a.listed(cmd.Context(), c, query)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printResourcesJSON(list)
				}
				return a.printResources(list)
			})
		},
	}
	cmd.Flags().StringVar(&clusterName, "cluster", "", "the cluster to ask (default: all you are logged in to, and their leaves)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the resources as JSON")
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
	return cmd
}

// printResourcesJSON makes what is absent {} and not null.
func (a *app) printResourcesJSON(list []client.Resource) error {
	for i := range list {
		if list[i].Labels == nil {
			list[i].Labels = map[string]string{}
		}
	}
	return a.printJSON(list)
}

func (a *app) printResources(list []client.Resource) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.out, "The cluster offers you nothing of the kind. Roles decide what is listed; an access request may add some.")
		return err
	}
	rows := make([][]string, 0, len(list))
	for _, r := range list {
		rows = append(rows, []string{
			r.Name, cmp.Or(r.Protocol, strings.ToLower(r.Kind.Info().Protocol)), r.Cluster, cmp.Or(r.Tunnel, "-"), cmp.Or(labels(r.Labels), "-"), r.Description,
		})
	}
	return a.table([]string{"NAME", "PROTOCOL", "CLUSTER", "TUNNEL", "LABELS", "DESCRIPTION"}, rows, nil, "DESCRIPTION", "LABELS", "PROTOCOL")
}

func labels(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, k+"="+m[k])
	}
	return strings.Join(pairs, ",")
}
