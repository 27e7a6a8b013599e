package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/when"
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
		Use:   "status [NAME] [flags]",
		Short: "Show profiles, tunnels and problems",
		Long: `Show what the agent knows: profiles and how long they are valid, tunnels and
their addresses, and every problem with its next step. With NAME, all about one
tunnel.

--wait returns when the tunnel (or every tunnel that is not stopped) has the
given state. It ends with exit code 4 when a login is what is missing.`,
		Example: `  berth status
  berth status prod-pg
  berth status --json | jq '.tunnels[].address'
  berth status --wait --timeout 30s prod-pg`,
		Args:              optionalArg("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
			}
			return a.status(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the snapshot as JSON; with --watch, one a line")
	f.BoolVar(&o.watch, "watch", false, "go on printing at every change, until Ctrl-C")
	f.StringVar(&o.wait, "wait", "", "return when this `STATE` is reached; --wait alone means --wait=ready")
	f.Lookup("wait").NoOptDefVal = string(state.TunnelReady)
	f.DurationVar(&o.timeout, "timeout", 0, "with --wait: give up after this long; 0 means never")
	must(cmd.RegisterFlagCompletionFunc("wait",
		cobra.FixedCompletions(strings.Split(join(waitable), ", "), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (o statusOptions) check() error {
	switch {
	case o.watch && o.wait != "":
		return usageError{withHint(errors.New("--watch and --wait do not go together"), "wait first, then watch")}
	case o.timeout != 0 && o.wait == "":
		return usageError{withHint(errors.New("--timeout goes with --wait"), `add --wait`)}
	case o.timeout < 0:
		return usageError{withHint(fmt.Errorf("--timeout %s is over before it begins", o.timeout), "use a positive duration, as 30s")}
	case o.wait != "" && !slices.Contains(waitable, state.TunnelState(o.wait)):
		return usageError{withHint(fmt.Errorf("%q is no state to wait for", o.wait), "use one of "+join(waitable))}
	}
	return nil
}

func (a *app) status(ctx context.Context, o statusOptions) error {
	if err := o.check(); err != nil {
		return err
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

func (a *app) watchStatus(ctx context.Context, c *client.Client, o statusOptions) error {
	first := true
	for s, err := range c.Watch(ctx) {
		if err != nil {
			return ignoreStop(ctx, err) // Ctrl-C is how a watch ends
		}
		switch {
		case o.json:
		case a.terminal:
			// Home and clear: the screen shows one status, not a roll of them.
			fmt.Fprint(a.out, "\x1b[H\x1b[2J")
		case !first:
			fmt.Fprintln(a.out)
		}
		first = false
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
	// Asked apart from the watch, so that there is something to tell however
	// short the timeout is.
	s, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	missing, err := lacking(s, o)
	if err != nil || len(missing) == 0 {
		return err
	}
	for s, err := range c.Watch(watchCtx) {
		switch {
		case err != nil && o.timeout > 0 && timedOut(watchCtx, err):
			return notReached(missing[0], o)
		case err != nil:
			return err
		}
		if missing, err = lacking(s, o); err != nil || len(missing) == 0 {
			return err
		}
	}
	return watchCtx.Err()
}

// timedOut reports whether err is the end of ctx's time. The agent knows the
// deadline too, and may be the first to notice.
func timedOut(ctx context.Context, err error) bool {
	var rpc *client.Error
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || (errors.As(err, &rpc) && rpc.Code == ipc.CodeTimeout)
}

// lacking are the tunnels that have not reached the state waited for.
func lacking(s state.Snapshot, o statusOptions) ([]state.Tunnel, error) {
	list, err := pick(s.Tunnels, o.name)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(t state.Tunnel) bool {
		return t.State == state.TunnelState(o.wait) || (o.name == "" && t.State == state.TunnelStopped)
	}), nil
}

// notReached says which tunnel --wait waited for in vain, and why.
func notReached(t state.Tunnel, o statusOptions) error {
	err := fmt.Errorf("tunnel %q is not %s after %s: it is %s", t.Name, words(o.wait), o.timeout, words(t.State))
	if t.Problem != nil {
		err = withHint(fmt.Errorf("%w\n%s", err, plain.Line(t.Problem.Text)), t.Problem.Action)
	}
	if t.State == state.TunnelWaitingForLogin {
		err = fmt.Errorf("%w: %w", errLoginNeeded, err)
	}
	return err
}

func (a *app) printStatus(s state.Snapshot, o statusOptions) error {
	if o.name != "" {
		list, err := pick(s.Tunnels, o.name)
		if err != nil {
			return err
		}
		s.Tunnels = list
	}
	switch {
	case o.json && o.watch:
		return a.writeJSON(s, "")
	case o.json:
		return a.printJSON(s)
	case o.name != "":
		return a.printTunnel(s.Tunnels[0], s)
	}
	now := time.Now()
	if s.Policy != nil && s.Policy.Banner != "" {
		fmt.Fprintln(a.out, plain.Line(s.Policy.Banner))
	}
	for _, p := range s.Profiles {
		fmt.Fprintln(a.out, a.profileLine(p, now))
		a.printRenewal(p, now)
	}
	if len(s.Profiles) == 0 {
		fmt.Fprintln(a.out, `No Teleport profile found. Log in with "berth login <your proxy>".`)
	}
	fmt.Fprintln(a.out)
	if err := a.printTunnels(s.Tunnels); err != nil {
		return err
	}
	if n := s.Agent.Draining; n > 0 {
		fmt.Fprintf(a.out, "draining (%d connections of the previous agent)\n", n)
	}
	a.printAskedOfYou(s.Requests, now)
	if p := s.Policy; p != nil && len(p.Forbids) > 0 {
		fmt.Fprintf(a.out, "policy %s: %s\n", plain.Line(p.Path), plain.Line(strings.Join(p.Forbids, ", ")))
	}
	return a.printProblems(s)
}

func (a *app) profileLine(p state.Profile, now time.Time) string {
	who := cmp.Or(plain.Line(p.User), "?") + " @ " + cmp.Or(plain.Line(p.Cluster), plain.Line(p.Proxy))
	login := "log in: berth login " + plain.Line(p.Proxy)
	if p.User != "" {
		login += " --user=" + plain.Line(p.User)
	}
	switch p.State {
	case state.ProfileValid, state.ProfileExpiring:
		left := when.SpanSeconds(p.ValidUntil.Sub(now)) + " left"
		if p.State == state.ProfileExpiring {
			left = a.paint(yellow, left)
		}
		line := fmt.Sprintf("%s · %s · until %s · roles %s", who, left, when.ClockSeconds(*p.ValidUntil, now), plain.Line(join(p.Roles)))
		if len(p.ActiveRequests) > 0 {
			line += " · assumed requests " + plain.Line(join(p.ActiveRequests))
		}
		return line
	case state.ProfileExpired:
		return fmt.Sprintf("%s · %s · %s", who, a.paint(red, "expired "+when.SpanSeconds(now.Sub(*p.ValidUntil))+" ago"), login)
	default:
		return fmt.Sprintf("%s · %s · %s", who, a.paint(red, words(p.State)), login)
	}
}

// printRenewal says what is done about the session's end.
func (a *app) printRenewal(p state.Profile, now time.Time) {
	if len(p.Stored) > 0 {
		fmt.Fprintln(a.out, "  "+plain.Line(strings.Join(p.Stored, " and "))+" stored; delete: berth login --forget "+plain.Line(p.Proxy))
	}
	r := p.Renewal
	switch {
	case p.Login.InProgress && p.Login.URL != "":
		fmt.Fprintln(a.out, "  a login is under way: "+plain.Line(p.Login.URL))
	case p.Login.InProgress:
		fmt.Fprintln(a.out, "  a login is under way")
	case r.Warning == state.WarnSoon, r.Warning == state.WarnLast:
		fmt.Fprintln(a.out, "  renew it now: berth login --renew "+plain.Line(p.Proxy))
	case p.State == state.ProfileExpired, p.State == state.ProfileLoggedOut, r.At == nil:
	case r.Mode == state.RenewAuto:
		fmt.Fprintln(a.out, "  berth renews it at "+when.ClockSeconds(*r.At, now))
	case r.Mode == state.RenewAsk:
		fmt.Fprintln(a.out, "  berth reminds you at "+when.ClockSeconds(*r.At, now))
	}
}

// endingText says when the cluster cuts connections.
func endingText(n int64, at, now time.Time) string {
	if n == 1 {
		return "1 connection ends at " + when.ClockSeconds(at, now) + ", with its certificate"
	}
	return fmt.Sprintf("%d connections end at %s, with their certificate", n, when.ClockSeconds(at, now))
}

func stateColor(s state.TunnelState) string {
	switch s {
	case state.TunnelReady:
		return green
	case state.TunnelConnecting, state.TunnelWaitingForLogin:
		return yellow
	case state.TunnelPortInUse, state.TunnelError:
		return red
	default:
		return ""
	}
}

func (a *app) printTunnels(tunnels []state.Tunnel) error {
	if len(tunnels) == 0 {
		_, err := fmt.Fprintln(a.out,
			"No tunnels yet. \"berth resources\" lists what there is; then:\n  berth add RESOURCE")
		return err
	}
	rows := make([][]string, 0, len(tunnels))
	for _, t := range tunnels {
		conns := fmt.Sprint(t.Connections)
		if t.Waiting > 0 {
			conns += fmt.Sprintf(" (%d waiting)", t.Waiting)
		}
		rows = append(rows, []string{t.Name, words(t.State), t.Address, resourceOf(t), string(t.Engine), conns})
	}
	return a.table([]string{"TUNNEL", "STATE", "ADDRESS", "RESOURCE", "ENGINE", "CONNECTIONS"}, rows,
		func(column int, cell string) string {
			if column != 1 {
				return ""
			}
			return stateColor(state.TunnelState(strings.ReplaceAll(cell, " ", "_")))
		})
}

func resourceOf(t state.Tunnel) string {
	if t.Protocol == "" {
		return t.Resource
	}
	return t.Resource + " (" + t.Protocol + ")"
}

// printTunnel prints all about one tunnel.
func (a *app) printTunnel(t state.Tunnel, s state.Snapshot) error {
	now := time.Now()
	fmt.Fprintf(a.out, "%s · %s\n", plain.Line(t.Name), a.paint(stateColor(t.State), words(t.State)))
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(a.out, "  %-12s %s\n", what, plain.Line(text))
		}
	}
	line("address", join(t.Addresses))
	line("resource", resourceOf(t)+" in "+t.Cluster)
	engine := string(t.Engine)
	if t.EngineReason != "" {
		engine += ": " + t.EngineReason
	}
	line("engine", engine)
	if t.CertValidUntil != nil {
		line("cert", "until "+when.ClockSeconds(*t.CertValidUntil, now)+", then a new one")
	}
	line("connections", fmt.Sprintf("%d open, %d waiting, %d since the agent started", t.Connections, t.Waiting, t.TotalConnections))
	if t.EndingAt != nil {
		line("ending", endingText(t.EndingConnections, *t.EndingAt, now))
	}
	if t.WaitingSince != nil {
		line("waiting", fmt.Sprintf("%s, for %s", cmp.Or(t.WaitingClient, "a client"), when.SpanSeconds(now.Sub(*t.WaitingSince))))
	}
	switch {
	case t.Guard == state.GuardOff:
		line("guard", "off: every user of this machine may use this tunnel")
	case t.Guard == state.GuardNone && !t.Kind.Info().ShowsCert:
		line("guard", "none: this system does not say whose program a client is")
	}
	if t.ForeignAt != nil {
		line("turned away", t.ForeignUser+" at "+when.ClockSeconds(*t.ForeignAt, now))
	}
	if t.ShippedIn != "" {
		line("from", t.ShippedIn+", which only an administrator changes")
	}
	line("traffic", size(t.BytesIn)+" in, "+size(t.BytesOut)+" out")
	if t.LastErrorAt != nil {
		line("last error", when.ClockSeconds(*t.LastErrorAt, now))
	}
	for _, p := range s.Profiles {
		if p.Proxy == t.Profile {
			fmt.Fprintf(a.out, "  %-12s %s\n", "profile", a.profileLine(p, now))
		}
	}
	return a.printProblems(s)
}

// printProblems prints what is wrong, each with its next step, and why a
// tunnel does not use the native engine.
func (a *app) printProblems(s state.Snapshot) error {
	var lines []string
	add := func(name string, p state.Problem) {
		lines = append(lines, fmt.Sprintf("%s %s%s: %s", a.paint(red, "!"), plain.Line(name), plain.Line(p.Title), plain.Line(p.Text)))
		if step := a.nextStep(p.Action); step != "" {
			lines = append(lines, "    → "+plain.Line(step))
		}
	}
	for _, p := range s.Problems {
		add("", p)
	}
	for _, p := range s.Profiles {
		if p.Renewal.Problem != nil {
			add("", *p.Renewal.Problem)
		}
	}
	for _, t := range s.Tunnels {
		if t.Problem != nil && !slices.Contains(s.Problems, *t.Problem) { // a problem of the whole cluster is listed once
			add(t.Name+": ", *t.Problem)
		}
		if t.Guard == state.GuardOff {
			lines = append(lines, fmt.Sprintf("· %s is open to every user of this machine: guard is off", plain.Line(t.Name)))
		}
		if t.Engine == state.EngineTSH && t.EngineReason != "" {
			lines = append(lines, fmt.Sprintf("· %s goes through tsh: %s", plain.Line(t.Name), plain.Line(t.EngineReason)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(a.out, "\n"+strings.Join(lines, "\n"))
	return err
}
