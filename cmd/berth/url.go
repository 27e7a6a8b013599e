package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/proxies/db"
)

type urlOptions struct {
	as     string // the format
	chosen bool   // by the person, not by default
	json   bool
	tls    bool   // the client is to speak TLS with the tunnel
	ca     string // the local CA's file, with tls
}

func (a *app) tunnelURLCommand() *cobra.Command {
	var o urlOptions
	cmd := &cobra.Command{
		Use:   "url NAME [flags]",
		Short: "Print how a client connects to a tunnel",
		Long: `Print how a client connects to a tunnel, ready to paste:
  url        for psql, redis-cli -u, mongosh and most libraries
  jdbc       for DBeaver, DataGrip and Java
  dsn        for libpq, Go's MySQL driver and ADO.NET
  env        lines for a shell to export
  pgservice  a section of ~/.pg_service.conf
  mycnf      sections of ~/.my.cnf

With --tls, what is printed has the client speak TLS with the tunnel and check its
certificate by berth's local CA ("berth ca path"); the address stays the same. Where
the form cannot name the CA a note says so.

A tunnel to a Kubernetes cluster has url, the API server's address, and env.`,
		Example: `  psql "$(berth tunnel url prod-pg)"
  eval "$(berth tunnel url prod-pg --as env)"
  berth tunnel url prod-pg --as pgservice >> ~/.pg_service.conf
  psql "$(berth tunnel url prod-pg --tls)"`,
		Args:              exactArgs("NAME"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.json && cmd.Flags().Changed("as") {
				return usageError{withHint(errors.New("--json and --as do not go together"), "--json has every format")}
			}
			t, err := a.tunnel(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			k, err := commandsOf(t)
			if err != nil {
				return err
			}
			o.chosen = cmd.Flags().Changed("as")
			if o.tls {
				ca, err := a.localCA(cmd.Context())
				if err != nil {
					return err
				}
				o.ca = ca.Path
			}
			return k.printURL(a, t, o)
		},
	}
	cmd.Flags().StringVar(&o.as, "as", string(db.URL), "the format: "+join(db.AllFormats))
	cmd.Flags().BoolVar(&o.json, "json", false, "print every format the protocol has as JSON")
	cmd.Flags().BoolVar(&o.tls, "tls", false, "for clients that insist on TLS: with berth's local CA")
	must(cmd.RegisterFlagCompletionFunc("as", a.completeForms))
	return cmd
}

// completeForms completes the ways to write the address of the tunnel that is named
// already; all ways where none is, or it is not known.
func (a *app) completeForms(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	all := strings.Split(join(db.AllFormats), ", ")
	if len(args) == 0 {
		return all, noCompletions
	}
	t, err := a.tunnel(ctx, args[0])
	if err != nil {
		return all, noCompletions
	}
	k, err := commandsOf(t)
	if err != nil {
		return all, noCompletions
	}
	forms, err := k.forms(a, t)
	if err != nil {
		return all, noCompletions
	}
	return slices.DeleteFunc(all, func(name string) bool { _, has := forms[db.Format(name)]; return !has }), noCompletions
}
