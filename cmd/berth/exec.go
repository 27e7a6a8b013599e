package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func (a *app) execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec NAME [-- COMMAND [ARG...]]",
		Short: "Run a client with a tunnel's environment",
		Long: `Run a client with what it looks at to find its server: PGHOST, PGPORT, … for
Postgres; MYSQL_HOST, … and an option file for MySQL; REDIS_URL, MONGODB_URI, …
for libraries. redis-cli and mongosh look at nothing: they get arguments. For a
Kubernetes cluster it is KUBECONFIG, a file whose current context is the tunnel's.

Without a command it runs the usual client of the protocol. The exit code is the
client's own.`,
		Example: `  berth exec prod-pg
  berth exec prod-pg -- pg_dump --schema-only
  berth exec cache -- redis-cli --scan`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) >= 1 {
				return nil
			}
			return wrongArgs(cmd, "berth exec takes NAME and COMMAND", args)
		},
		ValidArgsFunction: a.completeExec,
		RunE: func(cmd *cobra.Command, args []string) error {
			argv := args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			return a.exec(cmd.Context(), args[0], argv)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows NAME is the client's
	return cmd
}

func (a *app) exec(ctx context.Context, name string, argv []string) error {
	t, err := a.tunnel(ctx, name)
	if err != nil {
		return err
	}
	k, err := commandsOf(t)
	if err != nil {
		return err
	}
	return k.exec(ctx, a, t, argv)
}

func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if notFound, ok := errors.AsType[*exec.Error](err); ok {
			err = notFound.Err // without the name, which is said already
		}
		return "", withHint(fmt.Errorf("run %q: %w", name, err), "install it, or give its full path")
	}
	return path, nil
}

// runClient runs a client in the place of berth.
func (a *app) runClient(ctx context.Context, path string, argv, env []string) error {
	// Ctrl-C reaches the client through the terminal; the client decides what
	// that means, so it is not killed with ctx.
	child := exec.CommandContext(context.WithoutCancel(ctx), path, argv[1:]...)
	child.Args[0] = argv[0]
	child.Env = env
	child.Stdin, child.Stdout, child.Stderr = a.in, a.out, a.err
	return runChild(child)
}

// runChild runs a client to its end, and passes on the signals that berth gets
// meanwhile.
func runChild(child *exec.Cmd) error {
	// Registered before the start, and until the end: a second Ctrl-C is the
	// client's affair too.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return fmt.Errorf("run %q: %w", child.Args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGINT { // that one it got from the terminal
				_ = child.Process.Signal(s) // it may have ended just now
			}
		case err := <-ended:
			return childEnd(child.Args[0], err)
		}
	}
}

// childEnd turns the end of a client into that of berth.
func childEnd(name string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("run %q: %w", name, err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return childError{code: 128 + int(status.Signal())}
	}
	return childError{code: exit.ExitCode()}
}

// without returns the environment without the named variables: a client would
// obey them rather than the tunnel's.
func without(env, names []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(names, name)
	})
}
