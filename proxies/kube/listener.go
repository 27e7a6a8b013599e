package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
	"berth/proxies"
	"berth/proxies/internal/webpage"
)

const (
	// headerTimeout is how long a client may take to send a request's header,
	// and idleTimeout how long it may keep a connection without a request.
	headerTimeout = 20 * time.Second
	idleTimeout   = 10 * time.Minute
	// refuseTime is a Listener's, unless a test changes it.
	refuseTime = time.Second
	// maxStreams is how many requests one client connection may have open:
	// controllers keep a watch for every kind of resource.
	maxStreams = 1000
)

// ListenerConfig says what a Listener is.
type ListenerConfig struct {
	// Port is the local port on 127.0.0.1 and ::1. Zero means any free one.
	Port int
	// Sockets are the process's listening sockets; nil means that none are shared.
	Sockets *proxies.Sockets
	// CA returns the local CA, which may change later. It is called at each
	// connection and must not block: ports are bound before keys are read, and
	// a connection that comes before fails.
	CA func() (*LocalCA, error)
	// Limits says how many connections the listener may have; nil means any number.
	Limits *proxies.Limits
	// Grace is how long requests may go on after Run's ctx has ended.
	Grace time.Duration
	// Absent returns the refusal for a client of a tunnel that does not exist:
	// it was stopped, or removed from the config. nil means a general one.
	Absent func(serverName string) Refusal
	// Names returns the tunnels that the port is for, those that are stopped among
	// them. nil means those that run.
	Names func() []string
	// Logger is where to log; nil means nowhere.
	Logger *slog.Logger
	// OnChange is called after each change of Status; it must not block. nil
	// means no call.
	OnChange func()
}

// Listener is a local port that admits berth's own clients and hands their
// requests to tunnels.
type Listener struct {
	cfg  ListenerConfig
	log  *slog.Logger
	port *proxies.Port
	// refuseTime is how long clients have to read their refusal, and what is left of an
	// answer, when the listener or their request was ended, whatever the Grace.
	refuseTime time.Duration

	open    atomic.Int64    // connections
	outcome proxies.Outcome // of those that are one too many

	leaving chan struct{} // closed by Leave
	ended   chan struct{} // closed when Run has returned

	mu      sync.Mutex // guards everything below, and cfg.Grace
	left    bool       // leaving is closed, or about to be
	ca      *LocalCA   // what tls was made for
	tls     *tls.Config
	tunnels map[string]*Tunnel // by server name
	only    *Tunnel            // serves any name; nil when shared
}

// NewListener returns a listener that is not bound yet. It panics without a CA.
func NewListener(cfg ListenerConfig) *Listener {
	if cfg.CA == nil {
		panic("kube: ListenerConfig.CA is nil")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Absent == nil {
		cfg.Absent = func(name string) Refusal {
			return Refusal{
				Code:    http.StatusForbidden,
				Message: fmt.Sprintf("berth has no tunnel at %s; see: berth tunnel ls", name),
			}
		}
	}
	log := cfg.Logger.With("component", "kube")
	return &Listener{
		cfg: cfg, log: log,
		port:       proxies.NewPort(nil, cfg.Port, cfg.Sockets, log, cfg.OnChange),
		refuseTime: refuseTime,
		leaving:    make(chan struct{}), ended: make(chan struct{}),
		tunnels: make(map[string]*Tunnel),
	}
}

// Bind tries once to bind the port; see proxies.Port.
func (l *Listener) Bind() error { return l.port.Bind() }

// Status returns how the port is now.
func (l *Listener) Status() proxies.PortStatus { return l.port.Status() }

// Released is closed when Run has released the port.
func (l *Listener) Released() <-chan struct{} { return l.port.Released() }

// Leave gives the listener's place to another process, which listens on the same
// sockets already: Run stops listening, and returns once the requests have ended
// that go on, but for those that were upgraded, or grace is over. Clients are asked to
// connect anew for further ones.
func (l *Listener) Leave(grace time.Duration) {
	l.mu.Lock()
	again := l.left
	if !again {
		l.left, l.cfg.Grace = true, grace
	}
	l.mu.Unlock()
	if again {
		return
	}
	l.port.Close()
	close(l.leaving)
}

// Run serves until ctx ends, binding the port first, however long that takes.
// It then stops listening, lets requests go on for Grace, and returns nil once
// all has ended. A Listener can be run once.
func (l *Listener) Run(ctx context.Context) error {
	defer close(l.ended)
	srv := &http.Server{
		Handler:           http.HandlerFunc(l.serve),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: l.configFor},
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if inner, ok := c.(interface{ NetConn() net.Conn }); ok {
				c = inner.NetConn() // closing TLS would say so to the client first
			}
			return context.WithValue(ctx, clientKey{}, &client{addr: c.RemoteAddr(), conn: c})
		},
	}
	accepting, over := context.WithCancel(ctx)
	defer over()
	var serving sync.WaitGroup
	for _, ln := range l.port.BindUntil(ctx) {
		serving.Go(func() {
			if err := srv.ServeTLS(&bounded{Listener: ln, l: l, done: accepting.Done()}, "", ""); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				l.log.Error("listener ended", "err", err)
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-l.leaving:
	}
	over()
	l.port.Close()
	l.mu.Lock()
	limit := max(l.cfg.Grace, l.refuseTime)
	l.mu.Unlock()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // its listeners are closed already
	}
	serving.Wait()
	return nil
}

