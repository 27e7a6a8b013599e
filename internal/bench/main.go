// Command bench measures the budgets of docs/BENCHMARKS.md and prints them as
// one table: what, measured, budget, met or not.
//
// It promises figures of the real thing: the agent is the berth binary in a
// process of its own, with memory and CPU of its own; a simulated Teleport
// cluster and the clients share the runner's process. What is compared (a
// tunnel with the same stream without it) is measured in turns within one run,
// because machines are noisy, and a figure is the median of several rounds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"berth/internal/e2elab"
	"berth/internal/simcluster/faketsh"
	"berth/internal/wake"
)

func main() {
	if faketsh.Invoked(os.Args[0], os.Environ()) { // run as the tsh of the simulated cluster
		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	if os.Getenv(bareEnv) != "" { // run as a proxy to compare with
		if err := runBare(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	berth    string
	only     []string
	write    string
	quick    bool
	patience time.Duration
}

// A measure is one group of figures.
type measure struct {
	name  string
	about string
	run   func(*bench, context.Context) error
}

func measures() []measure {
	return []measure{
		{"growth", "agents with 1 to 2,000 tunnels", (*bench).growth},
		{"stream", "bytes through a tunnel, against the same stream without it", (*bench).stream},
		{"peers", "the same stream through haproxy and stunnel", (*bench).peers},
		{"connect", "what a new connection costs", (*bench).connect},
		{"open", "memory of open connections", (*bench).open},
		{"swap", "from a new login to its cert in use", (*bench).swap},
		{"wake", "the first answer after a sleep", (*bench).wake},
		{"kube", "requests to Kubernetes, and kubectl", (*bench).kube},
		{"tray", "memory and CPU of the tray, left alone and talked at", (*bench).tray},
		{"patterns", "three ways to talk to Teleport, on a real cluster if there is one (see " + e2elab.BinVar + ")", (*bench).patterns},
		{"far", "against tsh, with a real cluster far away (see " + e2elab.BinVar + ")", (*bench).far},
		{"real", "against tsh, on a real cluster (see " + e2elab.BinVar + ")", (*bench).real},
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.berth, "berth", "bin/berth", "the berth `binary` to measure")
	fs.StringVar(&only, "only", "", "measure these `groups` only, by comma: "+strings.Join(names(), ", "))
	fs.BoolVar(&o.quick, "quick", false, "fewer and shorter rounds: to see that it works, not for figures")
	fs.StringVar(&o.write, "write", "", "also put the table between the marks in this `file`: those of a full run, or of what -only says")
	fs.DurationVar(&o.patience, "patience", 30*time.Second, "how long to wait, in each group, for other programs to be quiet")
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	if fs.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	for name := range strings.SplitSeq(only, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(names(), name) {
			return options{}, fmt.Errorf("-only %s: there is no such group, only %s", name, strings.Join(names(), ", "))
		}
		o.only = append(o.only, name)
	}
	if o.write != "" && o.quick {
		return options{}, errors.New("-write is for figures: leave out -quick")
	}
	return o, nil
}

func names() []string {
	var all []string
	for _, m := range measures() {
		all = append(all, m.name)
	}
	return all
}

// bench is one run.
type bench struct {
	options
	*world
	stderr io.Writer
	began  time.Time
	load   loadMeter
	rows   []row    // measured so far
	tables []string // what groups show in a form of their own
	curves map[string]curve

	patienceLeft time.Duration // of the group that is measured
	restless     int           // rounds of it that others disturbed
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	b := &bench{options: o, stderr: stderr, began: time.Now(), curves: make(map[string]curve)}
	if err := b.load.start(ctx); err != nil {
		return err
	}
	if b.world, err = newWorld(ctx, o.berth, &b.load); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	if err := b.measureAll(ctx); err != nil {
		return err
	}
	report, err := b.report(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, report); err != nil {
		return err
	}
	if o.write == "" {
		return nil
	}
	return errors.Join(rewrite(o.write, strings.Join(o.only, ","), report), b.drawCurves(o.write))
}

// measureAll runs the chosen groups. A group that fails does not keep the others
// from being seen, but the run has failed.
func (b *bench) measureAll(ctx context.Context) error {
	var errs []error
	for _, m := range measures() {
		if len(b.only) > 0 && !slices.Contains(b.only, m.name) {
			continue
		}
		b.say("%s: %s", m.name, m.about)
		b.patienceLeft, b.restless = b.patience, 0
		if err := m.run(b, ctx); err != nil {
			err = fmt.Errorf("measure %s: %w", m.name, err)
			b.say("%v", err)
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if b.restless > 0 {
			b.say("  other programs disturbed %d rounds of this", b.restless)
		}
	}
	return errors.Join(errs...)
}

// add puts rows into the table, and shows them.
func (b *bench) add(rows ...row) {
	for _, r := range rows {
		b.say("  %s: %s", r.what, r.measured)
	}
	b.rows = append(b.rows, rows...)
}

// say prints progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.stderr, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// times is a number of rounds: fewer when it need only be quick.
func (b *bench) times(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// span is a duration: shorter when it need only be quick.
func (b *bench) span(full, quick time.Duration) time.Duration {
	if b.quick {
		return quick
	}
	return full
}

// pause waits for d; its error is why it could not.
func pause(ctx context.Context, d time.Duration) error {
	if !wake.Sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}
