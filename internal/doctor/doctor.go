// Package doctor finds out what is wrong with a berth, and says what to do
// about it: the agent, the config, tsh, the homes, the proxies, the tunnels and
// what the desktop has to offer.
//
// It promises to work with and without a running agent, to end within
// [MaxTime] whatever hangs, to stay out of the way (no dialog, no login, no
// program but tsh for its version), and to change nothing unless [Mend] is
// called. What it says is one line of plain text per finding, whatever others
// have put into names and errors. [WriteBundle] writes what it found, and what
// goes with it, without secrets.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/tray/autostart"
)

// MaxTime is how long Run takes at most, by the usual Limits.
const MaxTime = 10 * time.Second

const (
	atOnce    = 16                     // things on the network at the same time
	maxClock  = 2 * time.Minute        // which a clock may be wrong by
	maxText   = 600                    // columns of a finding
	lowSpace  = uint64(500 << 20)      // bytes
	noSpace   = uint64(20 << 20)       // bytes
	pulseTime = 400 * time.Millisecond // for a server that speaks second to hang up
)

// Limits bound what Run waits for. They are not constants because what is late is no
// finding to tests on a busy machine.
var Limits = struct {
	Check time.Duration // one check
	Run   time.Duration // all of them; a check that is not done by then hangs
	Agent time.Duration // the agent's answer
	Step  time.Duration // one thing on the network
}{Check: 8 * time.Second, Run: 9 * time.Second, Agent: 3 * time.Second, Step: 3 * time.Second}

// versionTime is how long tsh may take to say its version.
func versionTime() time.Duration { return 2 * Limits.Step }

// Status is how serious a finding is.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, but not as it should
	Fail Status = "fail" // does not work
	Skip Status = "skip" // could not be looked at, or is not wanted
)

// Finding is the result of one check of one thing.
type Finding struct {
	Check  string `json:"check"` // what was looked at; stable, unlike the words
	Status Status `json:"status"`
	Text   string `json:"text"`
	Fix    string `json:"fix"`   // the next step; empty when there is none
	Fixed  string `json:"fixed"` // what Mend has done about it; empty when nothing
	// Mendable says that Mend would do something about it.
	Mendable bool `json:"mendable"`
	// Name names it for Mend, apart from the other findings of its check.
	Name string `json:"name"`

	repair func(context.Context) (did string, err error) // nil when only a person can
}

// IsNamed reports whether name is the finding's own, or that of its check.
func (f Finding) IsNamed(name string) bool { return name == f.Check || name == f.Name }

// Config says what to look at.
type Config struct {
	Logger  *slog.Logger
	Paths   paths.Paths
	Policy  config.PolicyFile
	Version string              // of the program that asks
	Env     func(string) string // the environment
	// Service reports on the agent as a service; nil skips that check.
	Service func(context.Context) (osservice.Status, error)
	// Autostart is the entry that starts the tray at login; an empty Program
	// means that none should.
	Autostart autostart.Entry
	// Progress is called each time a check is done, from one goroutine; nil
	// means not at all.
	Progress func(done, total int)
	// Resolver looks up the proxies' names; nil means the system's.
	Resolver *net.Resolver
	// Now is the time; nil means time.Now.
	Now func() time.Time
}

// Report is the result of Run.
type Report struct {
	Findings []Finding
	Snapshot *state.Snapshot // nil when no agent answered
}

// Failed reports whether anything does not work.
func (r Report) Failed() bool {
	for _, f := range r.Findings {
		if f.Status == Fail {
			return true
		}
	}
	return false
}

// check is one thing that is looked at.
type check struct {
	name string
	run  func(context.Context) []Finding
}

// doctor is one examination. What several checks need is looked up once.
type doctor struct {
	Config
	checkTime time.Duration // of one check
	config    *lazy[configFacts]
	agent     *lazy[agentFacts]
	homes     *lazy[[]homeFacts]
	tshFacts  *lazy[tshFacts]
}

type configFacts struct {
	cfg     *config.Config // when the file has mistakes or is lost the last good one, else the default
	unknown bool           // cfg is the default, and what the file means is not known
	policy  *config.Policy // which binds cfg
}

type homeFacts struct {
	path     string
	profiles []*certwatch.Profile
	err      error
}

func newDoctor(ctx context.Context, cfg Config) *doctor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	d := &doctor{Config: cfg, checkTime: Limits.Check}
	d.config = newLazy(d.loadConfig)
	d.agent = newLazy(func() agentFacts { return d.askAgent(ctx) })
	d.homes = newLazy(func() []homeFacts { return d.loadHomes(ctx) })
	d.tshFacts = newLazy(func() tshFacts { return d.askTSH(ctx) })
	return d
}

