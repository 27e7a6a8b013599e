package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

type statusOptions struct {
	json, watch bool
	wait        string
	timeout     time.Duration
	name        string
}

func (a *app) statusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show profiles, tunnels and problems",
		Long: `Show what the agent knows: profiles and how long they are valid, tunnels and
their addresses, and every problem with its next step. With NAME, one tunnel.

--wait returns when the tunnel (or every tunnel that is not stopped) has the
given state. It ends with exit code 4 when a login is what is missing.`,
		Example: `  berth status
  berth status --json | jq '.tunnels[].address'
  berth status --wait --timeout 30s prod-pg`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) <= 1 {
				return nil
			}
			return exactArgs("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
			}
			return a.status(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the snapshot as JSON")
	f.BoolVar(&o.watch, "watch", false, "go on printing at every change, until Ctrl-C")
	f.StringVar(&o.wait, "wait", "", `return when this state is reached ("ready" when none is named)`)
	f.Lookup("wait").NoOptDefVal = string(state.TunnelReady)
	f.DurationVar(&o.timeout, "timeout", 0, "with --wait: give up after this long (0: never)")
	return cmd
}

func (a *app) status(ctx context.Context, o statusOptions) error {
	switch {
	case o.wait != "" && o.watch:
		return usageError{errors.New("--wait and --watch exclude each other")}
	case o.timeout != 0 && o.wait == "":
		return usageError{errors.New("--timeout goes with --wait")}
	case o.wait != "" && !slices.Contains(waitable, state.TunnelState(o.wait)):
		return usageError{fmt.Errorf("--wait=%s is no state of a tunnel: use one of %s", o.wait, join(waitable))}
	}
	return a.withAgent(func(c *client.Client) error {
		if o.watch {
			return a.watchStatus(ctx, c, o)
		}
		if o.wait != "" {
			if err := a.waitFor(ctx, c, o); err != nil {
				return err
			}
		}
		s, err := c.Snapshot(ctx)
		if err != nil {
			return err
		}
		return a.printStatus(s, o)
	})
}

// waitable are the states --wait can wait for.
var waitable = []state.TunnelState{
	state.TunnelReady, state.TunnelWaitingForLogin, state.TunnelPortInUse, state.TunnelError, state.TunnelStopped,
}

func join[T ~string](items []T) string {
	words := make([]string, len(items))
	for i, it := range items {
		words[i] = string(it)
	}
	return strings.Join(words, ", ")
}

func (a *app) watchStatus(ctx context.Context, c *client.Client, o statusOptions) error {
	for s, err := range c.Watch(ctx) {
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a watch ends
		}
		if err != nil {
			return err
		}
		if !o.json {
			// Home and clear: the screen shows one status, not a roll of them.
			fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		}
		if err := a.printStatus(s, o); err != nil {
			return err
		}
	}
	return nil
}

// waitFor returns when the named tunnel, or every tunnel that is not stopped,
// has the state asked for.
func (a *app) waitFor(ctx context.Context, c *client.Client, o statusOptions) error {
	watchCtx := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		watchCtx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	want := state.TunnelState(o.wait)
	var missing []state.Tunnel
	for s, err := range c.Watch(watchCtx) {
		if err != nil {
			if len(missing) > 0 && errors.Is(watchCtx.Err(), context.DeadlineExceeded) {
				return notReached(missing[0], o)
			}
			return err
		}
		list, err := pick(s.Tunnels, o.name)
		if err != nil {
			return err
		}
		missing = slices.DeleteFunc(list, func(t state.Tunnel) bool {
			return t.State == want || (o.name == "" && t.State == state.TunnelStopped)
		})
		if len(missing) == 0 {
			return nil
		}
	}
	return watchCtx.Err()
}

// notReached says which tunnel --wait waited for in vain, and why.
func notReached(t state.Tunnel, o statusOptions) error {
	err := fmt.Errorf("tunnel %q is not %s after %s: it is %s", t.Name, words(o.wait), o.timeout, words(string(t.State)))
	if t.State == state.TunnelWaitingForLogin {
		err = fmt.Errorf("%w: %w", errLoginNeeded, err)
	}
	if t.Problem != nil {
		err = withHint(fmt.Errorf("%w\n  %s", err, clean(t.Problem.Text)), clean(t.Problem.Action))
	}
	return err
}

