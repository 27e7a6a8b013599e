// Command berth-demo runs a simulated Teleport cluster and an agent on this
// machine, so that berth can be tried without Teleport. It is not part of what
// is installed: see package demo.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"berth/agent/config"
	"berth/internal/demo"
	"berth/internal/demo/memsql"
)

const (
	session      = time.Minute
	checkSession = 15 * time.Second // the tour waits for a renewal
)

// The exit codes are berth's own.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// version is set at link time, as berth's is: "berth doctor" compares the two.
var version string

func main() {
	demo.ServeAsTSH()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	o, err := options(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage // flag has printed it
	}
	ctx, stop := signalContext()
	defer stop()
	err = demo.Run(ctx, o)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return exitInterrupted // whoever interrupted it needs no explanation
	}
	fmt.Fprintln(os.Stderr, "berth-demo:", err)
	if errors.Is(err, demo.ErrShortSession) {
		return exitUsage
	}
	return exitFailed
}

// options reads the command line.
func options(args []string) (demo.Options, error) {
	o := demo.Options{Out: os.Stdout, Lifeline: os.Stdin, Version: buildVersion(), NewEngine: newEngine, Policy: config.SystemPolicy()}
	flags := flag.NewFlagSet("berth-demo", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `Start a simulated Teleport cluster on this machine, log in to it, and run an
agent with four tunnels (Postgres, MySQL, Redis, Kubernetes) under temporary
folders, until Ctrl-C; then everything is removed. Sessions are short and are
renewed while you work, so you can see certificates change under an open
connection. Your own Teleport logins and berth config are not touched.

Usage:
  berth-demo [flags]

Flags:
`)
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.Check, "check", false, "take the tour without a person, and end with 0 or 1")
	flags.BoolVar(&o.ClusterOnly, "cluster-only", false,
		"run no agent: print the BERTH_HOME of a config for one, and end when standard input does")
	flags.BoolVar(&o.StandIns, "stand-ins", false, "use stand-ins even for databases that this machine has")
	flags.DurationVar(&o.SessionTTL, "session-ttl", session,
		fmt.Sprintf("how long a session of the simulated cluster lasts; with --check %s", checkSession))
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.Check && o.ClusterOnly {
		err := errors.New("the tour of --check needs the agent that --cluster-only leaves out")
		fmt.Fprintln(flags.Output(), "berth-demo:", err)
		return o, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("berth-demo takes no argument, got %q", flags.Arg(0))
		fmt.Fprintln(flags.Output(), "berth-demo:", err)
		return o, err
	}
	chosen := false
	flags.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "session-ttl" })
	if o.Check && !chosen {
		o.SessionTTL = checkSession
	}
	return o, nil
}

func newEngine(database string) (demo.Engine, error) {
	s, err := memsql.New(database)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// signalContext returns a context that ends at the first signal. A second one
// ends the program at once.
func signalContext() (context.Context, func()) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
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
