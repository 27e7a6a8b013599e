package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/internal/e2elab"
	"berth/internal/patterns"
	"berth/internal/patterns/direct"
	"berth/internal/patterns/sdk"
	"berth/internal/patterns/tsh"
	"berth/internal/simcluster"
)

const (
	// manyDatabases is how many the cluster has that is listed.
	manyDatabases = 500
	// pollEvery is how often the pattern that cannot watch asks.
	pollEvery = 5 * time.Second
)

// pattern is one way to talk to Teleport, and what was measured of it.
type pattern struct {
	name     string
	features patterns.Features
	codes    string // what it can do for per-session MFA, in words

	program  string // its path
	size     int64
	packages int
	lines    lines

	first, list, latency []time.Duration
	idle                 unused
}

// patterns compares the three in turns, or at the same time.
func (b *bench) patterns(ctx context.Context) (err error) {
	all := []*pattern{
		{name: "tsh", features: tsh.Features, codes: "all kinds, on a terminal alone"},
		{name: "sdk", features: sdk.Features, codes: "one-time codes"},
		{name: "direct", features: direct.Features, codes: "one-time codes"},
	}
	for _, p := range all {
		if err := b.buildPattern(ctx, p); err != nil {
			return err
		}
	}
	at, err := b.patternsPlace(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.close()) }()
	if err := at.awaitDatabases(ctx); err != nil {
		return err
	}
	for round := range b.times(9, 1) {
		for i := range all {
			if err := b.patternStart(ctx, all[(i+round)%len(all)], at); err != nil {
				return err
			}
		}
	}
	if err := b.patternsWatch(ctx, all, at); err != nil {
		return err
	}
	peak, err := at.tshPeak(ctx)
	if err != nil {
		return err
	}
	info, err := os.Stat(at.tsh) // of the stand-in, its program
	if err != nil {
		return err
	}
	b.tables = append(b.tables, patternsTable(all, at.name, info.Size(), peak, b.span(time.Minute, 5*time.Second)))
	return nil
}

// buildPattern builds a pattern's program, and measures what that is made of.
func (b *bench) buildPattern(ctx context.Context, p *pattern) error {
	const in = "berth/internal/patterns/"
	p.program = filepath.Join(b.dir, "pattern-"+p.name)
	pkg := in + "cmd/" + p.name
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", p.program, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	info, err := os.Stat(p.program)
	if err != nil {
		return err
	}
	p.size = info.Size()
	p.packages, p.lines, err = linked(ctx, pkg, in+p.name)
	return err
}

// lines are those of Go's files, tests apart, and of .proto files.
type lines struct {
	own       int // of the pattern's package, and of .proto files written by hand beneath it
	generated int // of those beneath it that protoc made
	beneath   int // of berth's other packages that it links
}

// linked returns how many packages outside of Go's library a program links, and
// what of berth is in them.
func linked(ctx context.Context, program, pkg string) (packages int, of lines, err error) {
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-f",
		`{{if not .Standard}}{{.ImportPath}} {{.Dir}}{{range .GoFiles}} {{.}}{{end}}{{end}}`, program)
	out, err := list.Output()
	if err != nil {
		return 0, of, fmt.Errorf("go list %s: %w", program, err)
	}
	for text := range strings.Lines(string(out)) {
		fields := strings.Fields(text)
		packages++
		path := fields[0]
		if !strings.HasPrefix(path, "berth/") || path == program || path == "berth/internal/patterns" {
			continue
		}
		names := fields[2:]
		if path == pkg || strings.HasPrefix(path, pkg+"/") {
			protos, err := filepath.Glob(filepath.Join(fields[1], "*.proto"))
			if err != nil {
				return 0, of, err
			}
			for _, proto := range protos {
				names = append(names, filepath.Base(proto))
			}
		}
		for _, name := range names {
			src, err := os.ReadFile(filepath.Join(fields[1], name))
			if err != nil {
				return 0, of, err
			}
			n := bytes.Count(src, []byte("\n"))
			switch {
			case strings.HasSuffix(name, ".pb.go"):
				of.generated += n
			case path == pkg, strings.HasSuffix(name, ".proto"):
				of.own += n
			default:
				of.beneath += n
			}
		}
	}
	return packages, of, nil
}

// place is the cluster that is asked.
type place struct {
	name              string
	home, caFile, tsh string
	asker, decider    *cluster.Cluster
	role              string
	close             func() error
}

// patternsPlace starts a real cluster, or a simulated one where there is no
// Teleport.
func (b *bench) patternsPlace(ctx context.Context) (*place, error) {
	if os.Getenv(e2elab.BinVar) == "" {
		return b.simulatedPlace(ctx)
	}
	l, err := b.startLab(ctx, "TestPatternsLab")
	if err != nil {
		return nil, err
	}
	at := &place{
		name: "Teleport " + l.Version + " on the same machine", home: l.Home, caFile: l.CAFile, tsh: l.TSH, role: l.Role, close: l.close,
	}
	return at, at.connect(ctx, l.Cluster, l.Decider)
}