// checks are all checks, in the order of the report.
func (d *doctor) checks() []check {
	return []check{
		{"agent", d.checkAgent},
		{"service", d.checkService},
		{"config", d.checkConfig},
		{"policy", d.checkPolicy},
		{"files", d.checkFiles},
		{"disk", d.checkDisk},
		{"tsh", d.checkTSH},
		{"homes", d.checkHomes},
		{"proxies", d.checkProxies},
		{"ports", d.checkPorts},
		{"tunnels", d.checkTunnels},
		{"guard", d.checkGuard},
		{"kubeconfig", d.checkKubeconfig},
		{"keychain", d.checkKeychain},
		{"desktop", Desktop},
		{"autostart", d.checkAutostart},
	}
}

// Run looks at everything at once, and returns what was found in a fixed order.
func Run(ctx context.Context, cfg Config) Report {
	ctx, cancel := context.WithTimeout(ctx, Limits.Run)
	defer cancel()
	d := newDoctor(ctx, cfg)
	r := Report{Findings: d.runAll(ctx, d.checks())}
	if facts, ok := d.agent.peek(); ok && facts.err == nil {
		r.Snapshot = &facts.snapshot
	}
	return r
}

// runAll runs the checks and waits for them, but not for those that hang: a
// file system that does not answer cannot be interrupted.
func (d *doctor) runAll(ctx context.Context, checks []check) []Finding {
	type result struct {
		index    int
		findings []Finding
	}
	results := make(chan result, len(checks))
	for i, c := range checks {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, d.checkTime)
			defer cancel()
			results <- result{i, c.run(ctx)}
		}()
	}
	found := make([][]Finding, len(checks))
	for done := 0; done < len(checks); {
		select {
		case r := <-results:
			found[r.index] = r.findings
			done++
			if d.Progress != nil {
				d.Progress(done, len(checks))
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	var all []Finding
	for i, c := range checks {
		if found[i] == nil {
			found[i] = []Finding{{
				Check: c.name, Status: Fail, Text: fmt.Sprintf("looking at this did not come to an end within %v", d.checkTime),
				Fix: "try again; a network file system that does not answer is a usual cause",
			}}
		}
		all = append(all, found[i]...)
	}
	for i := range all {
		all[i].Text, all[i].Fix = clean(all[i].Text), clean(all[i].Fix)
		all[i].Mendable = all[i].repair != nil
		all[i].Name = cmp.Or(all[i].Name, all[i].Check)
	}
	return all
}

// Mend does what can be done safely about the findings, and returns them with
// what was done: file permissions, the autostart entry, what a killed agent has
// left behind. Where findings are named, by their check or their own name, it does so
// about these alone.
func Mend(ctx context.Context, findings []Finding, named ...string) []Finding {
	mended := make([]Finding, len(findings))
	for i, f := range findings {
		mended[i] = f
		if !f.Mendable || len(named) > 0 && !slices.ContainsFunc(named, f.IsNamed) {
			continue
		}
		did, err := f.repair(ctx)
		if err != nil {
			mended[i].Text = clean(fmt.Sprintf("%s (not mended: %v)", f.Text, err))
			continue
		}
		mended[i].Status, mended[i].Fixed, mended[i].Mendable = OK, clean(did), false
	}
	return mended
}

// clean keeps other people's text on its line, and that of a length to read.
func clean(s string) string { return plain.Cut(plain.Line(s), maxText) }

// lazy is a value that is looked up once, by whoever needs it first.
type lazy[T any] struct {
	once  sync.Once
	f     func() T
	done  chan struct{} // closed when value is there
	value T
}

func newLazy[T any](f func() T) *lazy[T] { return &lazy[T]{f: f, done: make(chan struct{})} }

// get waits for the value, for as long as ctx lasts.
func (l *lazy[T]) get(ctx context.Context) (T, error) {
	l.once.Do(func() {
		go func() {
			l.value = l.f()
			close(l.done)
		}()
	})
	select {
	case <-l.done:
		return l.value, nil
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// peek returns the value if it is there.
func (l *lazy[T]) peek() (value T, ok bool) {
	select {
	case <-l.done:
		return l.value, true
	default:
		return value, false
	}
}

// each calls f for every item, atOnce at the same time, and joins the findings
// in the order of the items.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) []Finding) []Finding {
	found := make([][]Finding, len(items))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, item := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i] = f(ctx, item)
		})
	}
	wg.Wait()
	var all []Finding
	for _, fs := range found {
		all = append(all, fs...)
	}
	return all
}

// one is the findings of a check that found one thing.
func one(check string, status Status, text, fix string) []Finding {
	return []Finding{{Check: check, Status: status, Text: text, Fix: fix}}
}
