//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/e2elab"
	"berth/internal/simcluster/faketsh"
)

// options say how to run.
type options struct {
	out     io.Writer
	seed    uint64
	length  time.Duration
	longest time.Duration // of a fault
	only    []string
	without []string
	overlap float64 // how probable it is that a fault overlaps another
	json    bool
	keep    bool   // the folder of the run
	real    bool   // whether the cluster is a real Teleport
	lab     string // the program that keeps that up
	berth   string // the program; empty means that it is built from here
	next    string // the same in another version
	inside  bool   // whether this is a namespace of the run's own
}

// insideVar says that the process runs in namespaces of its own.
const insideVar = "CHAOS_INSIDE"

func main() {
	if faketsh.Invoked(os.Args[0], nil) {
		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	code := start(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// start returns the exit code: 0, 1 when something was lost or wrong, 2 for a
// wrong command line.
func start(ctx context.Context, args []string) int {
	o, list, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 2
	case list:
		for _, f := range o.all() {
			fmt.Println(f.name + strings.Repeat(" ", max(1, 22-len(f.name))) + f.about)
		}
		return 0
	}
	o.inside = os.Getenv(insideVar) != ""
	if !o.inside {
		code, err := outside(ctx, o, args)
		if err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			return 1
		}
		return code
	}
	if err := enter(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: a namespace of its own is of no use here:", err)
		return notInside
	}
	return inside(ctx, o)
}

func inside(ctx context.Context, o options) int {
	r, err := run(ctx, o)
	if o.json {
		err = errors.Join(err, r.writeJSON(os.Stdout))
	} else {
		r.write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	if needless, wrong := r.bad(); needless+wrong+len(r.Failures) > 0 || ctx.Err() != nil {
		return 1
	}
	return 0
}

func parse(args []string) (o options, list bool, err error) {
	o.out = os.Stderr
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 20, "how long to run")
	only := flags.String("only", "", "make these faults alone, with commas between")
	without := flags.String("without", "", "do not make these faults")
	flags.BoolVar(&o.real, "real", false, "on a real Teleport, of the programs that "+e2elab.BinVar+" names")
	flags.StringVar(&o.lab, "lab", "", "the end-to-end tests, for -real; empty means those built from here")
	flags.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "repeat the order of the faults")
	flags.DurationVar(&o.longest, "longest", time.Minute, "no fault lasts longer")
	flags.Float64Var(&o.overlap, "overlap", 0.3, "how probable it is that another fault comes while one is there")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	flags.BoolVar(&o.keep, "keep", false, "keep the folder of the run, with the logs")
	flags.BoolVar(&list, "list", false, "list the faults and end")
	flags.StringVar(&o.berth, "berth", "", "the berth to run; empty means the one built from here")
	flags.StringVar(&o.next, "next", "", "another version of it, for upgrades; empty means the same")
	if err := flags.Parse(args); err != nil {
		return o, false, err
	}
	if flags.NArg() > 0 {
		return o, false, fmt.Errorf("there are no arguments, got %q", flags.Arg(0))
	}
	o.length = time.Duration(*minutes * float64(time.Minute))
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if *without != "" {
		o.without = strings.Split(*without, ",")
	}
	for _, name := range append(slices.Clone(o.only), o.without...) {
		if !slices.ContainsFunc(o.all(), func(f fault) bool { return f.name == name }) {
			return o, false, fmt.Errorf("there is no fault %q; -list lists them", name)
		}
	}
	return o, list, nil
}

// faults returns those that are wanted.
func (o options) faults() []fault {
	return slices.DeleteFunc(o.all(), func(f fault) bool {
		return o.only != nil && !slices.Contains(o.only, f.name) || slices.Contains(o.without, f.name)
	})
}

// all returns every fault of the cluster.
func (o options) all() []fault {
	if o.real {
		return realFaults()
	}
	return allFaults()
}

// has reports whether a program is installed.
func (o options) has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// outside builds berth, and runs this program again in namespaces of its own:
// there it may mount, change the network and bind any port. Where there are none
// to be had it runs in here.
func outside(ctx context.Context, o options, args []string) (code int, err error) {
	dir, err := os.MkdirTemp("", "chaos-build-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, p := range []struct {
		to      *string
		version string
	}{{&o.berth, "v0.0.1-chaos"}, {&o.next, "v0.0.2-chaos"}} {
		if *p.to != "" {
			continue
		}
		*p.to = filepath.Join(dir, "berth-"+p.version)
		build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-w -X main.version="+p.version, "-o", *p.to, "berth/cmd/berth")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build berth: %w\n%s", err, out)
		}
	}
	if o.real && o.lab == "" {
		o.lab = filepath.Join(dir, "lab.test")
		if err := e2elab.Build(ctx, o.lab); err != nil {
			return 0, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	args = append(args, "-berth="+o.berth, "-next="+o.next, "-lab="+o.lab, fmt.Sprintf("-seed=%d", o.seed))
	for _, attr := range namespaces() {
		cmd := exec.Command(self, args...) //nolint:noctx // it gets the terminal's Ctrl-C, or the signal below
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = attr
		cmd.Env = append(os.Environ(), insideVar+"=1")
		err := cmd.Start()
		if err != nil {
			continue
		}
		ended := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
		err = cmd.Wait()
		ended()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			if exit.ExitCode() == notInside {
				continue
			}
			return exit.ExitCode(), nil
		}
		return 0, err
	}
	fmt.Fprintln(os.Stderr, "chaos: no namespaces are to be had here: some faults cannot be made")
	return inside(ctx, o), nil
}
