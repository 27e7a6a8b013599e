// Package proxies keeps tunnels open: fixed local ports whose connections are
// carried to a resource behind a Teleport proxy.
//
// A Tunnel promises that
//   - its port is bound once and then held for as long as Run runs, whatever
//     happens to credentials, networks and upstreams;
//   - every client connection lives in goroutines of its own: a client that is
//     slow, silent or held never delays another;
//   - a client that comes before there is a credential is held, not refused;
//   - open connections are left alone when the credential changes;
//   - when Run returns, everything it started has ended.
//
// The package reads no files and knows neither profiles nor Teleport: it is
// handed a Source, which waits for a credential and returns a Dial.
package proxies

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

// Dial opens the upstream half of one client connection. It must give up when
// ctx ends, and by itself when it takes too long: a Pace sees to that.
type Dial func(ctx context.Context) (net.Conn, error)

// Source returns how to dial, waiting until there is a credential to dial
// with. It returns an error at once when waiting cannot help, and when ctx
// ends. It is called once for each client connection, concurrently.
type Source func(ctx context.Context) (Dial, error)

const (
	// halfOpenIdle is how long a connection of which one half has ended may
	// stay open without a byte moving in the other: a peer that is gone and one
	// that has only stopped sending can look the same.
	halfOpenIdle = 5 * time.Minute
)

// Config says what a Tunnel is.
type Config struct {
	// Name is the tunnel's name, for messages.
	Name string
	// Port is the local port, the same on every host. Zero means any free
	// one, chosen when the tunnel is first bound.
	Port int
	// Hosts are the IP addresses to listen on; nil means 127.0.0.1 and ::1.
	Hosts []string
	// Sockets are the process's listening sockets; nil means that none are shared.
	Sockets *Sockets
	// Limits bounds the clients of all tunnels together; nil means no limit.
	Limits *Limits
	// Source returns how to dial.
	Source Source
	// Hold is how long a client may wait for Source. Zero means do not hold:
	// Source then has MaxDialTimeout to fetch a cert and should not wait for a
	// person.
	Hold time.Duration
	// Again reports whether a client whose dial failed with err is held as if there
	// were no credential yet, and dialled for again once Source returns. nil means
	// never.
	Again func(err error) bool
	// Grace is how long connections may go on after Run's ctx has ended; zero
	// means they are closed at once. Those on which no answer is due are closed
	// at once in any case: a pool of connections never ends.
	Grace time.Duration
	// Refuse answers a client with the reason why it is refused, in its own
	// protocol. It owns the client's reads and writes until it returns, reads
	// what the client has sent from the first byte on, and has a deadline of
	// four seconds set, which it may move. The tunnel closes the connection. nil means just close.
	// A client whose upstream hung up on its first words is refused too, with
	// ErrClosedEarly.
	Refuse func(client net.Conn, err error)
	// Front returns what stands between a client and the tunnel, to speak TLS
	// with the client, for one. nil means nothing.
	// said is what the client has sent already.
	Front func(client *net.TCPConn, said []byte) Front
	// Guard is called with each client when it connects. If it returns an
	// error the connection is closed without a word. nil means that every
	// client is served.
	Guard func(client net.Conn) error
	// Listen returns what hears the beginning of one connection, once that has
	// an upstream; nil means that none does. Without an ear every end without
	// an answer is ErrClosedEarly.
	Listen func() Ear
	// Recycle returns what follows a connection whose cert ends at end, so that it
	// can be ended politely before it is cut; nil means that it is not followed. It
	// is called once for each connection whose Dial returned an Ending one.
	Recycle func(end time.Time) Rest
	// Renewed reports whether a new connection would last longer than until end.
	// It must be set where Recycle is.
	Renewed func(end time.Time) bool
	// Logger is where to log; nil means nowhere.
	Logger *slog.Logger
	// OnChange is called after each change of Status other than bytes moved,
	// from many goroutines; it must not block. nil means no call.
	OnChange func()
	// OnEvent is called with each step in a connection's life, in order for one
	// connection, from many goroutines; it must not block. nil means no call.
	OnEvent func(Event)
}

// Front is a client's end of a connection. What is read and written is what the
// resource hears and says. One goroutine reads while another one writes.
type Front interface {
	net.Conn
	// CloseWrite tells the client that nothing more follows.
	CloseWrite() error
	// Decide is called when it is known whether the client gets a connection.
	Decide()
	// Plain reports whether the client's socket can be read in the Front's
	// place from now on. The goroutine that reads calls it.
	Plain() bool
	// Unread returns what the client has sent and Read has not returned; false
	// means that another process could not go on from there. It is called while
	// no goroutine reads.
	Unread() ([]byte, bool)
}

// bare is a client without a Front.
type bare struct {
	*net.TCPConn
	said []byte
}

