package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/internal/survive"
	"berth/internal/wake"
	"berth/proxies/db"
)

// writeEvery is the least time between two writes.
const writeEvery = 30 * time.Second

// Config says what a Book looks at.
type Config struct {
	Config   func() *config.Config
	StateDir string
	Version  string
	Tunnels  func() []state.Tunnel // as they were published last
	Logger   *slog.Logger
}

// Book counts, and writes down what it has counted since it wrote last. Its methods
// never wait for the disk.
type Book struct {
	cfg     Config
	log     *slog.Logger
	changed wake.Signal

	mu      sync.Mutex // guards pending
	pending Kept       // with names in place of pseudonyms, which only the file has

	failed bool // the last write has; Run's own
}

// New returns a Book.
func New(cfg Config) *Book {
	return &Book{cfg: cfg, log: cfg.Logger.With("component", "telemetry"), changed: wake.NewSignal()}
}

// count counts on today's page, if the config wants it.
func (b *Book) count(what func(*Day)) {
	if !b.cfg.Config().Telemetry.Local() {
		return
	}
	now := time.Now()
	b.mu.Lock()
	d := b.pending.day(now.UTC().Format(time.DateOnly))
	d.ran(b.cfg.Version)
	what(d)
	b.pending.forget(now)
	b.mu.Unlock()
	b.changed.Wake()
}

// protocolOf returns a kind's or a database's protocol. The latter is the cluster's
// word: whatever berth does not know is another one.
func protocolOf(kind state.Kind, protocol string) string {
	if kind.Info().Protocol != "" { // shared by all of the kind
		return string(kind)
	}
	if _, ok := db.Lookup(protocol); !ok {
		return other
	}
	return protocol
}

// Served implements tunnel.Meter, as the three methods below do.
func (b *Book) Served(t tunnel.Metered, held time.Duration) {
	b.count(func(d *Day) {
		d.Clients.add(protocolOf(t.Kind, t.Protocol), 1)
		d.Clusters.add(t.Cluster, 1)
		d.Users.add(t.User, 1)
		if held > 0 {
			d.Features.add("hold", 1)
		}
	})
}

// Refused counts a client that did not get through.
func (b *Book) Refused(_ tunnel.Metered, code state.Code) {
	b.count(func(d *Day) { d.Refusals.add(string(code), 1) })
}

// Dialled counts nothing.
func (*Book) Dialled(string, time.Duration, error) {}

// Minted counts nothing.
func (*Book) Minted(string, time.Duration, error) {}

// LoggedIn counts a login.
func (b *Book) LoggedIn(_ time.Duration, err error) {
	name := "login_ok"
	if err != nil {
		name = "login_failed"
	}
	b.count(func(d *Day) { d.Features.add(name, 1) })
}

// Assumed counts a request whose roles were taken.
func (b *Book) Assumed() { b.count(func(d *Day) { d.Features.add("assume", 1) }) }

// Run writes down what is counted until ctx ends.
func (b *Book) Run(ctx context.Context) {
	write := func() error { b.write(); return nil }
	for {
		select {
		case <-ctx.Done():
			_ = survive.Do(b.log, "write statistics", write) // it is logged, as below
			return
		case <-b.changed:
			_ = survive.Do(b.log, "write statistics", write)
		}
		wake.Sleep(ctx, writeEvery)
	}
}

// write adds what was counted to the file. What cannot be written is kept for the next
// time.
func (b *Book) write() {
	b.mu.Lock()
	counted := b.pending
	b.pending = Kept{}
	b.mu.Unlock()
	if len(counted.Days) == 0 || !b.cfg.Config().Telemetry.Local() { // it may have been turned off meanwhile
		return
	}
	tunnels := make(map[string]int64)
	for _, t := range b.cfg.Tunnels() {
		tunnels[protocolOf(t.Kind, t.Protocol)]++
	}
	last := &counted.Days[len(counted.Days)-1]
	for protocol, n := range tunnels {
		last.Tunnels.atLeast(protocol, n)
	}
	newKey, err := update(b.cfg.StateDir, time.Now(), counted)
	if newKey {
		b.log.Warn("a damaged key was set aside: clusters and users have new pseudonyms", "path", BrokenKey(b.cfg.StateDir))
	}
	if err != nil {
		b.mu.Lock()
		b.pending.add(counted, func(_, name string) string { return name })
		b.mu.Unlock()
		b.changed.Wake()
	}
	if err != nil && !b.failed {
		b.log.Warn("nothing is written down, will retry", "err", err)
	}
	b.failed = err != nil
}
