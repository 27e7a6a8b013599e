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
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/term"

	"berth/agent/config"
	"berth/internal/when"
)

func main() {
	when.UseZone(os.LookupEnv)
	ctx, stop := signalContext(context.Background())
	app := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, policy: machinePolicy()}
	app.terminal = isTerminal(os.Stdout)
	app.color = app.terminal && wantsColor(os.Getenv, runtime.GOOS)
	if app.terminal {
		app.size = terminalSize
	}
	code := app.main(ctx, appArgs(os.Args[1:], os.Getenv(appVar)))
	stop()
	os.Exit(code)
}

// appVar is set by the application bundle of macOS, whose programs get no
// arguments: see packaging/dist.
const appVar = "BERTH_APP"

// appArgs are the arguments of a program that was started with these, maybe as an
// application, which is the tray.
func appArgs(args []string, app string) []string {
	if app != "tray" {
		return args
	}
	// What the tray starts is no application.
	_ = os.Unsetenv(appVar) // it cannot fail for a valid name
	if len(args) > 0 {
		return args
	}
	return []string{"tray", "--quiet"}
}

// machinePolicy is where this machine's policy is. Tests of the whole program have
// one of their own.
var machinePolicy = config.SystemPolicy

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	policy   config.PolicyFile
	terminal bool                       // out is a terminal
	color    bool                       // out shows colours
	size     func() (columns, rows int) // of the terminal that out is; nil when it is none
	args     []string
	unknown  error // that help was asked for of a command there is not
}

// main runs the command line and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	a.args = args
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.unknown
	}
	var sig signalError
	if errors.As(context.Cause(ctx), &sig) && (errors.Is(err, context.Canceled) || errors.Is(err, sig)) {
		return 128 + int(sig.Signal) // whoever sent the signal needs no explanation
	}
	if err != nil && !errors.Is(err, errSilent) {
		a.complain(err)
	}
	return exitCode(err)
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.Signal) }

// signalContext returns a context that ends at the first SIGINT, SIGTERM or,
// when the terminal closes and nohup did not say otherwise, SIGHUP. A
// second one does what it does to any program: a person who presses Ctrl-C
// twice does not want to wait for connections to drain.
func signalContext(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		var cause error
		select {
		case <-ctx.Done():
		case s := <-signals:
			if s, ok := s.(syscall.Signal); ok {
				cause = signalError{s}
			}
		}
		signal.Stop(signals) // before anything shows that the first one came: whoever sees that may send the second
		cancel(cause)
	}()
	return ctx, func() { cancel(nil) }
}

// isTerminal reports whether f is a terminal, or at least no file or pipe.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// terminalSize is the size of the terminal that standard output is; zero where the
// system does not say.
func terminalSize() (columns, rows int) {
	columns, rows, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}

// wantsColor follows no-color.org. Windows consoles are left alone, since the
// older of them would print the codes.
func wantsColor(env func(string) string, goos string) bool {
	return env("NO_COLOR") == "" && env("TERM") != "dumb" && goos != "windows"
}
