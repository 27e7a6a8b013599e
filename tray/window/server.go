package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
)

// Agent is the part of client.Client that the window uses.
type Agent interface {
	CallJSON(ctx context.Context, name string, request []byte) ([]byte, error)
	FollowJSON(ctx context.Context) iter.Seq2[[]byte, error]
	Tunnel(ctx context.Context, name string) (state.Tunnel, error)
	TunnelPlot(ctx context.Context, name string) ([]state.PlotPoint, error)
	Login(ctx context.Context, start client.LoginStart, show func(e client.LoginEvent, answer func(secret string)) error) error
}

// Config says how to serve the window. What is not said to be optional must be set.
type Config struct {
	Logger  *slog.Logger
	Agent   Agent
	Files   fs.FS // the page's: index.html, app.js, app.css
	Version string
	// Guard returns nil when the program at the other end of an accepted connection is
	// the user's own; nil means that the system cannot tell.
	Guard func(net.Conn) error
	// Locks calls locked each time the screen is locked, until ctx ends.
	Locks func(ctx context.Context, locked func())
	// Allowed says why the window may not be open, in words for its page; nil means that
	// it may. It is asked for each request and with each snapshot.
	Allowed func() error
	// Browse opens a login page if it is one of proxy's or of this machine. Any other
	// address is an error whose method Refused returns true.
	Browse func(ctx context.Context, url string, command []string, proxy string) error
	// URLs lists how clients connect to a tunnel, by the names of "berth tunnel url --as".
	URLs func(state.Tunnel) (Connect, error)
	// Recording writes the page that plays a recording; an error before it has written
	// anything is shown. PlayerPolicy is that page's content security policy.
	Recording    func(ctx context.Context, cluster, id string, w io.Writer) error
	PlayerPolicy string
	// Reads are what else the page shows, and Writes what else it changes, by their
	// paths beneath /api/. What they return is sent as JSON.
	Reads  map[string]func(ctx context.Context, query url.Values) (any, error)
	Writes map[string]func(ctx context.Context, body []byte) (any, error)
}

// Connect is how clients connect to a tunnel.
type Connect struct {
	URLs   []Form `json:"urls"`
	Client string `json:"client"` // the command line of the usual client; empty when there is none
}

// Form is one way to write an address.
type Form struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

const (
	// idleEnd is how long the server stays without a page that looks.
	idleEnd = 15 * time.Minute
	// maxHeader and maxBody bound what a page sends.
	maxHeader = 32 << 10
	maxBody   = 256 << 10
	// closeWait is how long requests under way may take to end with the server.
	closeWait = time.Second
)

// Server is one run of the window. Make one with [New].
type Server struct {
	cfg  Config
	log  *slog.Logger
	ln   net.Listener
	host string // the only Host that is served
	gate *gate
	end  chan struct{} // closed when the server is to end
	over func()        // closes end, once
	idle *idle
	all  logins
}

// New returns a server that listens already, and serves when it runs. ctx bounds
// nothing but the listening.
func New(ctx context.Context, cfg Config) (*Server, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the window: %w", err)
	}
	return newServer(cfg, ln), nil
}

func newServer(cfg Config, ln net.Listener) *Server {
	s := &Server{
		cfg: cfg, log: cfg.Logger.With("component", "window"), ln: ln, host: ln.Addr().String(),
		end: make(chan struct{}),
	}
	s.over = sync.OnceFunc(func() { close(s.end) })
	s.gate = newGate(s.host)
	s.idle = newIdle(idleEnd, func() {
		s.log.Info("the window ends: no page is open")
		s.over()
	})
	return s
}

// Link returns a link that opens the window once, at a path such as tunnels/pg, escaped
// as in a URL. It is a secret until it is used. The server stays for whoever is about to
// use it.
func (s *Server) Link(path string) string {
	s.idle.touch()
	link := "http://" + s.host + "/#" + s.gate.newToken()
	if path != "" {
		link += "&" + path
	}
	return link
}

// Address returns the address of a link's page, which is no secret.
func Address(link string) string {
	address, _, _ := strings.Cut(link, "#")
	return address
}

// ended reports whether the server takes no new page.
func (s *Server) ended() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// forbidden says why the window may not be open, and ends the server then.
func (s *Server) forbidden() error {
	err := s.cfg.Allowed()
	if err != nil {
		s.log.Info("the window ends", "why", err)
		s.over()
	}
	return err
}

// Run serves until ctx ends, the screen is locked, the window is forbidden or no page
// has been open for a while. It returns when everything it started has ended.
func (s *Server) Run(ctx context.Context) error {
	defer s.idle.stop()
	defer s.over()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() {
		s.cfg.Locks(ctx, func() {
			s.log.Info("the window ends: the screen is locked")
			s.over()
		})
	})
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	parts.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.end:
		}
		cancel() // streams and logins end
		closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
		defer stop()
		if server.Shutdown(closing) != nil {
			_ = server.Close() // it reports what the connections do, which are to end
		}
	})
	s.log.Info("window served", "at", s.host)
	err := server.Serve(&ipc.Guarded{Listener: s.ln, Check: s.cfg.Guard, Refused: func(err error) {
		s.log.Warn("a program was turned away from the window", "err", err)
	}})
	cancel()
	parts.Wait()
	s.log.Info("window closed")
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the window: %w", err)
	}
	return nil
}

// idle calls a function when nothing has looked for a while.
type idle struct {
	after time.Duration

	mu      sync.Mutex // guards everything below
	viewers int
	timer   *time.Timer
}

func newIdle(after time.Duration, end func()) *idle {
	return &idle{after: after, timer: time.AfterFunc(after, end)}
}

// touch starts the time anew; view has it stand still until left is called.
func (i *idle) touch() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.viewers == 0 {
		i.timer.Reset(i.after)
	}
}

func (i *idle) view() (left func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.viewers++
	i.timer.Stop()
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.viewers--; i.viewers == 0 {
			i.timer.Reset(i.after)
		}
	}
}

func (i *idle) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.timer.Stop()
}
