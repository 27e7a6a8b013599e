package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/state"
	"berth/internal/pseudonym"
	"berth/internal/wake"
)

// rebindPause is between two tries to listen where another program does, as the
// agent before this one may for a moment.
const rebindPause = time.Second

// Config says what the room looks at.
type Config struct {
	Config   func() *config.Config
	Socket   string // where to listen unless the config says it
	StateDir string // of the key of pseudonyms
	Version  string
	Started  time.Time
	// Check tries the tunnels' ways, and Snapshot has a snapshot published and returns
	// it.
	Check    func(ctx context.Context, fresh time.Duration, names ...string) []state.Readiness
	Snapshot func() *state.Snapshot
	// Alive returns nil while the agent does its work.
	Alive func() error
	// Guard returns what refuses a client over TCP of another OS user; nil means that
	// the system cannot be asked.
	Guard    func() func(net.Conn) error
	OnChange func() // what Problems returns has changed
	Logger   *slog.Logger
}

// Room serves health and metrics, and counts for them.
type Room struct {
	cfg     Config
	log     *slog.Logger
	changed wake.Signal             // the config has
	on      atomic.Pointer[serving] // nil: nothing is served, and nothing counted

	mu      sync.Mutex // guards problem
	problem *state.Problem
}

// serving is what differs from one config to the next.
type serving struct {
	set   config.Metrics
	label func(sort, name string) string
	*counters
}

// New returns a Room that serves nothing yet.
func New(cfg Config) *Room {
	return &Room{cfg: cfg, log: cfg.Logger.With("component", "metrics"), changed: wake.NewSignal()}
}

// Follow has the room look at the config again.
func (r *Room) Follow() { r.changed.Wake() }

// Problems returns why nothing is served although the config wants it.
func (r *Room) Problems() []state.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem == nil {
		return nil
	}
	return []state.Problem{*r.problem}
}

// Run serves what the config says until ctx ends.
func (r *Room) Run(ctx context.Context) {
	for ctx.Err() == nil {
		set := r.cfg.Config().Metrics
		if !set.On() {
			r.fail(nil)
			select {
			case <-ctx.Done():
			case <-r.changed:
			}
			continue
		}
		err := r.serve(ctx, set)
		r.fail(err)
		if err != nil {
			r.pause(ctx)
		}
	}
}

func (r *Room) pause(ctx context.Context) {
	timer := time.NewTimer(rebindPause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-r.changed:
	case <-timer.C:
	}
}

// fail makes err the room's problem; nil: it has none.
func (r *Room) fail(err error) {
	r.mu.Lock()
	was := r.problem
	if r.problem = nil; err != nil {
		r.problem = &state.Problem{
			Code: state.CodeMetrics, Title: "Metrics not served", Text: fmt.Sprintf("metrics cannot be served: %v.", err),
			Action: "berth config edit",
		}
		if key, ok := errors.AsType[*keyError](err); ok {
			r.problem.Action = "delete " + key.path + ": names get new pseudonyms"
		}
	}
	changed := (was == nil) != (r.problem == nil)
	r.mu.Unlock()
	if changed {
		if err != nil {
			r.log.Warn("metrics are not served, will retry", "err", err)
		}
		r.cfg.OnChange()
	}
}

// keyError says that the key of pseudonyms cannot be read: the config is not to blame.
type keyError struct {
	path string
	err  error
}

func (e *keyError) Error() string { return e.err.Error() }

func (e *keyError) Unwrap() error { return e.err }

// serve serves until ctx ends or the config says something else; an error means that
// it could not begin, or broke.
func (r *Room) serve(ctx context.Context, set config.Metrics) error {
	now := &serving{set: set, counters: newCounters(), label: named}
	if !set.Named() {
		path := filepath.Join(r.cfg.StateDir, "pseudonyms.key")
		key, anew, err := pseudonym.Load(path)
		if err != nil {
			return &keyError{path, err}
		}
		if anew {
			r.log.Warn("a damaged key was set aside: names have new pseudonyms", "path", pseudonym.BrokenPath(path))
		}
		now.label = key.Of
	}
	l, err := r.listen(ctx, set)
	if err != nil {
		return err
	}
	r.fail(nil)
	r.on.Store(now)
	defer r.on.Store(nil)
	r.log.Info("metrics are served", "address", l.Addr().String())
	server := &http.Server{
		Handler:           &handler{room: r, serving: now, tcp: l.Addr().Network() == "tcp"},
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	for {
		select {
		case err := <-served:
			return err
		case <-r.changed:
			if r.cfg.Config().Metrics.Same(set) {
				continue
			}
			if u, ok := l.Listener.(*net.UnixListener); ok {
				defer os.Remove(u.Addr().String()) //nolint:errcheck // the next listener replaces it
			}
		case <-ctx.Done():
		}
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// named stands for the names themselves. A label that is no UTF-8 would cost the whole
// page.
func named(_, name string) string { return strings.ToValidUTF8(name, "?") }

// listen opens the listener, and keeps other users' programs out of it.
func (r *Room) listen(ctx context.Context, set config.Metrics) (*ipc.Guarded, error) {
	tcp, socket := set.Address()
	if tcp != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", tcp)
		if err != nil {
			return nil, err
		}
		return r.guarded(l, r.cfg.Guard()), nil
	}
	if socket == "" {
		socket = r.cfg.Socket
	} else if err := usable(ctx, socket); err != nil {
		return nil, err
	}
	l, err := ipc.Listen(socket)
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // another agent's may be in its place by then
	}
	return r.guarded(l, ipc.CheckPeer), nil
}

// usable returns an error when the socket's folder is missing, which only a person
// may make, or when a program listens there: the socket would be put in the place of
// that one's, which may be berth's own.
func usable(ctx context.Context, socket string) error {
	dir := filepath.Dir(socket)
	if _, err := os.Stat(dir); runtime.GOOS != "windows" && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s for the socket: make one that only you can enter, or write another path", dir)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil //nolint:nilerr // what is left of one that has ended is replaced
	}
	_ = conn.Close()
	return fmt.Errorf("another program serves %s already: choose another path", socket)
}

// guarded keeps those out of a listener whom check refuses.
func (r *Room) guarded(l net.Listener, check func(net.Conn) error) *ipc.Guarded {
	return &ipc.Guarded{Listener: l, Check: check, Refused: func(err error) {
		r.log.Debug("a client of metrics was turned away", "err", err)
	}}
}

// isOurs reports whether a request means this machine: a web page could have a
// browser ask in the name of a host that the page's owner has point here.
func isOurs(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	if !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
		return false
	}
	foreign := func(from string) bool { return from != "none" && from != "same-origin" }
	return len(r.Header.Values("Origin")) == 0 && !slices.ContainsFunc(r.Header.Values("Sec-Fetch-Site"), foreign)
}