func (*bare) Decide()                  {}
func (b *bare) Plain() bool            { return len(b.said) == 0 }
func (b *bare) Unread() ([]byte, bool) { return b.said, true }

func (b *bare) Read(p []byte) (int, error) {
	if len(b.said) == 0 {
		return b.TCPConn.Read(p)
	}
	n := copy(p, b.said)
	b.said = b.said[n:]
	return n, nil
}

// Tunnel is a stable local port to one resource.
type Tunnel struct {
	cfg          Config
	log          *slog.Logger
	halfOpenIdle time.Duration
	restAfter    time.Duration
	began        time.Time
	ran          atomic.Bool
	wg           sync.WaitGroup // one for each open connection
	spoke        wake.Signal    // a client has its answer, or is connected; for drain
	port         *Port
	accepted     chan struct{}   // closed when no further client is accepted
	serving      chan struct{}   // closed when serveCtx is set
	serveCtx     context.Context // of the connections

	total, bytesIn, bytesOut atomic.Int64
	outcome                  Outcome

	mu      sync.Mutex // guards everything below, and cfg.Grace
	leaving bool       // see Leave
	conns   map[*conn]struct{}
	waiting map[*conn]time.Time // since when
}

// New returns a tunnel that is not bound yet. It panics without a Source, or
// when a host is not an IP address.
func New(cfg Config) *Tunnel {
	if cfg.Source == nil {
		panic("proxies: Config.Source is nil")
	}
	if cfg.Hosts == nil {
		cfg.Hosts = defaultHosts()
	}
	for _, h := range cfg.Hosts {
		if net.ParseIP(h) == nil {
			panic("proxies: not an IP address: " + h)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	if cfg.Again == nil {
		cfg.Again = func(error) bool { return false }
	}
	if cfg.Front == nil {
		cfg.Front = func(client *net.TCPConn, said []byte) Front { return &bare{client, said} }
	}
	if cfg.Recycle == nil {
		cfg.Recycle = func(time.Time) Rest { return nil }
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	log := cfg.Logger.With("tunnel", cfg.Name)
	return &Tunnel{
		cfg:          cfg,
		log:          log,
		halfOpenIdle: halfOpenIdle,
		restAfter:    restAfter,
		began:        time.Now(),
		accepted:     make(chan struct{}),
		serving:      make(chan struct{}),
		spoke:        wake.NewSignal(),
		port:         NewPort(cfg.Hosts, cfg.Port, cfg.Sockets, log, cfg.OnChange),
		conns:        make(map[*conn]struct{}),
		waiting:      make(map[*conn]time.Time),
	}
}

// Released is closed when Run has released the port, which it does before it
// drains: another tunnel may bind the port from then on.
func (t *Tunnel) Released() <-chan struct{} { return t.port.Released() }

// Bind tries once to bind the tunnel's port; see Port.Bind. Run closes the
// listeners: to release a bound tunnel without serving it, call Run with a
// cancelled ctx.
func (t *Tunnel) Bind() error { return t.port.Bind() }

// errRan says that a Tunnel was run twice.
var errRan = errors.New("tunnel was run already")

// Run serves the tunnel until ctx ends. When the tunnel is not bound yet, Run
// binds it, trying about once a second for as long as the port is taken.
// When ctx ends, Run stops listening, refuses the clients that are held, lets
// open connections go on until they are at rest or Grace is over, and returns
// nil once all have ended. A Tunnel can be run once.
func (t *Tunnel) Run(ctx context.Context) error {
	if t.ran.Swap(true) {
		return errRan
	}
	serving, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	t.serveCtx = serving
	close(t.serving)
	listeners := t.port.BindUntil(ctx)
	var accepting atomic.Int32
	accepting.Store(int32(len(listeners)))
	for _, l := range listeners {
		go func() {
			t.accept(serving, l)
			if accepting.Add(-1) == 0 {
				close(t.accepted)
			}
		}()
	}
	if len(listeners) == 0 {
		close(t.accepted)
	}
	<-ctx.Done()
	stop(ErrStopped)
	t.port.Close()
	<-t.accepted
	t.drain()
	t.cfg.OnChange()
	return nil
}

// accept starts a goroutine for each client, and never gives up: when the
// process is out of file descriptors it waits for connections to end.
func (t *Tunnel) accept(ctx context.Context, l net.Listener) {
	for {
		c, err := wake.Accept(ctx.Done(), l, t.noteError)
		if err != nil {
			return
		}
		t.total.Add(1) // one that is adopted the process before has counted
		t.start(ctx, c, nil)
	}
}

// start serves a client in goroutines of its own.
func (t *Tunnel) start(ctx context.Context, nc net.Conn, said []byte) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok { // a TCP listener accepts nothing else
		panic(fmt.Sprintf("proxies: accepted a %T", nc))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	c := &conn{
		t:          t,
		tcp:        tcp,
		client:     t.cfg.Front(tcp, said),
		cancel:     cancel,
		settled:    make(chan struct{}),
		pauses:     make(chan pause, 1),
		clientDone: make(chan struct{}),
		copyDone:   make(chan struct{}),
		finished:   make(chan struct{}),
	}
	t.mu.Lock()
	c.tooMany = t.cfg.Limits.Enter(len(t.conns))
	t.conns[c] = struct{}{}
	t.mu.Unlock()
	end := func() {
		cancel(nil)
		close(c.finished)
		t.mu.Lock()
		delete(t.conns, c)
		t.cfg.Limits.Leave()
		t.mu.Unlock()
	}
	if c.tooMany != nil && c.tooMany.flood {
		_ = tcp.Close() // nothing was sent
		close(c.settled)
		end()
		t.noteError(c.tooMany)
		return
	}
	t.wg.Go(func() {
		defer func() {
			end()
			t.cfg.OnChange()
		}()
		defer func() { c.surviveServe(recover()) }()
		c.event(EventAccepted, nil, 0)
		t.cfg.OnChange()
		c.serve(ctx)
	})
}

// drain closes the open connections as they come to rest, and all after Grace.
func (t *Tunnel) drain() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.wg.Wait()
	}()
	t.mu.Lock()
	leaving, limit := t.leaving, t.cfg.Grace
	t.mu.Unlock()
	grace := time.NewTimer(limit)
	defer grace.Stop()
	for {
		rest := limit
		if !leaving {
			rest = t.closeResting()
		}
		select {
		case <-done:
			return
		case <-grace.C:
			t.closeConnections(ErrStopped)
			<-done
			return
		case <-t.spoke:
		case <-time.After(rest):
		}
	}
}

// closeResting closes the connections at rest, and returns how long to wait
// before the next one can be, unless one gets an answer before.
func (t *Tunnel) closeResting() time.Duration {
	next := t.cfg.Grace
	t.closeThose(ErrStopped, func(c *conn) bool {
		left, answered := c.restIn()
		if answered && left > 0 {
			next = min(next, left)
		}
		return answered && left <= 0
	})
	return next
}

// now is a point of time for comparing it with others of this tunnel.
func (t *Tunnel) now() int64 { return int64(time.Since(t.began)) }

// CloseConnections closes every open connection now; the tunnel goes on
// listening.
func (t *Tunnel) CloseConnections() { t.closeConnections(ErrClosed) }

// MarkConnections marks every connection that is open or dialled now: Status counts
// those that are still open as Marked. The owner marks what was opened with a
// credential that should no longer be used, once Source no longer returns it. Clients
// that have none yet are not meant.
func (t *Tunnel) MarkConnections() {
	t.mu.Lock()
	for c := range t.conns {
		c.marked = true
	}
	t.mu.Unlock()
	t.cfg.OnChange()
}

// CloseMarked closes the connections that are marked.
func (t *Tunnel) CloseMarked() { t.closeThose(ErrClosed, (*conn).isMarked) }

func (t *Tunnel) closeConnections(cause error) {
	t.closeThose(cause, func(*conn) bool { return true })
}

// closeThose closes the connections that match; match is called with t.mu held.
func (t *Tunnel) closeThose(cause error, match func(*conn) bool) {
	t.mu.Lock()
	conns := make([]*conn, 0, len(t.conns))
	for c := range t.conns {
		if match(c) {
			conns = append(conns, c)
		}
	}
	t.mu.Unlock()
	for _, c := range conns {
		c.shut(cause)
	}
}

// Status returns how the tunnel is now.
func (t *Tunnel) Status() Status {
	s := Status{
		PortStatus:       t.port.Status(),
		TotalConnections: t.total.Load(),
		BytesIn:          t.bytesIn.Load(),
		BytesOut:         t.bytesOut.Load(),
	}
	t.outcome.Fill(&s)
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Count(func(yield func(bool) bool) {
		for c := range t.conns {
			if !yield(c.isMarked()) {
				return
			}
		}
	}, maps.Values(t.waiting))
	return s
}

// NextEnd returns how many of the open connections have a cert that ends next,
// and when that is; zero when none has a cert whose end is known.
func (t *Tunnel) NextEnd() (connections int, at time.Time) {
	t.mu.Lock()
	conns := slices.Collect(maps.Keys(t.conns))
	t.mu.Unlock()
	for _, c := range conns {
		select {
		case <-c.settled:
		default:
			continue // it has no cert yet
		}
		switch {
		case c.ends.IsZero(), !at.IsZero() && c.ends.After(at):
		case c.ends.Equal(at):
			connections++
		default:
			connections, at = 1, c.ends
		}
	}
	return connections, at
}

// noteError remembers why a connection failed.
func (t *Tunnel) noteError(err error) {
	t.log.Log(context.Background(), t.outcome.Failed(err), "connection failed", "err", err)
	t.cfg.OnChange()
}
