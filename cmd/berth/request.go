package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/access"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
)

func (a *app) requestCommand() *cobra.Command {
	cmd := commandGroup("request", "List, make, decide and assume access requests",
		a.requestListCommand(), a.requestShowCommand(), a.requestCreateCommand(),
		a.requestDecideCommand("approve", "Approve another user's access request", true),
		a.requestDecideCommand("deny", "Deny another user's access request", false),
		a.requestAssumeCommand(), a.requestDropCommand(), a.requestWatchCommand(),
	)
	cmd.Aliases = []string{"requests"}
	return cmd
}

func (a *app) requestListCommand() *cobra.Command {
	var asJSON, mine, reviewable bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List access requests",
		Long: `List the access requests of every cluster you are logged in to, the newest
first: your own, and those that you may review.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mine && reviewable {
				return usageError{withHint(errors.New("you cannot review your own access requests"), "give one of --mine and --reviewable")}
			}
			return a.withAgent(func(c *client.Client) error {
				s, err := c.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				list := slices.DeleteFunc(s.Requests, func(r state.Request) bool {
					return mine && !r.Mine || reviewable && !r.Reviewable
				})
				switch {
				case asJSON:
					return a.printJSON(list)
				case len(list) == 0 && len(s.Profiles) == 0 && proxyForbidden(s) != nil:
					p := proxyForbidden(s)
					_, err := fmt.Fprintln(a.out, a.prose("berth sees no access request. "+plain.Line(p.Text), 0)+
						"\n"+a.prose("  → "+plain.Line(p.Action), 4))
					return err
				case len(list) == 0 && !loggedIn(s):
					_, err := fmt.Fprintln(a.out, a.prose("No session is valid, so berth sees no access request.", 0)+
						"\n"+a.prose("  → "+a.loginStep(s), 4))
					return err
				}
				return a.printRequests(list, time.Now())
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&mine, "mine", false, "only your own")
	f.BoolVar(&reviewable, "reviewable", false, "only those that wait for your review")
	f.BoolVar(&asJSON, "json", false, "print the requests as JSON")
	return cmd
}

// requestIDs completes the ids of the requests that want is true for.
func (a *app) requestIDs(want func(state.Request) bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
			s, err := c.Snapshot(ctx)
			var ids []string
			for _, r := range s.Requests {
				if want(r) && !slices.Contains(args, r.ID) {
					ids = append(ids, described(r.ID, fmt.Sprintf("%s for %s, %s", rolesOf(r), r.User, r.State)))
				}
			}
			return ids, err
		})
	}
}

func (a *app) requestShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show ID [flags]",
		Short:             "Show one access request in full",
		Long:              "Show one access request in full. The beginning of its id will do.",
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.requestIDs(func(state.Request) bool { return true }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				r, err := findRequest(cmd.Context(), c, args[0])
				switch {
				case err != nil:
					return err
				case asJSON:
					return a.printJSON(r)
				default:
					return a.printRequest(r, time.Now())
				}
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the request as JSON")
	return cmd
}

func findRequest(ctx context.Context, c *client.Client, id string) (state.Request, error) {
	s, err := c.Snapshot(ctx)
	if err != nil {
		return state.Request{}, err
	}
	r, err := access.Find(s.Requests, id)
	if _, ok := errors.AsType[*access.AmbiguousIDError](err); ok {
		return r, usageError{withHint(err, "write more of the id")}
	}
	if err != nil {
		return r, withHint(err, `see "berth request ls"`)
	}
	return r, nil
}

// requestCreateOptions are the flags of "berth request create".
type requestCreateOptions struct {
	client.NewRequest

	start        string
	wait, asJSON bool
	timeout      time.Duration
}

func (a *app) requestCreateCommand() *cobra.Command {
	var o requestCreateOptions
	cmd := &cobra.Command{
		Use:   "create [flags]",
		Short: "Ask for roles, or for access to resources",
		Long: `Ask for roles, or for access to resources. The cluster says which roles you may
ask for and whether it wants a reason; completion lists the roles.

With --wait the command ends when the request is decided: with 0 when it was
approved, else with 1. Then assume it with "berth request assume". If your session
ends first, so does the command, with 4; the request stays.`,
		Example: `  berth request create --role dba --reason 'incident 42'
  berth request create --role dba --for 4h --wait
  berth request create --resource /example.com/db/pg-prod`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.Roles) == 0 && len(o.Resources) == 0 {
				return usageError{withHint(errors.New("neither a role nor a resource is asked for"), "name one with --role or --resource")}
			}
			if err := o.parseStart(time.Now()); err != nil {
				return err
			}
			return a.withAgent(func(c *client.Client) error { return a.createRequest(cmd.Context(), c, o) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Roles, "role", nil, "ask for this `ROLE`; may be given several times")
	f.StringSliceVar(&o.Resources, "resource", nil, "ask for this `RESOURCE`, as /CLUSTER/db/NAME; may be given several times")
	f.StringVar(&o.Reason, "reason", "", "why you need it")
	f.StringSliceVar(&o.Reviewers, "reviewer", nil, "suggest this `USER` as reviewer; default: those your roles suggest")
	f.DurationVar(&o.For, "for", 0, "how long the access is to last, as in 4h; 0 means as long as the session")
	f.StringVar(&o.start, "start", "", "when it is to begin: a `TIME` as 15:04 or in RFC 3339; default: at once")
	f.StringVar(&o.Profile, "profile", "", "ask at this `PROXY` or cluster; default: the current profile's")
	f.BoolVar(&o.wait, "wait", false, "wait until it is decided")
	f.DurationVar(&o.timeout, "timeout", 0, "how long --wait waits; 0 means without end")
	f.BoolVar(&o.asJSON, "json", false, "print the request as JSON")
	must(cmd.RegisterFlagCompletionFunc("role", a.completeAbilities(func(r client.RequestAbilities) []string { return r.Roles })))
	must(cmd.RegisterFlagCompletionFunc("reviewer", a.completeAbilities(func(r client.RequestAbilities) []string { return r.Reviewers })))
	must(cmd.RegisterFlagCompletionFunc("profile", a.completeProxies))
	return cmd
}

// parseStart reads --start: a time of day means the next one.
func (o *requestCreateOptions) parseStart(now time.Time) error {
	if o.start == "" {
		return nil
	}
	if at, err := time.Parse(time.RFC3339, o.start); err == nil {
		o.Start = &at
		return nil
	}
	day, err := time.ParseInLocation("15:04", o.start, time.Local)
	if err != nil {
		return usageError{withHint(fmt.Errorf("%q is no time", o.start), "write it as 15:04 or 2006-01-02T15:04:05Z")}
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), day.Hour(), day.Minute(), 0, 0, time.Local)
	if !at.After(now) {
		at = at.AddDate(0, 0, 1)
	}
	o.Start = &at
	return nil
}

func (a *app) completeAbilities(which func(client.RequestAbilities) []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
			profile, err := cmd.Flags().GetString("profile")
			if err != nil {
				return nil, err
			}
			able, err := c.RequestAbilities(ctx, profile, nil)
			names := which(able)
			for i := range names {
				names[i] = plain.Line(names[i])
			}
			return names, err
		})
	}
}

func (a *app) createRequest(ctx context.Context, c *client.Client, o requestCreateOptions) error {
	r, err := c.CreateRequest(ctx, o.NewRequest)
	if err != nil {
		return err
	}
	if o.wait {
		if !o.asJSON {
			fmt.Fprintf(a.err, "asked for %s as %s; waiting for a decision\n", plain.Line(rolesOf(r)), plain.Line(r.ID))
		}
		if r, err = awaitDecision(ctx, c, r, o.timeout); err != nil {
			return err
		}
	}
	if o.asJSON {
		err = a.printJSON(r)
	} else {
		err = a.printCreated(r, time.Now())
	}
	if err == nil && o.wait && r.State != state.RequestApproved {
		return childError{exitFailed} // printed already
	}
	return err
}

// awaitDecision waits until a request of your own is no longer pending. Without a session
// berth sees no request, so the end of the session ends the waiting, but not the request.
func awaitDecision(ctx context.Context, c *client.Client, r state.Request, limit time.Duration) (state.Request, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	seen := false
	for s, err := range c.Watch(ctx) {
		if err != nil {
			if limit > 0 && timedOut(ctx, err) {
				return r, fmt.Errorf("access request %s was not decided within %s", r.ID, limit)
			}
			return r, err
		}
		i := slices.IndexFunc(s.Requests, func(x state.Request) bool { return x.ID == r.ID })
		switch {
		case i >= 0 && s.Requests[i].State != state.RequestPending:
			return s.Requests[i], nil
		case i < 0 && time.Now().Before(r.ExpiresAt) && !loggedInFor(s, r):
			return r, withHint(fmt.Errorf("%w: the session at %s has ended, and access request %s is still pending", errLoginNeeded, r.Profile, r.ID),
				shell.Quote("berth", "login", r.Profile, "--user="+r.User))
		case i < 0 && seen:
			r.State = state.RequestExpired
			return r, nil
		}
		seen = seen || i >= 0
	}
	return r, ctx.Err()
}

// loggedInFor reports whether the user of a request has a valid session at its proxy.
func loggedInFor(s state.Snapshot, r state.Request) bool {
	s.Profiles = slices.DeleteFunc(s.Profiles, func(p state.Profile) bool {
		return p.Proxy != r.Profile || access.CleanName(p.User) != r.User
	})
	return loggedIn(s)
}

func (a *app) requestDecideCommand(verb, short string, approve bool) *cobra.Command {
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   verb + " ID [flags]",
		Short: short,
		Long: short + `. The beginning of its id will do. Your review counts by the
cluster's rules: more than one may be needed.`,
		Example:           fmt.Sprintf("  berth request %s 7c1f --reason 'as discussed'", verb),
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.requestIDs(func(r state.Request) bool { return r.Reviewable }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAgent(func(c *client.Client) error {
				r, err := c.DecideRequest(cmd.Context(), args[0], approve, reason)
				if err != nil {
					return err
				}
				if asJSON {
					return a.printJSON(r)
				}
				return a.sentences(plain.Line(decidedLine(r, verb)))
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the requester sees it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the request, as it is afterwards, as JSON")
	return cmd
}

func (a *app) requestWatchCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [flags]",
		Short: "Print what happens to access requests",
		Long: `Print a line for each thing that happens to an access request, until Ctrl-C:
created, approved, denied, a review asked of you, about to end, and so on.`,
		Example: `  berth request watch
  berth request watch --json |
    jq -r 'select(.kind == "approved") | .request.id'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAgent(func(c *client.Client) error {
				for ev, err := range c.RequestEvents(cmd.Context()) {
					if err != nil {
						return ignoreStop(cmd.Context(), err)
					}
					if asJSON {
						err = a.writeJSON(ev, "")
					} else {
						_, err = fmt.Fprintln(a.out, plain.Line(requestEventLine(ev, time.Now())))
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an event as one line of JSON each")
	return cmd
}
