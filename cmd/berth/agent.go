package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"berth/agent"
	"berth/internal/logfile"
	"berth/internal/paths"
)

// agentGrace is how long open connections may go on after SIGTERM.
const agentGrace = 5 * time.Second

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent that owns the tunnels",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var level string
	var quiet bool
	grace := agentGrace
	run := &cobra.Command{
		Use:   "run",
		Short: "Run the agent in the foreground",
		Long: `Run the agent in the foreground: it binds every tunnel's port, follows the
Teleport homes and serves the other commands, until it is told to stop. It logs
to its log file, and to this terminal.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runAgent(cmd.Context(), level, quiet, grace)
		},
	}
	run.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	run.Flags().BoolVar(&quiet, "quiet", false, "log to the file only")
	run.Flags().DurationVar(&grace, "grace", agentGrace, "how long open connections may go on when the agent stops")
	must(run.RegisterFlagCompletionFunc("log-level",
		cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.AddCommand(run)
	return cmd
}

func (a *app) runAgent(ctx context.Context, level string, quiet bool, grace time.Duration) error {
	var lvl slog.Level
	if err := lvl.UnmarshalText([]byte(level)); err != nil {
		return usageError{fmt.Errorf("--log-level %q: use debug, info, warn or error", level)}
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if err := p.MakeDirs(); err != nil {
		return err
	}
	console := a.err
	if quiet {
		console = nil
	}
	log, closeLog := logfile.New(p.LogFile, lvl, console)
	defer closeLog()
	// The api client logs through the default logger; its lines belong into
	// berth's log, and only when somebody debugs.
	slog.SetDefault(slog.New(logfile.Demote(log.Handler())))
	return notRunning(agent.Run(ctx, agent.Options{
		Paths: p, Version: buildVersion(), Logger: log, Grace: grace,
		Ready: func() { notifyReady(os.Getenv("NOTIFY_SOCKET")) },
	}))
}
