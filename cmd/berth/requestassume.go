package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
)

func (a *app) requestAssumeCommand() *cobra.Command {
	var want client.Assume
	var hold time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "assume ID [flags]",
		Short: "Assume the roles of an approved access request",
		Long: `Assume the roles of an approved access request, for the whole session: tsh has
them too, and every tunnel uses them from its next connection on. With --tunnel
that tunnel alone gets them, and the session stays as it is.

Where the session would end earlier with these roles, or no longer reach what
other tunnels lead to, you are asked first.

While logged out, the login comes first: at a terminal you are asked for it.
Elsewhere, and with --hold, the command is held until there is a login, as a
tunnel's clients are: for the tunnel's hold, or 60 s.`,
		Example: `  berth request assume 7c1f
  berth request assume 7c1f --tunnel prod-pg`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.requestIDs(func(r state.Request) bool { return r.Assumable }),
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "tunnel") },
		RunE: func(cmd *cobra.Command, args []string) error {
			want.ID = args[0]
			if cmd.Flags().Changed("hold") {
				want.Hold = &hold
			}
			return a.withAgent(func(c *client.Client) error {
				got, err := a.assumeRequest(cmd.Context(), c, want)
				switch {
				case err != nil:
					return err
				case asJSON:
					return a.printJSON(got.Request)
				default:
					return a.sentences(plain.Line(assumedLine(got, want.Tunnel, time.Now())))
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&want.Tunnel, "tunnel", "", "give the roles to this tunnel `NAME` alone")
	f.BoolVarP(&want.AcceptEarlierEnd, "yes", "y", false, "do not ask when the session ends earlier, or reaches less")
	f.DurationVar(&hold, "hold", 0, "while logged out: wait this long for a login; 0 means not at all")
	f.BoolVar(&asJSON, "json", false, "print the request, as it is afterwards, as JSON")
	must(cmd.RegisterFlagCompletionFunc("tunnel", a.completeTunnelFlag))
	return cmd
}

// assumeRequest assumes, after a login or a question where one is needed.
func (a *app) assumeRequest(ctx context.Context, c *client.Client, want client.Assume) (client.Assumed, error) {
	asks := a.canAsk() && want.Hold == nil
	if asks {
		want.Hold = new(time.Duration)
	}
	for asked := false; ; asked = true {
		got, err := c.AssumeRequest(ctx, want)
		var rpc *client.Error
		switch {
		case err == nil || asked && !errors.As(err, &rpc):
			return got, err
		case errors.Is(err, client.ErrLoginNeeded) && !asked && asks:
			a.complain(err)
			front := &loginFront{app: a}
			err := c.Login(ctx, client.LoginStart{}, func(e client.LoginEvent, answer func(string)) error { return front.show(ctx, e, answer) })
			front.restore()
			if err != nil {
				return got, err
			}
		case errors.As(err, &rpc) && rpc.Code == ipc.CodeConfirm && a.canAsk() && a.confirm(ctx, rpc.Message+". Assume it?"):
			want.AcceptEarlierEnd = true
		default:
			return got, err
		}
	}
}

func (a *app) requestDropCommand() *cobra.Command {
	var tunnel string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "drop [ID...] [flags]",
		Short: "Drop the roles of assumed access requests",
		Long: `Drop the roles of assumed access requests, of all without an ID. Tunnels do
without them from their next connection on; connections that were opened with
them are left alone ("on_drop: close" in the config closes them), and "berth
tunnel restart" closes them now.`,
		Example: `  berth request drop
  berth request drop 7c1f
  berth request drop --tunnel prod-pg`,
		ValidArgsFunction: a.requestIDs(func(r state.Request) bool { return r.Assumed || len(r.Tunnels) > 0 }),
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "tunnel") },
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				ids, err := c.DropRequests(cmd.Context(), args, tunnel)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(ids)
				}
				if len(ids) == 0 {
					return a.sentences("no access request is assumed")
				}
				return a.sentences("dropped " + plain.Line(join(ids)))
			})
		},
	}
	cmd.Flags().StringVar(&tunnel, "tunnel", "", "only what this tunnel `NAME` alone has")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the ids that were dropped as JSON")
	must(cmd.RegisterFlagCompletionFunc("tunnel", a.completeTunnelFlag))
	return cmd
}