func (b *bench) simulatedPlace(ctx context.Context) (*place, error) {
	cfg := simcluster.Config{
		Users: []simcluster.User{{Name: user}, {Name: "decider", Roles: []string{"decider"}}},
		Roles: []simcluster.Role{
			{Name: "access", Request: simcluster.RequestRules{Roles: []string{"dba"}}}, {Name: "dba"},
			{Name: "decider", RequestVerbs: []string{"list", "read", "update"}},
		},
	}
	for i := range manyDatabases {
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: fmt.Sprintf("db-%03d", i), Protocol: protocol})
	}
	sim, err := simcluster.Start(cfg)
	if err != nil {
		return nil, err
	}
	at := &place{
		name: "a simulated cluster, whose tsh is a stand-in", role: "dba", close: sim.Close,
		home: filepath.Join(b.dir, "patterns-home"), caFile: filepath.Join(b.dir, "patterns-ca.pem"),
	}
	decider := filepath.Join(b.dir, "patterns-decider")
	at.tsh, err = b.fakeTSH()
	err = errors.Join(err, sim.WriteWebCA(at.caFile), sim.Login(at.home, user), sim.Login(decider, "decider"))
	if err == nil {
		err = at.connect(ctx, sim.Name(), decider)
	}
	if err != nil {
		return nil, errors.Join(err, sim.Close())
	}
	return at, nil
}

