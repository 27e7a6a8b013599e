package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/internal/when"
)

func (a *app) execCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:     "exec [flags] NAME [-- COMMAND [ARG...]]",
		Aliases: []string{"connect"},
		Short:   "Run a client with a tunnel's environment",
		Long: `Run a client so that it connects to the tunnel, whatever your environment and your
option files say. Clients that obey variables get them: PGHOST, PGPORT, … for
Postgres, KUBECONFIG and its like for Kubernetes. Variables that would lead
elsewhere are removed; NO_PROXY keeps yours and gets this machine's addresses.
Clients that obey files or nothing get arguments right after their name: mysql and
its tools, redis-cli, mongosh, sqlcmd, and so on. What you add comes after those.

A program that berth does not know, a shell too, gets the variables and you get a
warning: it may obey none of them. Clients that it starts by their names are led to
the tunnel as if berth started them, except on Windows. A program that cannot be led
anywhere is not started. Without a command berth runs the usual client of the
protocol. The exit code is the client's own; 127 means that there is no such program,
126 that it cannot be run. If a login is needed, you are asked at a terminal whether
to log in first.`,
		Example: `  berth exec prod-pg
  berth exec prod-pg -- pg_dump --schema-only
  berth exec cache -- redis-cli --scan
  berth exec --quiet prod-pg -- ./my-program`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) >= 1 {
				return noneEmpty(cmd, args[:1], "NAME")
			}
			return wrongArgs(cmd, fmt.Sprintf("berth %s takes NAME and COMMAND", cmp.Or(cmd.CalledAs(), cmd.Name())), args)
		},
		ValidArgsFunction: a.completeExec,
		RunE: func(cmd *cobra.Command, args []string) error {
			argv, help, err := afterName(cmd, args[1:])
			switch {
			case err != nil:
				return err
			case help:
				return cmd.Help()
			default:
				return a.exec(cmd.Context(), args[0], argv, quiet)
			}
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "no warning about a program that berth does not know")
	cmd.Flags().SetInterspersed(false) // what follows NAME is the client's
	return cmd
}

// afterName takes berth's own flags from between NAME and the command, and the
// "--" before it.
func afterName(cmd *cobra.Command, args []string) (argv []string, help bool, err error) {
	n := slices.IndexFunc(args, func(arg string) bool { return arg == "--" || !strings.HasPrefix(arg, "-") })
	if n < 0 {
		n = len(args)
	}
	if err := cmd.Flags().Parse(args[:n]); err != nil {
		return nil, false, usageError{withHint(err, seeHelp(cmd))}
	}
	help, err = cmd.Flags().GetBool("help")
	argv = args[n:]
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	return argv, help, err
}

func (a *app) exec(ctx context.Context, name string, argv []string, quiet bool) error {
	t, err := a.tunnel(ctx, name)
	if err != nil {
		return err
	}
	if t.State == state.TunnelStopped {
		return stopped(t)
	}
	if t.State == state.TunnelWaitingForLogin && a.canAsk() {
		if t, err = a.offerLogin(ctx, t); err != nil {
			return err
		}
	}
	k, err := commandsOf(t)
	if err != nil {
		return err
	}
	if len(argv) > 0 && strings.HasPrefix(argv[0], "-") {
		program := "COMMAND"
		if usual, err := k.client(a, t); err == nil && len(usual) > 0 {
			program = usual[0]
		}
		return usageError{withHint(fmt.Errorf("the name of a program comes before %q", plain.Line(argv[0])),
			fmt.Sprintf("name it: berth exec %s -- %s %s …", t.Name, program, shell.Quote(argv[0])))}
	}
	return k.exec(ctx, a, t, argv, quiet)
}

// stopped says that no client reaches a tunnel, since it was stopped.
func stopped(t state.Tunnel) error {
	return withHint(fmt.Errorf("%s is stopped", t.Name), "berth up "+t.Name)
}

// offerLogin asks whether to log in before a client starts that would be held. It
// returns the tunnel as it is then.
func (a *app) offerLogin(ctx context.Context, t state.Tunnel) (state.Tunnel, error) {
	proxy, user := loginOf(t)
	if proxy == "" {
		return t, nil
	}
	question := fmt.Sprintf("%s is waiting for a login (%s) · log in now?", t.Name, when.SpanSeconds(t.HoldDuration()))
	agrees, err := a.confirmYes(ctx, question)
	if err != nil || !agrees { // no answer starts no client: it would run with the next login
		return t, err
	}
	err = a.withAgent(func(c *client.Client) error {
		err := a.logIn(ctx, c, client.LoginStart{Proxy: proxy, User: user}, &loginFront{app: a})
		if err != nil {
			return err
		}
		t, err = settled(ctx, c, t.Name)
		return err
	})
	return t, err
}

// loginOf is where to log in for a tunnel that waits, and as whom: its problem says
// so. An empty proxy means that berth does not know.
func loginOf(t state.Tunnel) (proxy, user string) {
	if t.Problem == nil {
		return "", ""
	}
	rest, ok := strings.CutPrefix(t.Problem.Action, "berth login ")
	if !ok || strings.HasPrefix(rest, "<") {
		return "", ""
	}
	for word := range strings.FieldsSeq(rest) {
		if name, ok := strings.CutPrefix(word, "--user="); ok {
			user = name
		} else if proxy == "" && !strings.HasPrefix(word, "-") {
			proxy = word
		}
	}
	return proxy, user
}

// warnUnknown says that a program may connect elsewhere, and so may clients that it
// calls as unled says.
func (a *app) warnUnknown(program string, t state.Tunnel, unled string) {
	fmt.Fprintf(a.err, "berth: warning: berth does not know how %q finds its server, so it may connect somewhere else, "+
		"and so does a client that it calls %s; tunnel %s is at %s (--quiet omits this)\n", plain.Line(program), unled, t.Name, t.Address)
}

// wrongClient refuses a program that would lead to a server of its own instead.
func wrongClient(program, of string, t state.Tunnel, leads string) error {
	err := fmt.Errorf("%q is a client of %s, and the tunnel leads to %s", program, of, leads)
	return usageError{withHint(err, fmt.Sprintf("see what the tunnel has with: berth tunnel url --json %s", t.Name))}
}

// The exit codes of shells for a program that cannot be started.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if notFound, ok := errors.AsType[*exec.Error](err); ok {
		err = notFound.Err // without the name, which is said already
	}
	return "", notStarted(name, err)
}

// notStarted is the end of a program that is not there, or that the system does
// not run.
func notStarted(name string, err error) error {
	code, hint := exitNotExecutable, "name a program"
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		code, hint = exitNotFound, "install it, or give its full path"
	case errors.Is(err, fs.ErrPermission):
		hint = "make it executable with: chmod +x " + shell.Quote(name)
	}
	return startError{withHint(fmt.Errorf("run %q: %w", name, err), hint), code}
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
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err // without the name, which is said already
		}
		return notStarted(child.Args[0], err)
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
