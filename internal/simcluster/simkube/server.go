package simkube

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultVersion is the Kubernetes release the stand-in passes for.
const DefaultVersion = "v1.32.4"

// maxCalls is how many calls are remembered.
const maxCalls = 1000

// Config says what a stand-in is like. The zero Config has the usual
// namespaces, one node and a few pods.
type Config struct {
	// Version is the Kubernetes release it passes for; empty means
	// DefaultVersion.
	Version string
	// Name tells several stand-ins apart: it is the name of the node. Empty
	// means "sim".
	Name string
	// Pods is how many pods the namespace "bulk" is filled with.
	Pods int
	// BookmarkInterval is how often a watch that wants bookmarks gets one;
	// zero means a minute.
	BookmarkInterval time.Duration
	// LogInterval is how often a followed log gets a line; zero means a
	// second, negative never.
	LogInterval time.Duration
	// History is how many changes a watch can go back; zero means 4096.
	History int
	// Allow decides what a user may do; nil means everything.
	Allow func(Access) bool
	// Log receives what goes wrong at Debug; nil discards it.
	Log *slog.Logger
}

// Access is what a user wants to do.
type Access struct {
	User      string
	Groups    []string
	Verb      string
	Group     string
	Resource  string // with its subresource after a slash
	Namespace string
	Name      string
}

// Call is a request as it arrived.
type Call struct {
	Time              time.Time
	Method            string
	Path              string
	Query             string
	Host              string
	Proto             string // HTTP/1.1 or HTTP/2.0
	UserAgent         string
	Upgrade           string // the protocol a streaming request asked for
	ImpersonateUser   string
	ImpersonateGroups []string
	// Authorization reports whether the request carried such a header; what
	// was in it is not kept.
	Authorization bool
}

// Stats counts what goes on.
type Stats struct {
	Requests int // so far
	Watches  int // open now
	Logs     int // being followed now
	Streams  int // exec, attach and port-forward sessions open now
}

// Server is a stand-in. It is an http.Handler; its methods may be called at
// any time.
type Server struct {
	cfg   Config
	store *store
	files *files
	logs  *logs

	requests, watches, following, streams atomic.Int64

	mu     sync.Mutex
	calls  []Call
	cut    context.Context // ends when all streams are to end, and is replaced
	cutNow context.CancelFunc
}

// New returns a stand-in filled as cfg says.
func New(cfg Config) *Server {
	if cfg.Version == "" {
		cfg.Version = DefaultVersion
	}
	if cfg.Name == "" {
		cfg.Name = "sim"
	}
	if cfg.BookmarkInterval == 0 {
		cfg.BookmarkInterval = time.Minute
	}
	if cfg.LogInterval == 0 {
		cfg.LogInterval = time.Second
	}
	if cfg.History == 0 {
		cfg.History = 4096
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg:   cfg,
		store: newStore(cfg.History),
		files: newFiles(),
		logs:  newLogs(),
	}
	s.cut, s.cutNow = context.WithCancel(context.Background())
	s.seed()
	return s
}

// ServeHTTP answers one request of the Kubernetes API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.record(r)
	s.route(w, r)
}

// streaming returns a context for a request that is answered at length: it
// ends with the request, and when all streams are cut.
func (s *Server) streaming(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	stop := context.AfterFunc(cut, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func (s *Server) record(r *http.Request) {
	s.requests.Add(1)
	call := Call{
		Time: time.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Host: r.Host, Proto: r.Proto,
		UserAgent: r.UserAgent(), Upgrade: r.Header.Get("Upgrade"),
		ImpersonateUser: r.Header.Get("Impersonate-User"), ImpersonateGroups: r.Header.Values("Impersonate-Group"),
		Authorization: r.Header.Get("Authorization") != "",
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) == maxCalls {
		s.calls = append(s.calls[:0:0], s.calls[maxCalls/2:]...)
	}
	s.calls = append(s.calls, call)
}

// Calls returns the most recent calls, oldest first: a few hundred at least.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Stats returns what has happened and what is going on.
func (s *Server) Stats() Stats {
	return Stats{
		Requests: int(s.requests.Load()), Watches: int(s.watches.Load()),
		Logs: int(s.following.Load()), Streams: int(s.streams.Load()),
	}
}

// CutStreams ends every request that is being answered, as an API server that
// restarts does: watches, logs, exec sessions.
func (s *Server) CutStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutNow()
	s.cut, s.cutNow = context.WithCancel(context.Background())
}

// ForgetHistory makes every watch that wants to resume start over: its
// resource version is too old.
func (s *Server) ForgetHistory() { s.store.forget() }