// connect connects as the one who asks and as the one who decides.
func (at *place) connect(ctx context.Context, clusterName, decider string) error {
	end := at.close
	at.close = func() error {
		var errs []error
		for _, c := range []*cluster.Cluster{at.asker, at.decider} {
			if c != nil {
				errs = append(errs, c.Close())
			}
		}
		return errors.Join(append(errs, end())...)
	}
	for home, to := range map[string]**cluster.Cluster{at.home: &at.asker, decider: &at.decider} {
		p, err := loadProfile(ctx, home, clusterName)
		if err != nil {
			return errors.Join(err, at.close())
		}
		if *to, err = cluster.New(cluster.Config{Profile: p, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			return errors.Join(err, at.close())
		}
	}
	return nil
}

// awaitDatabases waits until all are listed: a real cluster's announce themselves
// one by one.
func (at *place) awaitDatabases(ctx context.Context) error {
	for began := time.Now(); ; {
		list, err := at.asker.Databases(ctx, at.asker.Root())
		if err != nil || len(list) == manyDatabases {
			return err
		}
		if time.Since(began) > 3*time.Minute {
			return fmt.Errorf("the cluster lists %d databases, want %d", len(list), manyDatabases)
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
}

// tshPeak is the most memory of one tsh that lists the databases.
func (at *place) tshPeak(ctx context.Context) (int64, error) {
	cmd := exec.CommandContext(ctx, at.tsh, "db", "ls", "--format=json")
	cmd.Env = append(os.Environ(), "TELEPORT_HOME="+at.home, "TELEPORT_TOOLS_VERSION=off", "SSL_CERT_FILE="+at.caFile)
	if _, err := cmd.Output(); err != nil {
		return 0, fmt.Errorf("tsh db ls: %w", err)
	}
	return peakOf(cmd.ProcessState), nil
}

// patternStart starts a program, has it answer and list, and ends it.
func (b *bench) patternStart(ctx context.Context, p *pattern, at *place) (err error) {
	if err := b.calm(ctx); err != nil {
		return err
	}
	began := time.Now()
	s, err := b.runPattern(ctx, p, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.ask(ctx, "ping", "pong"); err != nil {
		return err
	}
	p.first = append(p.first, time.Since(began))
	began = time.Now()
	if err := s.ask(ctx, "databases", fmt.Sprint("databases ", manyDatabases)); err != nil {
		return err
	}
	p.list = append(p.list, time.Since(began))
	return nil
}

// patternsWatch has all watch at once: first changes, then a minute without any.
func (b *bench) patternsWatch(ctx context.Context, all []*pattern, at *place) (err error) {
	var run []*speaker
	defer func() {
		for _, s := range run {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, p := range all {
		s, err := b.runPattern(ctx, p, at)
		if err != nil {
			return err
		}
		run = append(run, s)
		if err := s.say("watch"); err != nil {
			return err
		}
	}
	for range b.times(8, 1) {
		took, err := at.approval(ctx, run)
		if err != nil {
			return err
		}
		for i, p := range all {
			p.latency = append(p.latency, took[i])
		}
	}
	if err := pause(ctx, b.span(20*time.Second, time.Second)); err != nil { // the garbage of before goes
		return err
	}
	return b.patternsIdle(ctx, all, run)
}

// approval has a request approved, and returns after which time each has said so.
func (at *place) approval(ctx context.Context, run []*speaker) ([]time.Duration, error) {
	r, err := at.asker.CreateRequest(ctx, cluster.NewRequest{Roles: []string{at.role}, Reason: "patterns"})
	if err != nil {
		return nil, err
	}
	id := r.GetName()
	for _, s := range run {
		if _, err := s.hear(ctx, "request "+id+" pending"); err != nil {
			return nil, err
		}
	}
	// At any moment between two questions of the one that polls.
	if err := pause(ctx, rand.N(pollEvery)); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := at.decider.Decide(ctx, id, cluster.Decision{Approve: true}); err != nil {
		return nil, err
	}
	var took []time.Duration
	for _, s := range run {
		heard, err := s.hear(ctx, "request "+id+" approved")
		if err != nil {
			return nil, err
		}
		took = append(took, heard.Sub(began))
	}
	return took, nil
}

// patternsIdle measures what they take while nothing happens.
func (b *bench) patternsIdle(ctx context.Context, all []*pattern, run []*speaker) error {
	used := func() ([]time.Duration, error) {
		return collect(len(run), func(i int) (time.Duration, error) {
			own, err := cpuOf(run[i].pid())
			children, childErr := childrenCPU(run[i].pid())
			return own + children, errors.Join(err, childErr)
		})
	}
	began := time.Now()
	before, err := used()
	if err != nil {
		return err
	}
	if err := pause(ctx, b.span(time.Minute, 5*time.Second)); err != nil {
		return err
	}
	after, err := used()
	if err != nil {
		return err
	}
	for i, p := range all {
		p.idle.core = (after[i] - before[i]).Seconds() / time.Since(began).Seconds()
		if p.idle.memory, err = memoryOf(run[i].pid()); err != nil {
			return err
		}
	}
	return nil
}

// patternsTable is the figures as Markdown, a column for each pattern.
func patternsTable(all []*pattern, where string, tshSize, tshPeak int64, idle time.Duration) string {
	var out strings.Builder
	line := func(what string, of func(*pattern) string) {
		fmt.Fprintf(&out, "| %s |", what)
		for _, p := range all {
			fmt.Fprintf(&out, " %s |", of(p))
		}
		out.WriteByte('\n')
	}
	yes := map[bool]string{true: "yes", false: "no"}
	beside := func(p *pattern, what string) string {
		if p.name != "tsh" {
			return ""
		}
		return what
	}
	spans := func(d []time.Duration) string {
		return fmt.Sprintf("%s (%s–%s)", ms(median(d)), ms(slices.Min(d)), ms(slices.Max(d)))
	}
	line("on "+where, func(p *pattern) string { return p.name })
	line("---", func(*pattern) string { return "---" })
	line("program, without debug tables", func(p *pattern) string {
		return mb(float64(p.size)) + beside(p, ", and tsh itself "+mb(float64(tshSize)))
	})
	line("packages outside of Go's library", func(p *pattern) string { return fmt.Sprint(p.packages) })
	line("memory while it watches", func(p *pattern) string {
		text := mb(float64(p.idle.rss))
		if p.idle.file > 0 {
			text += fmt.Sprintf(" (%s without its file's pages)", mb(float64(p.idle.rss-p.idle.file)))
		}
		return text + beside(p, ", and at each question "+mb(float64(tshPeak)))
	})
	line("start → first answer", func(p *pattern) string { return spans(p.first) })
	line(fmt.Sprintf("list %d databases", manyDatabases), func(p *pattern) string { return spans(p.list) })
	line("approval → the program knows", func(p *pattern) string { return spans(p.latency) })
	line(fmt.Sprintf("CPU while nothing happens, over %.0f s", idle.Seconds()), func(p *pattern) string {
		return fmt.Sprintf("%.2f %% of a core", 100*p.idle.core)
	})
	line("watches", func(p *pattern) string {
		if p.features.Push {
			return "yes"
		}
		return fmt.Sprintf("no: asks every %.0f s", pollEvery.Seconds())
	})
	line("typed errors", func(p *pattern) string { return yes[p.features.TypedErrors] })
	line("per-session MFA", func(p *pattern) string { return p.codes })
	line("behind a balancer that ends TLS", func(p *pattern) string { return yes[p.features.Upgrade] })
	line("lines of its own", func(p *pattern) string { return fmt.Sprint(p.lines.own) })
	line("lines of berth beneath them", func(p *pattern) string {
		if p.lines.generated > 0 {
			return fmt.Sprintf("%d, and %d generated", p.lines.beneath, p.lines.generated)
		}
		return fmt.Sprint(p.lines.beneath)
	})
	return out.String()
}
