package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"berth/proxies"
)

const (
	// warnWithin is how long before the session's end clients are warned, but not
	// before the last warnPart of it, and warnEvery how often.
	warnWithin = 15 * time.Minute
	warnPart   = 8
	warnEvery  = 5 * time.Minute
)

// Upstream is a way to one Kubernetes cluster with one credential. It is not
// changed once made: a new credential is a new Upstream, for the requests that
// come from then on.
type Upstream struct {
	// Dial opens connections to the cluster.
	Dial Dialer
	// ValidFrom is when the session behind it began, zero if that is not known.
	// ValidUntil is when it expires; zero means that clients are not warned of that.
	ValidFrom, ValidUntil time.Time
}

// Source returns the way to the cluster, waiting until there is a credential.
// It returns an error at once when waiting cannot help, and when ctx ends. It
// must return the same pointer as long as the credential is the same. It is
// called once for each request, concurrently.
type Source func(ctx context.Context) (*Upstream, error)

// Config says what a Tunnel is.
type Config struct {
	// Name is the tunnel's name, from which ServerName makes the host name that
	// clients ask for.
	Name string
	// Listener is the shared listener that serves the tunnel, run by its owner.
	// nil means a listener of the tunnel's own, made from Own.
	Listener *Listener
	Own      ListenerConfig
	// Limits bounds the clients of all tunnels together, of which each request is
	// one here; nil means no limit.
	Limits *proxies.Limits
	// Source returns the way to the cluster.
	Source Source
	// Now is called before Source: it returns what Source would return at once,
	// or nil when Source would have to wait. nil means to call Source always.
	Now func() *Upstream
	// Hold is how long a request may wait for Source; zero means that Source
	// has proxies.MaxDialTimeout to fetch a cert and should not wait for a
	// person. A request waits as long for a connection, while dials fail and Again says
	// so. A client that says how long it waits is answered before that.
	Hold time.Duration
	// Again reports whether to dial again after a dial failed with err, for as long
	// as a request may be held. nil means never.
	Again func(err error) bool
	// As and AsGroups are the Kubernetes user and groups to impersonate, for
	// requests that name none.
	As       string
	AsGroups []string
	// Grace is how long requests may go on after Run's ctx has ended.
	Grace time.Duration
	// Refuse words the refusal of a request, from an error of Source, of
	// dialling or of package proxies. nil means the error's own text.
	Refuse func(err error) Refusal
	// ForbiddenHint is the next step for a user who may impersonate several
	// Kubernetes users and whose request names none; empty means no hint.
	ForbiddenHint string
	// LoginHint is the next step for a user whose session is about to expire.
	LoginHint string
	// Logger is where to log; nil means nowhere.
	Logger *slog.Logger
	// OnChange is called after each change of Status other than bytes moved,
	// from many goroutines; it must not block. nil means no call.
	OnChange func()
	// OnEvent is called with each step in a request's life, as
	// proxies.Config.OnEvent is with a connection's. Requests of one client
	// connection that are held at the same time count as one. nil means no call.
	OnEvent func(proxies.Event)
	// Stranger names what a client spoke instead of TLS, from its first bytes, for
	// its EventClosed. nil means that such clients are not reported.
	Stranger func(said []byte) error
}

// Tunnel is a stable local name, or port, of one Kubernetes cluster. It has
// the methods of a proxies.Tunnel.
type Tunnel struct {
	cfg      Config
	log      *slog.Logger
	listener *Listener
	ran      atomic.Bool
	released chan struct{}  // closed when no further request is accepted
	wg       sync.WaitGroup // one for each request

	total, bytesIn, bytesOut atomic.Int64
	outcome                  proxies.Outcome

	mu        sync.Mutex // guards everything below
	stopped   bool
	leaveBy   time.Time // when everything must have ended after Leave; zero: it was not called
	active    map[*request]struct{}
	waiting   map[*request]time.Time // since when
	transport *transport             // of the newest Upstream
	warned    time.Time
}

// New returns a tunnel that is not served yet. It panics without a Source.
func New(cfg Config) *Tunnel {
	if cfg.Source == nil {
		panic("kube: Config.Source is nil")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = func() *Upstream { return nil }
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(proxies.Event) {}
	}
	if cfg.Again == nil {
		cfg.Again = func(error) bool { return false }
	}
	if cfg.Refuse == nil {
		cfg.Refuse = plainRefusal
	}
	t := &Tunnel{
		cfg: cfg, log: cfg.Logger.With("tunnel", cfg.Name),
		listener: cfg.Listener,
		released: make(chan struct{}),
		active:   make(map[*request]struct{}),
		waiting:  make(map[*request]time.Time),
	}
	if t.listener == nil {
		cfg.Own.Grace = cfg.Grace
		cfg.Own.Logger, cfg.Own.OnChange = t.log, cfg.OnChange
		t.listener = NewListener(cfg.Own)
	}
	return t
}

