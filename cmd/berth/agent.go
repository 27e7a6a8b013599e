package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"berth/agent"
	"berth/agent/handover"
	"berth/agent/process"
	"berth/internal/lean"
	"berth/internal/logfile"
	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/internal/sdnotify"
)

// agentGrace is how long open connections may go on after SIGTERM.
const agentGrace = 5 * time.Second

type agentOptions struct {
	level string
	quiet bool
	grace time.Duration
}

func (a *app) agentCommand() *cobra.Command {
	return commandGroup("agent", "Install and run the agent that owns the tunnels",
		a.agentInstallCommand(), a.agentUninstallCommand(), a.agentStartCommand(), a.agentStopCommand(), a.agentRestartCommand(),
		a.agentStatusCommand(), a.agentLogsCommand(), a.agentRunCommand())
}

func (a *app) agentRunCommand() *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use:   "run [flags]",
		Short: "Run the agent in the foreground",
		Long: `Run the agent in the foreground: it binds every tunnel's port, follows the
Teleport homes and serves the other commands, until it is stopped by Ctrl-C
or SIGTERM. It logs to its log file and to this terminal.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runAgent(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.level, "log-level", "", "debug, info, warn or error (default: the config's, else info)")
	f.BoolVar(&o.quiet, "quiet", false, "log to the file only")
	f.DurationVar(&o.grace, "grace", agentGrace, "how long open connections may go on when the agent stops")
	must(cmd.RegisterFlagCompletionFunc("log-level",
		cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("grace", cobra.NoFileCompletions))
	return cmd
}

func (a *app) runAgent(ctx context.Context, o agentOptions) error {
	if a.env("GOGC") == "" {
		// The agent allocates little and lives for weeks: a heap collected at
		// half its growth keeps it 2 MB smaller with fifty tunnels, at no
		// cost that "make bench" could measure.
		debug.SetGCPercent(50)
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	level, follow, err := logLevel(o.level)
	if err != nil {
		return err
	}
	_ = p.MakeFileDirs() // for the log; the agent says what it lacks
	var console io.Writer
	if !o.quiet {
		console = a.err
	} else {
		leaveConsole()
	}
	size := new(logfile.Size)
	log, closeLog := logfile.New(p.LogFile, level, size, console)
	defer closeLog()
	// The api client logs through the default logger; its lines belong into
	// berth's log, and only at level debug.
	slog.SetDefault(slog.New(logfile.Demote(log.Handler())))
	manager := sdnotify.FromEnv()
	succession, err := a.succession(manager)
	if err != nil {
		return err
	}
	return notRunning(agent.Run(ctx, agent.Options{
		Paths: p, Policy: a.policy, Version: buildVersion(), Logger: log, LogLevel: follow, LogSize: size, Grace: o.grace,
		Succession: succession, Manager: manager, Kept: sdnotify.Kept(),
		Ready: func() {
			_ = manager.Send("READY=1", "STATUS=Ports bound") // a manager that no longer listens reports that itself
			lean.AfterStart(trimAfter, func(err error) {
				log.Debug("memory that is not needed is not given back", "err", err)
			})
		},
	}))
}

// trimAfter is when, from the binding of its ports on, a program gives back what
// its start needed: the agent reads homes, connects and fetches certs mostly within
// a second, with thousands of tunnels later; the window's page loads.
var trimAfter = []time.Duration{time.Second, 3 * time.Second, 15 * time.Second, time.Minute}

// succession says how the agent passes its work on: to a process started as this
// one was, whatever file is at its path then.
func (a *app) succession(manager *sdnotify.Manager) (agent.Succession, error) {
	program, err := ownProgram()
	if err != nil {
		return agent.Succession{}, err
	}
	line, err := handover.FromEnv()
	if err != nil {
		return agent.Succession{}, err
	}
	return agent.Succession{
		Program: program, Args: os.Args[1:], Line: line, Asked: restartSignal(),
		// systemd follows the main process that it knows of. Whatever else has
		// started this process, a terminal or launchd, watches it alone.
		Stays: line == nil && manager.Socket() == "" && a.env(osservice.DetachedVar) == "",
	}, nil
}

// logLevel is the level of the agent's log: the flag's, for as long as it runs,
// else a level that follows the config.
func logLevel(flag string) (level slog.Leveler, follow *slog.LevelVar, err error) {
	if flag == "" {
		follow = new(slog.LevelVar)
		return follow, follow, nil
	}
	var fixed slog.Level
	if err := fixed.UnmarshalText([]byte(flag)); err != nil {
		return nil, nil, usageError{withHint(fmt.Errorf("no log level %q", flag), "use debug, info, warn or error")}
	}
	return fixed, nil, nil
}

// notRunning gives the lock's answer its next step.
func notRunning(err error) error {
	if _, ok := errors.AsType[*process.AlreadyRunningError](err); ok {
		return withHint(err, `see "berth status"`)
	}
	return err
}
