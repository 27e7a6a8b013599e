package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"berth/internal/demo"
	"berth/proxies/db"
)

const (
	demoSession  = time.Minute
	checkSession = 15 * time.Second // nobody wants to look around
)

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{Out: a.out, Version: buildVersion(), Program: program()}
	cmd := &cobra.Command{
		Use:   "demo [flags]",
		Short: "Try berth against a simulated cluster on this machine",
		Long: `Start a simulated Teleport cluster on this machine, log in to it, and run an
agent with four tunnels (Postgres, MySQL, Redis, Kubernetes) under temporary folders, until
Ctrl-C; then everything is removed. Sessions last a minute and are renewed while
you work, so you can see certificates change under an open connection. Your own
Teleport logins and berth config are not touched.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Check && !cmd.Flags().Changed("session-ttl") {
				o.SessionTTL = checkSession
			}
			if o.SessionTTL < demo.MinSessionTTL {
				return usageError{withHint(fmt.Errorf("--session-ttl %s is too short", o.SessionTTL),
					fmt.Sprintf("use %s or more", demo.MinSessionTTL))}
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Check, "check", false, "take the tour without a person, and end with 0 or 1")
	cmd.Flags().DurationVar(&o.SessionTTL, "session-ttl", demoSession, "how long a session of the simulated cluster lasts")
	must(cmd.RegisterFlagCompletionFunc("session-ttl", cobra.NoFileCompletions))
	return cmd
}

// program is how another terminal calls this berth: by its name when a shell
// would find it, else by its path.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return "berth"
	}
	mine, err := os.Stat(self)
	if err != nil {
		return "berth"
	}
	if found, err := exec.LookPath("berth"); err == nil {
		if there, err := os.Stat(found); err == nil && os.SameFile(mine, there) {
			return "berth"
		}
	}
	return db.Quote([]string{self})
}