// pick returns a copy of the tunnels, or of the named one.
func pick(tunnels []state.Tunnel, name string) ([]state.Tunnel, error) {
	if name == "" {
		return slices.Clone(tunnels), nil
	}
	i := slices.IndexFunc(tunnels, func(t state.Tunnel) bool { return t.Name == name })
	if i < 0 {
		return nil, withHint(fmt.Errorf("there is no tunnel %q", name), `see "berth tunnel ls"`)
	}
	return []state.Tunnel{tunnels[i]}, nil
}

func (a *app) printStatus(s state.Snapshot, o statusOptions) error {
	if o.name != "" {
		list, err := pick(s.Tunnels, o.name)
		if err != nil {
			return err
		}
		s.Tunnels = list
	}
	if o.json {
		if o.watch {
			return json.NewEncoder(a.out).Encode(s)
		}
		return a.printJSON(s)
	}
	now := time.Now()
	for _, p := range s.Profiles {
		fmt.Fprintln(a.out, profileLine(p, now))
	}
	if len(s.Profiles) == 0 {
		fmt.Fprintln(a.out, `No Teleport profile found. Log in with "tsh login --proxy=<your proxy>".`)
	}
	fmt.Fprintln(a.out)
	if len(s.Tunnels) == 0 {
		fmt.Fprintln(a.out, `No tunnels yet. See what there is with "berth resources db", then "berth tunnel add db NAME --resource R".`)
	} else if err := printTunnels(a.out, s.Tunnels); err != nil {
		return err
	}
	return printProblems(a.out, s)
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func profileLine(p state.Profile, now time.Time) string {
	who := clean(p.User) + " @ " + clean(p.Cluster)
	switch p.State {
	case state.ProfileValid, state.ProfileExpiring:
		return fmt.Sprintf("%s · %s left · until %s · roles %s", who, remaining(p.ValidUntil.Sub(now)),
			p.ValidUntil.Local().Format("15:04:05"), clean(strings.Join(p.Roles, ", ")))
	case state.ProfileExpired:
		return fmt.Sprintf("%s · expired %s ago · log in: tsh login --proxy=%s", who, remaining(now.Sub(*p.ValidUntil)), p.Proxy)
	default:
		return fmt.Sprintf("%s · logged out · log in: tsh login --proxy=%s", who, p.Proxy)
	}
}

// remaining words a duration the way a person would say it.
func remaining(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}

func printTunnels(w io.Writer, tunnels []state.Tunnel) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TUNNEL\tSTATE\tADDRESS\tRESOURCE\tENGINE\tCONNECTIONS")
	for _, t := range tunnels {
		what := clean(t.Resource)
		if t.Protocol != "" {
			what += " (" + clean(t.Protocol) + ")"
		}
		conns := fmt.Sprint(t.Connections)
		if t.Waiting > 0 {
			conns += fmt.Sprintf(" (%d waiting)", t.Waiting)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, words(string(t.State)), t.Address, what, t.Engine, conns)
	}
	return tw.Flush()
}

// printProblems prints what is wrong, each with its next step, and why a
// tunnel does not use the native engine.
func printProblems(w io.Writer, s state.Snapshot) error {
	var lines []string
	add := func(name string, p state.Problem) {
		lines = append(lines, fmt.Sprintf("! %s%s: %s", name, p.Title, clean(p.Text)), "    → "+clean(p.Action))
	}
	for _, p := range s.Problems {
		add("", p)
	}
	for _, t := range s.Tunnels {
		if t.Problem != nil {
			add(t.Name+": ", *t.Problem)
		}
		if t.Engine == state.EngineTSH && t.EngineReason != "" {
			lines = append(lines, fmt.Sprintf("· %s goes through tsh: %s", t.Name, clean(t.EngineReason)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "\n"+strings.Join(lines, "\n"))
	return err
}

// words turns a state's name into words.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

// clean makes other people's text (names, roles, errors) safe for a terminal:
// control characters and the marks that turn text around are dropped.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0):
			return -1
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			return -1
		default:
			return r
		}
	}, s)
}