// bounded is a listener whose connections are counted: one too many is closed at
// once, since its TLS alone would cost more than a client that may be served.
type bounded struct {
	net.Listener
	l    *Listener
	done <-chan struct{} // closed when nothing is to be accepted any more
}

// Accept returns the next connection that may be. Where the system has no descriptors
// or memory left for one it waits: http.Server would give up for good on some errors.
func (b *bounded) Accept() (net.Conn, error) {
	failed := func(err error) {
		b.l.log.Log(context.Background(), b.l.outcome.Failed(err), "no connection accepted", "err", err)
	}
	for {
		c, err := wake.Accept(b.done, b.Listener, failed)
		if err != nil {
			return nil, err
		}
		most := b.l.cfg.Limits.Connections()
		if open := b.l.open.Add(1); most < 0 || open <= int64(most) {
			return &clientConn{Conn: c, l: b.l}, nil
		}
		b.l.open.Add(-1)
		_ = c.Close() // nothing was sent
		err = &proxies.LimitError{Limit: proxies.LimitConnections, Most: most}
		b.l.log.Log(context.Background(), b.l.outcome.Failed(err), "connection closed", "err", err)
	}
}

// configFor returns the TLS config of a connection: the same one for as long as
// the CA is, so that clients can resume their sessions.
func (l *Listener) configFor(*tls.ClientHelloInfo) (*tls.Config, error) {
	ca, err := l.cfg.CA()
	if err != nil {
		l.log.Warn("local CA not available", "err", err)
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ca != ca {
		l.ca, l.tls = ca, ca.serverTLS()
	}
	return l.tls, nil
}

// add has requests for the tunnel's name, or all, handed to t.
func (l *Listener) add(t *Tunnel, all bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := ServerName(t.cfg.Name)
	if other := l.tunnels[name]; other != nil && other != t {
		return fmt.Errorf("tunnel %q: %w", t.cfg.Name, errNameTaken)
	}
	l.tunnels[name] = t
	if all {
		l.only = t
	}
	return nil
}

// errNameTaken says that the listener serves a tunnel of that name already.
var errNameTaken = errors.New("another tunnel has this name")

func (l *Listener) remove(t *Tunnel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name := ServerName(t.cfg.Name); l.tunnels[name] == t {
		delete(l.tunnels, name)
	}
}

// serve hands a request to its tunnel.
func (l *Listener) serve(w http.ResponseWriter, r *http.Request) {
	// Whoever shows the client cert is trusted, and no page can show it unless the user
	// has imported it into the browser. For that case this is the second lock.
	why := webpage.Foreign(r, func(host string) bool { return host == Domain || ours(host) })
	if why == "" && r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		why = "it asks for leave to call from a web page"
	}
	if why != "" {
		l.log.Warn("request refused", "why", why, "client", r.RemoteAddr)
		Refusal{
			Code:    http.StatusForbidden,
			Message: "berth serves no web pages, and this request looks like one's: " + why,
		}.write(w, r)
		return
	}
	f := l.find(r)
	switch {
	case f.tunnel == nil:
		f.why.write(w, f.r)
	case !f.tunnel.serve(w, f.r): // it has just stopped
		l.cfg.Absent(ServerName(f.tunnel.cfg.Name)).write(w, f.r)
	}
}
