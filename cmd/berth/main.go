// Command berth keeps database and Kubernetes tunnels through Teleport on
// local addresses that never change.
//
// This package is the only place that wires the parts together: the agent and
// the commands, which are thin clients of the agent's control socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"berth/agent"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
)

// version is set at link time; empty means: see the build info.
var version string

// Exit codes: scripts depend on them.
const (
	exitFailed          = 1
	exitUsage           = 2
	exitAgentNotRunning = 3
	exitLoginNeeded     = 4
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv}
	code := app.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
}

// main runs the command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var child *exec.ExitError
	if errors.As(err, &child) {
		return child.ExitCode() // the program said for itself what was wrong
	}
	if !errors.Is(err, errSilent) {
		a.complain(err)
	}
	return exitCode(err)
}

// complain prints an error, and its next step where it has one.
func (a *app) complain(err error) {
	fmt.Fprintf(a.err, "berth: %v\n", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(a.err, "berth: hint: %s\n", hint)
	}
}

// errSilent is wrapped by errors that were told already.
var errSilent = errors.New("told already")

// usageError is a mistake in how a command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// hintError adds the next step to an error.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

func withHint(err error, hint string) error { return hintError{error: err, hint: hint} }

func hintOf(err error) string {
	var h hintError
	var rpc *client.Error
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.Is(err, client.ErrNotRunning):
		return `start it with "berth agent run"`
	case errors.As(err, &rpc):
		return rpc.Hint
	default:
		return ""
	}
}

func exitCode(err error) int {
	var usage usageError
	var rpc *client.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, client.ErrNotRunning):
		return exitAgentNotRunning
	case errors.Is(err, errLoginNeeded), errors.Is(err, client.ErrLoginNeeded):
		return exitLoginNeeded
	case errors.As(err, &rpc) && rpc.Code == ipc.CodeInvalid:
		return exitUsage
	default:
		return exitFailed
	}
}

var errLoginNeeded = errors.New("login needed")

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "berth",
		Short: "Teleport databases and Kubernetes clusters on local addresses that never change",
		Long: `berth keeps database and Kubernetes tunnels through Teleport on local addresses
that never change, whatever happens to certificates, networks, laptops or logins.

Without a command it shows the status of the running agent.`,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.status(cmd.Context(), statusOptions{})
			if errors.Is(err, client.ErrNotRunning) {
				return cmd.Help()
			}
			return err
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{withHint(err, fmt.Sprintf("see %q", cmd.CommandPath()+" --help"))}
	})
	root.AddCommand(
		a.statusCommand(), a.resourcesCommand(), a.tunnelCommand(), a.execCommand(),
		a.agentCommand(), a.configCommand(), a.demoCommand(), a.versionCommand(),
	)
	return root
}

// noArgs and exactArgs are cobra's checks with berth's exit code for usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{withHint(fmt.Errorf("unknown command or argument %q", args[0]),
		fmt.Sprintf("see %q", cmd.CommandPath()+" --help"))}
}

func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usageError{withHint(fmt.Errorf("%s takes %d argument(s), got %d", cmd.CommandPath(), len(names), len(args)),
			"usage: "+cmd.UseLine())}
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print berth's version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, "berth", buildVersion())
			return err
		},
	}
}

// buildVersion is the version set at link time, else the module's own.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// notRunning turns the lock's answer into words.
func notRunning(err error) error {
	var running *agent.AlreadyRunningError
	if errors.As(err, &running) {
		return withHint(err, `see "berth status"`)
	}
	return err
}
