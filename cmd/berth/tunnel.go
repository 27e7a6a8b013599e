package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
)

func (a *app) tunnelCommand() *cobra.Command {
	return commandGroup("tunnel", "Add, list and control tunnels",
		a.tunnelAddGroup(), a.tunnelListCommand(), a.tunnelShowCommand(), a.tunnelURLCommand(), a.tunnelWhyCommand(),
		a.tunnelSetCommand(), a.tunnelRenameCommand(), a.tunnelRemoveCommand(),
		a.tunnelVerb("start", "Start a stopped tunnel", (*client.Client).StartTunnel, "started"),
		a.tunnelVerb("stop", "Stop a tunnel and free its port until it is started again", (*client.Client).StopTunnel, "stopped"),
		a.tunnelVerb("restart", "Close a tunnel's connections and fetch a new cert", (*client.Client).RestartTunnel, "restarted"),
	)
}

// tunnelAddGroup is "berth add" with a command for each kind beneath it.
func (a *app) tunnelAddGroup() *cobra.Command {
	group := a.addCommand("add")
	group.AddCommand(a.tunnelAddCommands()...)
	return group
}

// shortcuts are the words that hands try first.
func (a *app) shortcuts() []*cobra.Command {
	show, list, logs := a.tunnelShowCommand(), a.tunnelListCommand(), a.agentLogsCommand()
	list.Aliases = []string{"list", "ps"}
	up := a.tunnelVerb("up", "Start a stopped tunnel", (*client.Client).StartTunnel, "started")
	down := a.tunnelVerb("down", "Stop a tunnel and free its port until it is started again", (*client.Client).StopTunnel, "stopped")
	return []*cobra.Command{list, show, a.addCommand("add"), up, down, logs}
}

func (a *app) tunnelListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List the tunnels",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAgent(func(c *client.Client) error {
				s, err := c.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(s.Tunnels)
				}
				return a.printTunnels(s, nil)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnels as JSON")
	return cmd
}

// tunnelVerb is a command that does one thing to one tunnel.
func (a *app) tunnelVerb(verb, short string, do func(*client.Client, context.Context, string) error, done string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               verb + " NAME [flags]",
		Short:             short,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				if err := do(c, cmd.Context(), args[0]); err != nil {
					return err
				}
				t, err := find(cmd.Context(), c, args[0])
				if err == nil {
					err = a.printDone(asJSON, done, t)
				}
				if err == nil && !asJSON && t.Problem != nil { // it is started, and serves no client yet
					_, err = fmt.Fprintln(a.out, a.problemLines("  ", *t.Problem))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnel as JSON")
	return cmd
}

func (a *app) tunnelRemoveCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "rm NAME [flags]",
		Short:             "Remove a tunnel from the config",
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				t, err := find(cmd.Context(), c, args[0])
				if err != nil {
					return unknownToRemove(args[0], err)
				}
				if err := c.RemoveTunnel(cmd.Context(), args[0]); err != nil {
					return err
				}
				return a.printDone(asJSON, "removed", t)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tunnel that was removed as JSON")
	return cmd
}

// printDone says what was done to a tunnel.
func (a *app) printDone(asJSON bool, done string, t state.Tunnel) error {
	if asJSON {
		return a.printJSON(t)
	}
	_, err := fmt.Fprintln(a.out, done, plain.Line(t.Name))
	return err
}