// Bind has the listener serve the tunnel, and tries once to bind it. Requests
// that come before Run is called are served.
func (t *Tunnel) Bind() error {
	t.mu.Lock()
	stopped := t.stopped
	t.mu.Unlock()
	if stopped {
		return proxies.ErrStopped
	}
	if err := t.listener.add(t, t.cfg.Listener == nil); err != nil {
		return err
	}
	return t.listener.Bind()
}

// Released is closed when Run accepts no further requests, which is before it
// drains: another tunnel may have the name, and the port if it was the
// tunnel's own, from then on.
func (t *Tunnel) Released() <-chan struct{} { return t.released }

// Leave gives the tunnel's place to another process, like proxies.Tunnel.Leave; a
// shared listener must leave too. calm is closed once the listener has no request
// left: none can be handed over, since the client's TLS is this process's own. What
// was upgraded, such as a shell, the listener does not wait for: after that it goes on
// for the rest of grace.
func (t *Tunnel) Leave(grace time.Duration, _ proxies.Move) (calm <-chan struct{}) {
	t.mu.Lock()
	t.leaveBy = time.Now().Add(grace)
	t.mu.Unlock()
	if t.cfg.Listener == nil {
		t.listener.Leave(grace)
	}
	return t.listener.ended
}

// errRan says that a Tunnel was run twice.
var errRan = errors.New("tunnel was run already")

// Run serves the tunnel until ctx ends. Then it accepts no further requests,
// refuses those that are held, lets the others go on for Grace, ends the rest,
// and returns nil once all have ended. A Tunnel can be run once.
func (t *Tunnel) Run(ctx context.Context) error {
	if t.ran.Swap(true) {
		return errRan
	}
	var listening sync.WaitGroup
	if err := t.Bind(); errors.Is(err, errNameTaken) {
		close(t.released)
		return err
	}
	if t.cfg.Listener == nil {
		listening.Go(func() { _ = t.listener.Run(ctx) }) // it returns nil
	}
	<-ctx.Done()
	t.stop()
	if t.cfg.Listener == nil {
		<-t.listener.Released()
	}
	close(t.released)
	t.drain()
	listening.Wait()
	t.cfg.OnChange()
	return nil
}

// serve serves a request, and reports whether it did: a stopped tunnel does
// not.
func (t *Tunnel) serve(w http.ResponseWriter, r *http.Request) bool {
	q := t.begin(r)
	if q == nil {
		return false
	}
	defer q.finish()
	defer func() { q.survive(recover()) }()
	defer q.hurry(w)()
	q.event(proxies.EventAccepted, nil)
	if q.tooMany != nil {
		q.refuse(w, r, q.tooMany)
		return true
	}
	up, err := q.upstream(w, r)
	if err != nil {
		q.refuse(w, r, err)
		return true
	}
	if !readRaw(r.URL.Path) { // there kubectl does not show it
		t.warn(w, up)
	}
	ctx := httptrace.WithClientTrace(context.WithValue(q.ctx, requestKey{}, q), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			q.turn.leave(nil)
			q.arrived()
		},
	})
	r = r.WithContext(ctx)
	if r.Body != nil && r.ContentLength != 0 {
		r.Body = &counted{ReadCloser: r.Body, q: q, sum: &q.out, total: &t.bytesOut}
	}
	tr := t.transportOf(up)
	defer tr.release()
	q.arrived = q.await(r, tr)
	defer q.arrived()
	tr.proxy.ServeHTTP(w, r) // may panic with http.ErrAbortHandler, which means to hang up
	return true
}

// begin counts a request; nil means that the tunnel has stopped.
func (t *Tunnel) begin(r *http.Request) *request {
	ctx, cancel := context.WithCancelCause(r.Context())
	q := &request{t: t, ctx: ctx, cancel: cancel, watch: isWatch(r)}
	q.client, _ = r.Context().Value(clientKey{}).(*client)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		cancel(proxies.ErrStopped)
		return nil
	}
	t.wg.Add(1)
	q.tooMany = t.cfg.Limits.Enter(len(t.active))
	t.active[q] = struct{}{}
	t.total.Add(1)
	return q
}

