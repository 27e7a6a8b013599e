package main

import (
	"time"

	"github.com/spf13/cobra"

	"berth/internal/demo"
)

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{Out: a.out, Version: buildVersion()}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try berth against a simulated cluster on this machine",
		Long: `Start a simulated Teleport cluster on this machine, log in to it, and run an
agent with three tunnels (Postgres, MySQL, Redis) under temporary folders, until
Ctrl-C; then everything is removed. Sessions last a minute and are renewed while
you work, so you can see certificates change under an open connection. Your own
Teleport logins and berth config are not touched.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return demo.Run(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.Check, "check", false, "take the tour without a person, and end with 0 or 1")
	cmd.Flags().DurationVar(&o.SessionTTL, "session-ttl", time.Minute, "how long a session of the simulated cluster lasts")
	return cmd
}
