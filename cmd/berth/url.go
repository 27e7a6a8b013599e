package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"berth/proxies/db"
)

type urlOptions struct {
	as     string // the format
	chosen bool   // by the person, not by default
	json   bool
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
A tunnel to a Kubernetes cluster has url, the API server's address, and env.`,
		Example: `  psql "$(berth tunnel url prod-pg)"
  eval "$(berth tunnel url prod-pg --as env)"
  berth tunnel url prod-pg --as pgservice >> ~/.pg_service.conf`,
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
			return k.printURL(a, t, o)
		},
	}
	cmd.Flags().StringVar(&o.as, "as", string(db.URL), "the format: "+join(db.AllFormats))
	cmd.Flags().BoolVar(&o.json, "json", false, "print every format the protocol has as JSON")
	must(cmd.RegisterFlagCompletionFunc("as",
		cobra.FixedCompletions(strings.Split(join(db.AllFormats), ", "), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}
