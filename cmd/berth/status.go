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
given state. A tunnel that says it is ready is tried as well: it must get through to
the proxy. The exit code is 4 if a login is missing.`,
		Example: `  berth status
  berth status prod-pg
  berth status --json | jq '.tunnels[].address'
  berth status --wait --timeout 30s prod-pg`,
		Args:              optionalArg("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = only(args)
			return a.status(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the snapshot as JSON; with --watch, one a line")
	f.BoolVar(&o.watch, "watch", false, "go on at every change, until Ctrl-C; a terminal is drawn in place, a wide one with rates and clients")
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

func (a *app) printStatus(s state.Snapshot, o statusOptions) error {
	if o.name != "" {
		list, err := pick(s.Tunnels, o.name)
		if err != nil {
			return err
		}
		s.Tunnels, s.Problems = list, problemsFor(s.Problems, o.name)
	}
	switch {
	case o.json && o.watch:
		return a.writeJSON(s, "")
	case o.json:
		return a.printJSON(s)
	case o.name != "":
		return a.printTunnel(s.Tunnels[0], s)
	}
	return a.printWhole(s, nil)
}

// problemsFor leaves out what a policy overrules of other tunnels than the named one.
func problemsFor(list []state.Problem, name string) []state.Problem {
	return slices.DeleteFunc(slices.Clone(list), func(p state.Problem) bool {
		return p.Code == state.CodePolicyOverrules && p.Title != state.OverruledTitle("") && p.Title != state.OverruledTitle(name)
	})
}

// printWhole prints everything: sessions, tunnels, what waits for a person, what is
// wrong. flow is what a watch knows besides, nil where there is none.
func (a *app) printWhole(s state.Snapshot, flow *flow) error {
	now := time.Now()
	if s.Policy != nil && s.Policy.Banner != "" {
		fmt.Fprintln(a.out, a.prose(plain.Line(s.Policy.Banner), 0))
	}
	said := adviceOf(s)
	for _, p := range s.Profiles {
		line, login := a.profileLine(p, now)
		if login != "" && !said[login] {
			line += " · log in: " + login
		}
		fmt.Fprintln(a.out, a.prose(line, 2))
		a.printRenewal(p, now)
	}
	switch {
	case len(s.Profiles) == 0 && proxyForbidden(s) != nil:
		fmt.Fprintln(a.out, "The policy allows none of your sessions.")
	case len(s.Profiles) == 0 && len(said) > 0:
		fmt.Fprintln(a.out, "No Teleport profile found.")
	case len(s.Profiles) == 0:
		fmt.Fprintln(a.out, a.prose(`No Teleport profile found. Log in with "berth login PROXY".`, 2))
	}
	fmt.Fprintln(a.out)
	if err := a.printTunnels(s, flow); err != nil {
		return err
	}
	if n := s.Agent.Draining; n > 0 {
		connections := "connections"
		if n == 1 {
			connections = "connection"
		}
		fmt.Fprintf(a.out, "draining (%d %s of the previous agent)\n", n, connections)
	}
	a.printAskedOfYou(s.Requests, now)
	if p := s.Policy; p != nil && len(p.Forbids) > 0 {
		fmt.Fprintln(a.out, a.prose(plain.Line("policy "+p.Path+": "+strings.Join(p.Forbids, ", ")), 2))
	}
	return a.printProblems(s)
}

// profileLine says how a session is, and which command logs in where that is what is
// missing.
func (a *app) profileLine(p state.Profile, now time.Time) (line, login string) {
	who := cmp.Or(plain.Line(p.User), "?") + " @ " + cmp.Or(plain.Line(p.Cluster), plain.Line(p.Proxy))
	login = "berth login " + plain.Line(p.Proxy)
	if p.User != "" {
		login += " --user=" + plain.Line(p.User)
	}
	switch p.State {
	case state.ProfileValid, state.ProfileExpiring:
		left := when.SpanSeconds(p.ValidUntil.Sub(now)) + " left"
		if p.State == state.ProfileExpiring {
			left = a.paint(yellow, left)
		}
		line = fmt.Sprintf("%s · %s · until %s · roles %s", who, left, when.ClockSeconds(*p.ValidUntil, now), plain.Line(join(p.Roles)))
		if len(p.ActiveRequests) > 0 {
			line += a.paint(bold, " · assumed requests "+plain.Line(join(shortIDs(p.ActiveRequests))))
		}
		return line, ""
	case state.ProfileExpired:
		return fmt.Sprintf("%s · %s", who, a.paint(red, "expired "+when.SpanSeconds(now.Sub(*p.ValidUntil))+" ago")), login
	default:
		return fmt.Sprintf("%s · %s", who, a.paint(red, words(p.State))), login
	}
}

// loggedIn reports whether there is a valid session.
func loggedIn(s state.Snapshot) bool {
	return slices.ContainsFunc(s.Profiles, func(p state.Profile) bool {
		return p.State == state.ProfileValid || p.State == state.ProfileExpiring
	})
}

// proxyForbidden returns the problem that a session's proxy is not allowed by the
// policy; nil when each is.
func proxyForbidden(s state.Snapshot) *state.Problem {
	for _, p := range s.Problems {
		if p.Code == state.CodeProxyForbidden {
			return &p
		}
	}
	return nil
}

// loginStep is the command that makes a valid session where there is none.
func (a *app) loginStep(s state.Snapshot) string {
	for _, p := range s.Profiles {
		if _, login := a.profileLine(p, time.Now()); login != "" {
			return login
		}
	}
	return "berth login PROXY"
}

// printRenewal says what is done about the session's end.
func (a *app) printRenewal(p state.Profile, now time.Time) {
	say := func(text string) { fmt.Fprintln(a.out, a.prose("  "+text, 4)) }
	if len(p.Stored) > 0 {
		say(plain.Line(strings.Join(p.Stored, " and ")) + " stored; delete: berth login --forget " + plain.Line(p.Proxy))
	}
	r := p.Renewal
	switch {
	case p.Login.InProgress && p.Login.URL != "":
		say("a login is under way: " + plain.Line(p.Login.URL))
	case p.Login.InProgress:
		say("a login is under way")
	case r.Warning == state.WarnSoon, r.Warning == state.WarnLast:
		say("renew it now: berth login --renew " + plain.Line(p.Proxy))
	case p.State == state.ProfileExpired, p.State == state.ProfileLoggedOut, r.At == nil:
	case r.Mode == state.RenewAuto:
		say("berth renews it at " + when.ClockSeconds(*r.At, now))
	case r.Mode == state.RenewAsk:
		say("berth reminds you at " + when.ClockSeconds(*r.At, now))
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

// printTunnels lists the tunnels. A wide terminal that watches gets rates and clients as
// well, as far as they are known.
func (a *app) printTunnels(s state.Snapshot, flow *flow) error {
	if len(s.Tunnels) == 0 {
		where := `"berth resources" lists what there is; then:`
		if !loggedIn(s) {
			where = `After the login "berth resources" lists what there is; then:`
		}
		_, err := fmt.Fprintln(a.out, a.prose("No tunnels yet. "+where, 2)+"\n  berth add RESOURCE")
		return err
	}
	tunnels, elevated := s.Tunnels, withAssumed(s)
	header := []string{"TUNNEL", "STATE", "ADDRESS", "RESOURCE", "ENGINE", "CONNECTIONS"}
	if flow != nil {
		header = append(header, "IN/S", "OUT/S", "WAITING")
	}
	rows := make([][]string, 0, len(tunnels))
	colors := make(map[string]string)
	for _, t := range tunnels {
		conns := fmt.Sprint(t.Connections)
		if t.Waiting > 0 && flow == nil {
			conns += fmt.Sprintf(" (%d waiting)", t.Waiting)
		}
		is := words(t.State)
		if elevated[t.Name] != "" {
			is += ", elevated"
		}
		colors[is] = stateColor(t.State)
		row := []string{t.Name, is, t.Address, resourceOf(t), string(t.Engine), conns}
		if flow != nil {
			waiting := ""
			if t.Waiting > 0 {
				waiting = fmt.Sprintf("%d: %s", t.Waiting, cmp.Or(t.WaitingClient, "a client"))
			}
			row[len(row)-1] = flow.connections(t)
			row = append(row, flow.rates[t.Name].in(), flow.rates[t.Name].out(), waiting)
		}
		rows = append(rows, row)
	}
	return a.table(header, rows, func(column int, cell string) string {
		if column != 1 {
			return ""
		}
		return colors[cell]
	}, spareColumns(header)...)
}

// spareColumns are those of the status that a narrow terminal has no room for, in
// the order in which they go.
func spareColumns(header []string) []string {
	spare := []string{"ENGINE", "OUT/S", "IN/S", "WAITING", "RESOURCE", "CONNECTIONS"}
	return slices.DeleteFunc(spare, func(title string) bool { return !slices.Contains(header, title) })
}

// elevated says which tunnels alone have the roles of which requests.
func elevated(requests []state.Request) map[string]string {
	by := make(map[string]string)
	for _, r := range requests {
		for _, name := range r.Tunnels {
			by[name] = r.ID
		}
	}
	return by
}

// withAssumed says which tunnels have the roles of a request: assumed for them alone, or
// for all that their profile serves.
func withAssumed(s state.Snapshot) map[string]string {
	by := elevated(s.Requests)
	for _, p := range s.Profiles {
		if len(p.ActiveRequests) == 0 {
			continue
		}
		for _, t := range s.Tunnels {
			if by[t.Name] == "" && t.Profile == p.Proxy && (t.User == "" || t.User == p.User) {
				by[t.Name] = p.ActiveRequests[0]
			}
		}
	}
	return by
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
			a.labelled("  ", what, plain.Line(text))
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
			line, login := a.profileLine(p, now)
			if login != "" {
				line += " · log in: " + login
			}
			a.labelled("  ", "profile", line)
		}
	}
	return a.printProblems(s)
}
