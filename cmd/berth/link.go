package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/internal/link"
	"berth/tray"
)

func (a *app) linkCommand() *cobra.Command {
	return commandGroup("link", "Print berth:// links, and follow one",
		a.printLinkCommand(link.Open, "open [flags]", "Print a link that shows berth", noArgs, nil),
		a.printLinkCommand(link.Login, "login PROXY [flags]", "Print a link that logs in at a proxy", exactArgs("PROXY"), func(l *link.Link) *string { return &l.Proxy }),
		a.linkTunnelCommand(), a.linkAddCommand(),
		a.printLinkCommand(link.Request, "request ID [flags]", "Print a link that shows an access request", exactArgs("ID"), func(l *link.Link) *string { return &l.ID }),
		a.linkAssumeCommand(), a.linkRecordingCommand(), a.linkFollowCommand(),
	)
}

// printLinkCommand prints a link whose verb has one word, or none.
func (a *app) printLinkCommand(verb link.Verb, use, short string, args cobra.PositionalArgs, word func(*link.Link) *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			l := link.Link{Verb: verb}
			if word != nil {
				*word(&l) = args[0]
			}
			return a.printLink(cmd.Context(), l, asJSON)
		},
	}
	linkJSONFlag(cmd, &asJSON)
	return cmd
}

func linkJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print the link as JSON")
}

// printLink prints a link that Parse reads, if the policy has links do something and the
// tunnel that it is for is there.
func (a *app) printLink(ctx context.Context, l link.Link, asJSON bool) error {
	if err := l.Check(); err != nil {
		if strings.ContainsAny(l.Proxy, "/") {
			err = withHint(err, "write host:port, as in teleport.example.com:443")
		}
		return usageError{err}
	}
	policy := a.policy.Load()
	if err := policy.Allows(config.FeatureLinks); err != nil {
		return err
	}
	if l.Verb == link.Login {
		if err := policy.AllowsProxy(l.Proxy); err != nil {
			return err
		}
	}
	name := l.Tunnel
	if l.Verb == link.Tunnel {
		name = l.Name
	}
	if name != "" {
		if _, err := a.tunnel(ctx, name); err != nil {
			return err
		}
	}
	if asJSON {
		return a.printJSON(map[string]string{"url": l.String()})
	}
	_, err := fmt.Fprintln(a.out, l)
	return err
}

func (a *app) linkTunnelCommand() *cobra.Command {
	cmd := a.printLinkCommand(link.Tunnel, "tunnel NAME [flags]", "Print a link that shows a tunnel", exactArgs("NAME"),
		func(l *link.Link) *string { return &l.Name })
	cmd.ValidArgsFunction = a.completeTunnels
	return cmd
}

func (a *app) linkAddCommand() *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add TUNNEL [flags]",
		Short: "Print a link that adds a tunnel like one of yours",
		Long: `Print a link that adds a tunnel like one of yours: to the same resource, as the
same database user in the same database. Whoever follows it is asked, and gets a port of their own.`,
		Args:              exactArgs("TUNNEL"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.tunnel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if name == "" {
				name = t.Name
			}
			return a.printLink(cmd.Context(), tray.LinkTo(t, name), asJSON)
		},
	}
	linkJSONFlag(cmd, &asJSON)
	cmd.Flags().StringVar(&name, "name", "", "what the tunnel is to be called (default: as yours)")
	return cmd
}

func (a *app) linkAssumeCommand() *cobra.Command {
	l := link.Link{Verb: link.Assume}
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "assume ID [flags]",
		Short:   "Print a link that assumes an approved access request",
		Args:    exactArgs("ID"),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "tunnel") },
		RunE: func(cmd *cobra.Command, args []string) error {
			l.ID = args[0]
			return a.printLink(cmd.Context(), l, asJSON)
		},
	}
	linkJSONFlag(cmd, &asJSON)
	cmd.Flags().StringVar(&l.Tunnel, "tunnel", "", "the tunnel `NAME` that alone gets the roles")
	must(cmd.RegisterFlagCompletionFunc("tunnel", a.completeTunnelFlag))
	return cmd
}

func (a *app) linkRecordingCommand() *cobra.Command {
	l := link.Link{Verb: link.Recording}
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "recording ID [flags]",
		Short:             "Print a link that shows a recorded session",
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.completeRecordings,
		RunE: func(cmd *cobra.Command, args []string) error {
			if l.At < 0 {
				return usageError{withHint(errors.New("--from cannot be below 0"), "write it as 2m10s")}
			}
			l.ID, l.At = args[0], l.At.Round(time.Millisecond)
			return a.printLink(cmd.Context(), l, asJSON)
		},
	}
	cmd.Flags().DurationVar(&l.At, "from", 0, "where to begin, as in 2m10s")
	linkJSONFlag(cmd, &asJSON)
	return cmd
}

func (a *app) linkFollowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "follow URL",
		Short: "Do what a berth:// link wants, after asking",
		Long: `Do what a berth:// link wants, after asking. The desktop runs this when a link is
clicked. A dialog names what the link wants, and nothing happens before someone at
the desktop agrees. One link asks at a time, and at most four within a minute; a
text that is no link of berth's is refused without a question.`,
		Args: exactArgs("URL"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.followLink(cmd.Context(), args[0]) },
	}
}