// stop takes the tunnel off its listener and refuses the requests that are held.
func (t *Tunnel) stop() {
	t.listener.remove(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	for q := range t.waiting {
		q.cancel(proxies.ErrStopped)
	}
}

// drain ends the watches, whose clients ask again anyway, waits for the other
// requests, and ends them after Grace. After Leave watches, too, go on until their time
// is up.
func (t *Tunnel) drain() {
	t.mu.Lock()
	limit, leaveBy := t.cfg.Grace, t.leaveBy
	t.mu.Unlock()
	if leaveBy.IsZero() {
		t.endThose(proxies.ErrStopped, func(q *request) bool { return q.watch })
	} else {
		limit = time.Until(leaveBy)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.wg.Wait()
	}()
	grace := time.NewTimer(limit)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		t.end(proxies.ErrStopped)
		<-done
	}
	t.mu.Lock()
	tr := t.transport
	t.transport = nil
	t.mu.Unlock()
	if tr != nil {
		tr.retire()
	}
}

// CloseConnections ends every open request now, and the connections to the
// proxy; the tunnel goes on.
func (t *Tunnel) CloseConnections() {
	t.mu.Lock()
	tr := t.transport
	t.transport = nil
	t.mu.Unlock()
	if tr != nil {
		tr.retire()
	}
	t.end(proxies.ErrClosed)
}

// MarkConnections marks every request that has a credential now: Status counts those
// that are still open as Marked. The owner marks what was begun with a credential that
// should no longer be used, once Now and Source no longer return it.
func (t *Tunnel) MarkConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for q := range t.active {
		q.marked = true
	}
}

// CloseMarked ends the requests that are marked.
func (t *Tunnel) CloseMarked() { t.endThose(proxies.ErrClosed, (*request).isMarked) }

func (t *Tunnel) end(cause error) { t.endThose(cause, func(*request) bool { return true }) }

// endThose ends the requests that match; match is called with t.mu held.
func (t *Tunnel) endThose(cause error, match func(*request) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for q := range t.active {
		if match(q) {
			q.cancel(cause)
		}
	}
}

// Status returns how the tunnel is now: its connections are its requests.
func (t *Tunnel) Status() proxies.Status {
	s := proxies.Status{
		PortStatus:       t.listener.Status(),
		TotalConnections: t.total.Load(),
		BytesIn:          t.bytesIn.Load(),
		BytesOut:         t.bytesOut.Load(),
	}
	t.outcome.Fill(&s)
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Count(func(yield func(bool) bool) {
		for q := range t.active {
			if !yield(q.isMarked()) {
				return
			}
		}
	}, maps.Values(t.waiting))
	return s
}

// Clients returns where the connections come from that have a request open, each once.
// What shares a listener cannot be told apart by the port.
func (t *Tunnel) Clients() []netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	addrs := make(map[netip.AddrPort]struct{})
	for q := range t.active {
		if q.client == nil {
			continue
		}
		if tcp, ok := q.client.addr.(*net.TCPAddr); ok {
			addr := tcp.AddrPort()
			addrs[netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())] = struct{}{}
		}
	}
	return slices.Collect(maps.Keys(addrs))
}

// transportOf returns the transport for up, for one request; it must be
// released.
func (t *Tunnel) transportOf(up *Upstream) *transport {
	t.mu.Lock()
	old, tr := t.transport, t.transport
	if tr == nil || tr.up != up {
		tr = newTransport(t, up)
		t.transport = tr
	}
	tr.acquire()
	t.mu.Unlock()
	if old != nil && old != tr {
		old.retire()
	}
	return tr
}

// warn adds a warning to an answer, now and then, when the session is about to
// expire.
func (t *Tunnel) warn(w http.ResponseWriter, up *Upstream) {
	now := time.Now()
	left, within := up.ValidUntil.Sub(now), warnWithin
	if !up.ValidFrom.IsZero() { // else a short session would warn from its beginning
		within = min(within, up.ValidUntil.Sub(up.ValidFrom)/warnPart)
	}
	if up.ValidUntil.IsZero() || left <= 0 || left >= within {
		return
	}
	t.mu.Lock()
	due := now.Sub(t.warned) >= warnEvery
	if due {
		t.warned = now
	}
	t.mu.Unlock()
	if !due {
		return
	}
	text := fmt.Sprintf("the Teleport session of tunnel %s ends in %d min", t.cfg.Name, int(left.Minutes())+1)
	if t.cfg.LoginHint != "" {
		text += "; to go on: " + t.cfg.LoginHint
	}
	w.Header().Add("Warning", warningHeader(text))
}

// noteError remembers why a request failed.
func (t *Tunnel) noteError(err error) {
	t.log.Log(context.Background(), t.outcome.Failed(err), "request failed", "err", err)
}
