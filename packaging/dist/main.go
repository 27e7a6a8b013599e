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
	"errors"
	"flag"
	"fmt"
	"net/mail"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
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

	maintainer, homepage string
}

// placeholder stands for the maintainer where whoever builds the packages names
// none: packages must name one, and RFC 2606 keeps this address free.
const placeholder = "The berth maintainers <maintainers@berth.invalid>"

// wellFormed reports whether a maintainer is written as packages want it.
func wellFormed(maintainer string) bool {
	a, err := mail.ParseAddress(maintainer)
	return err == nil && a.Name != "" && !strings.ContainsAny(maintainer, "\r\n")
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	root := flags.String("root", "../..", "the folder of berth's source")
	maintainer := flags.String("maintainer", placeholder, "whom the packages name, as NAME <ADDRESS>")
	homepage := flags.String("homepage", "", "the address that the packages name; empty means none")
	out := flags.String("out", "", "where the results go (default: build/dist in the source)")
	only := flags.String("only", "", "build for these systems only, such as linux/amd64,windows/amd64")
	var p publication
	flags.StringVar(&p.tag, "release", "", "make a release of this version, such as v1.2.3: checks, signature, notes and manifests too")
	flags.StringVar(&p.keyFile, "minisign-key", "", "with -release: the file of the secret key that signs")
	flags.StringVar(&p.passwordFile, "minisign-password", "", "with -release: a file with the key's password, if it has one")
	flags.StringVar(&p.downloads, "downloads", "", "with -release: where the files will be (default: HOMEPAGE/releases/download/VERSION)")
	artefact := flags.String("verify", "", "build this file of a release once more, and compare")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *artefact != "" {
		return verify(ctx, *root, *artefact, *maintainer, *homepage)
	}
	r, err := newRelease(ctx, *root, *out, *only)
	if err != nil {
		return err
	}
	if r.maintainer, r.homepage = *maintainer, *homepage; !wellFormed(r.maintainer) {
		return fmt.Errorf("-maintainer %q: write it as NAME <ADDRESS>", r.maintainer)
	}
	if p.tag != "" {
		p.release = r
		if err := p.prepare(ctx); err != nil {
			return err
		}
	}
	begun := time.Now()
	if err := r.build(ctx); err != nil {
		return err
	}
	if p.tag != "" {
		if err := p.finish(); err != nil {
			return err
		}
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

// build does everything, from an empty folder: first everything that is
// compiled, then everything that is packed. Compiling takes nearly all of the
// time, and much of it is one large package at a time: two programs at once keep
// both of a small machine's cores busy.
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
	if err := r.compileAll(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, t := range r.targets {
		g.Go(func() error { return timed(t.String()+" packed", func() error { return r.pack(gctx, t) }) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.writeSums()
}

// atOnce is how many programs are built, and how many packed, at a time.
const atOnce = 2

// compileAll builds the program for every system, and what the packages need
// besides. The program for this machine is compiled after the program that
// writes their shared files: the two have nearly everything in common.
func (r *release) compileAll(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	shared := make(chan struct{})
	g.Go(func() error {
		defer close(shared)
		return timed("files for all", func() error { return errors.Join(r.commonFiles(gctx), r.buildNFPM(gctx)) })
	})
	own := target{runtime.GOOS, runtime.GOARCH}
	last := func(t target) int {
		if t == own {
			return 1
		}
		return 0
	}
	for _, t := range slices.SortedStableFunc(slices.Values(r.targets), func(a, b target) int { return last(a) - last(b) }) {
		g.Go(func() error {
			if t == own {
				<-shared
			}
			return timed(t.String()+" compiled", func() error { return r.compile(gctx, t) })
		})
	}
	return g.Wait()
}

// timed does a part of the work, and says how long it took.
func timed(what string, f func() error) error {
	begun := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Printf("dist: %s (%s)\n", what, time.Since(begun).Round(100*time.Millisecond))
	return nil
}

// pack packs the program of one system.
func (r *release) pack(ctx context.Context, t target) error {
	program := r.program(t)
	if err := r.writeSBOM(t, program); err != nil {
		return err
	}
	if err := r.writeArchive(t, program); err != nil {
		return err
	}
	switch t.os {
	case "linux":
		return r.writePackages(ctx, t, program)
	case "windows":
		return r.writeMSI(ctx, program)
	default:
		return nil
	}
}
