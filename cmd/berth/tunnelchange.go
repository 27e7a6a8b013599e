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
	"berth/internal/shell"
)

// given is the flag of a tunnel's key that changes a tunnel which is there: the
// values are put over its own later.
type given struct {
	key    config.Key
	values []string
}

func (g *given) String() string { return strings.Join(g.values, ",") }
func (g *given) Type() string   { return g.key.Type() }

func (g *given) Set(text string) error {
	g.values = append(g.values, text)
	return g.key.Set(new(state.TunnelSpec), text)
}

// apply puts the values into a tunnel. A list is replaced as a whole.
func (g *given) apply(spec *state.TunnelSpec) error {
	g.key.Clear(spec)
	for _, text := range g.values {
		if err := g.key.Set(spec, text); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) tunnelSetCommand() *cobra.Command {
	var asJSON bool
	var flags []*given
	cmd := &cobra.Command{
		Use:   "set NAME [flags]",
		Short: "Change a tunnel in the config",
		Long: `Change what the flags say and nothing else: comments and order of the config file
stay. The tunnel is restarted; it keeps its port unless --port gives it another. An
empty text, as in --db-user '', leaves the choice to the client again;
--as-group '' is no group.`,
		Example: `  berth tunnel set prod-pg --db-user reader
  berth tunnel set prod-pg --port 15433 --hold 2m`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.ContainsFunc(flags, func(g *given) bool { return cmd.Flags().Changed(g.key.Flag) }) {
				return usageError{withHint(errors.New("nothing to change: no flag says what"), seeHelp(cmd))}
			}
			return a.changeTunnel(cmd.Context(), args[0], asJSON, func(spec *state.TunnelSpec) error {
				for _, g := range flags {
					if !cmd.Flags().Changed(g.key.Flag) {
						continue
					}
					if err := g.apply(spec); err != nil {
						return err
					}
				}
				return checkPort(cmd, spec.Port)
			})
		},
	}
	for _, key := range config.TunnelKeys {
		if key.Flag == "" {
			continue
		}
		g := &given{key: key}
		flags = append(flags, g)
		cmd.Flags().VarPF(g, key.Flag, "", setUsage(key))
		complete := cobra.NoFileCompletions
		if choices := key.Choices(); len(choices) > 0 {
			complete = cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
		}
		must(cmd.RegisterFlagCompletionFunc(key.Flag, complete))
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnel as JSON")
	return cmd
}

// setUsage describes a key's flag without the words about a new tunnel.
func setUsage(key config.Key) string {
	kind := state.KindDB
	if len(key.Kinds) > 0 {
		kind = key.Kinds[0]
	}
	usage, _, _ := strings.Cut(key.Usage(kind), " (")
	if key.Name == "resource" {
		return "the resource's name in Teleport"
	}
	return usage
}

func (a *app) tunnelRenameCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rename NAME NEW-NAME [flags]",
		Short: "Give a tunnel another name",
		Long: `Give a tunnel another name. It keeps its port, its history, and the roles that it
alone has; one that you stopped stays stopped. Rules in the config that name it
follow. Its open connections are closed, as by a restart.`,
		Example: "  berth tunnel rename prod-pg orders",
		Args:    exactArgs("NAME", "NEW-NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return a.completeTunnels(cmd, args, toComplete)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeTunnel(cmd.Context(), args[0], asJSON, func(spec *state.TunnelSpec) error {
				spec.Name = args[1]
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnel as JSON")
	return cmd
}

// changeTunnel makes a tunnel what change makes of its spec, and says how to undo it.
func (a *app) changeTunnel(ctx context.Context, name string, asJSON bool, change func(*state.TunnelSpec) error) error {
	return a.withAgent(func(c *client.Client) error {
		t, err := find(ctx, c, name)
		if err != nil {
			return err
		}
		was, spec := t.TunnelSpec, t.TunnelSpec
		if err := change(&spec); err != nil {
			return err
		}
		changes := config.ChangedKeys(was, spec)
		if len(changes) > 0 {
			port := spec.Port
			if spec, err = c.ChangeTunnel(ctx, name, spec); err != nil {
				return err
			}
			if spec.Port == 0 { // it shares this one
				spec.Port = port
			}
		}
		if asJSON {
			t, err := find(ctx, c, spec.Name)
			if err != nil {
				return err
			}
			return a.printJSON(t)
		}
		if len(changes) == 0 {
			_, err := fmt.Fprintf(a.out, "nothing to change: %s is like that already\n", plain.Line(name))
			return err
		}
		_, err = fmt.Fprintf(a.out, "changed %s: %s\n  undo: %s\n", plain.Line(name), plain.Line(strings.Join(changes, ", ")), plain.Line(undo(was, spec)))
		return err
	})
}

// undo writes the command that makes a tunnel again what it was.
func undo(was, is state.TunnelSpec) string {
	if was.Name != is.Name {
		return shell.Quote("berth", "tunnel", "rename", is.Name, was.Name)
	}
	argv := []string{"berth", "tunnel", "set", was.Name}
	for _, k := range config.TunnelKeys {
		if k.Flag == "" || k.Text(was) == k.Text(is) {
			continue
		}
		if list := k.List(was); len(list) > 0 {
			for _, text := range list {
				argv = append(argv, "--"+k.Flag, text)
			}
			continue
		}
		text := k.Text(was)
		if text == "" {
			text = k.Default()
		}
		argv = append(argv, "--"+k.Flag, text)
	}
	return shell.Quote(argv...)
}

func (a *app) tunnelShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show NAME [flags]",
		Short:             "Show all about one tunnel",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !asJSON {
				return a.status(cmd.Context(), statusOptions{name: args[0]})
			}
			t, err := a.tunnel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printJSON(t)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnel as JSON")
	return cmd
}

// dangerous are the commands that no wrong word is taken for.
var dangerous = []string{"rm", "uninstall", "logout", "stop", "down", "deny", "drop"}

// unknownToRemove is a wrong name where something is to be removed: none is
// suggested that would then be removed in its place.
func unknownToRemove(name string, err error) error {
	if rpc, ok := errors.AsType[*client.Error](err); ok && rpc.Code == ipc.CodeNotFound {
		return ipc.UnknownTunnel(name)
	}
	return err
}
