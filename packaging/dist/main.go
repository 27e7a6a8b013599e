// Command dist builds what users install: packages for four families of Linux
// distributions, archives for every system, an installer for Windows, their
// checksums and a bill of materials for each program.
//
// It promises that the same commit gives the same bytes, wherever and whenever
// it is built; only the MSI holds a time and a code of its own making, so there
// the contents are the same. It is a module of its own: what it needs to pack
// is nothing berth should depend on.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// targets are the systems a release is for.
var targets = []target{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"},
}

// target is a system and a kind of machine.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "/" + t.arch }

// release is one run.
type release struct {
	root    string // the source
	out     string // what users get
	work    string // what they do not
	version version
	epoch   time.Time // the time of everything in it
	targets []target
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	root := flags.String("root", "../..", "the folder of berth's source")
	out := flags.String("out", "", "where the results go (default: build/dist in the source)")
	only := flags.String("only", "", "build for these systems only, such as linux/amd64,windows/amd64")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r, err := newRelease(ctx, *root, *out, *only)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := r.build(ctx); err != nil {
		return err
	}
	fmt.Printf("dist: berth %s is in %s (%s)\n", r.version.semver(), r.out, time.Since(begun).Round(time.Second))
	return nil
}

func newRelease(ctx context.Context, root, out, only string) (*release, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if out == "" {
		out = filepath.Join(root, "build", "dist")
	}
	if out, err = filepath.Abs(out); err != nil {
		return nil, err
	}
	r := &release{root: root, out: out, work: out + ".work", targets: targets}
	if only != "" {
		if r.targets, err = chosen(only); err != nil {
			return nil, err
		}
	}
	if r.version, r.epoch, err = sourceVersion(ctx, root, os.Getenv); err != nil {
		return nil, err
	}
	return r, nil
}

func chosen(only string) (list []target, err error) {
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, t := range targets {
			if t.String() == name {
				list, found = append(list, t), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no target %q: there are %v", name, targets)
		}
	}
	return list, nil
}

// build does everything, from an empty folder.
func (r *release) build(ctx context.Context) error {
	for _, dir := range []string{r.out, r.work} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(r.work)
	if err := r.commonFiles(ctx); err != nil {
		return err
	}
	for _, t := range r.targets {
		begun := time.Now()
		if err := r.buildTarget(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		fmt.Printf("dist: %s (%s)\n", t, time.Since(begun).Round(100*time.Millisecond))
	}
	return r.writeSums()
}

// buildTarget builds the program for one system and packs it.
func (r *release) buildTarget(ctx context.Context, t target) error {
	program, err := r.compile(ctx, t)
	if err != nil {
		return err
	}
	notices, err := r.writeNotices(ctx, t)
	if err != nil {
		return err
	}
	if err := r.writeSBOM(t, program); err != nil {
		return err
	}
	if err := r.writeArchive(t, program, notices); err != nil {
		return err
	}
	switch t.os {
	case "linux":
		return r.writePackages(ctx, t, program, notices)
	case "windows":
		return r.writeMSI(ctx, program, notices)
	default:
		return nil
	}
}
