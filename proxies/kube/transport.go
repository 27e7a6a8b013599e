package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
	"berth/proxies"
)

const (
	// streamEnds is when the stream of a canceled request is gone for sure.
	streamEnds = time.Second
	// idleConnTimeout is how long a connection to the proxy is kept warm.
	idleConnTimeout = 5 * time.Minute
	// pingAfter and pingTimeout find a dead HTTP/2 connection, as after a
	// suspend, within half a minute.
	pingAfter   = 20 * time.Second
	pingTimeout = 8 * time.Second
	// streamBuffer is how much of one answer is taken ahead of its client.
	streamBuffer = 1 << 20
	copyBuffer   = 32 << 10
)

// Dialer opens a TLS connection to the cluster that offers these versions of
// HTTP, the best first. The conn is a *tls.Conn. It must give up when ctx ends,
// and by itself when it takes too long, as a proxies.Dial.
type Dialer func(ctx context.Context, versions ...string) (net.Conn, error)

// transport carries requests with one credential: ordinary ones over a
// connection they share, upgrades over connections of their own.
type transport struct {
	up      *Upstream
	proxy   *httputil.ReverseProxy
	shared  *http.Transport
	upgrade *http.Transport
	gate    gate
	ctx     context.Context // ends when no request can want a connection any more
	end     func()

	tried wake.Broadcast // a dial has failed

	mu      sync.Mutex // guards everything below
	open    int        // requests
	dials   int        // under way
	retired bool       // it gets no further request: close what is idle
	failed  error      // of the last dial; nil when none is under way any more and another begins
}

func newTransport(t *Tunnel, up *Upstream) *transport {
	tr := &transport{up: up}
	tr.ctx, tr.end = context.WithCancel(context.Background())
	dial := func(versions ...string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			return t.dial(ctx, tr, versions)
		}
	}
	tr.shared = &http.Transport{
		DialTLSContext:     dial("h2", "http/1.1"),
		ForceAttemptHTTP2:  true,
		DisableCompression: true, // answers are passed on as they are
		IdleConnTimeout:    idleConnTimeout,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, MaxReceiveBufferPerStream: streamBuffer,
		},
	}
	tr.upgrade = &http.Transport{
		DialTLSContext:     dial("http/1.1"),
		TLSNextProto:       map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/2 knows no upgrades
		DisableCompression: true,
		DisableKeepAlives:  true, // a server that refuses an upgrade may have stopped speaking HTTP on it
	}
	tr.proxy = &httputil.ReverseProxy{
		Transport:     tr,
		FlushInterval: -1,
		BufferPool:    &buffers,
		Rewrite:       t.rewrite,
		ModifyResponse: func(resp *http.Response) error {
			return t.answered(resp)
		},
		ErrorHandler: t.failed,
		ErrorLog:     slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
	}
	return tr
}

// dial opens a connection, and tries again as long as a client may be held, a request
// wants the connection, and it may help.
func (t *Tunnel) dial(ctx context.Context, tr *transport, versions []string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx) // which an http.Transport does not end with the request
	defer cancel()
	defer context.AfterFunc(tr.ctx, cancel)()
	tr.dialBegins()
	defer tr.dialEnds()
	for began, pauses := time.Now(), proxies.NewPauses(); ; {
		conn, err := tr.up.Dial(ctx, versions...)
		tr.note(err)
		if err == nil || time.Since(began) >= t.cfg.Hold || !tr.wants(ctx) || !t.cfg.Again(err) || !pauses.Wait(ctx) {
			return conn, err
		}
	}
}

// RoundTrip sends a request the way it needs.
func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		return tr.upgrade.RoundTrip(r)
	}
	return tr.gate.roundTrip(tr.shared, r)
}

// dialBegins forgets how a dial has ended that no other has followed: how the way is now
// is not known.
func (tr *transport) dialBegins() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.dials == 0 {
		tr.failed = nil
	}
	tr.dials++
}

func (tr *transport) dialEnds() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.dials--
}

// wants reports whether a request still wants the connection that is dialled with ctx:
// the one that it is dialled for, or any, if no other dial is under way. What requests
// that have given up leave behind is one dial at most.
func (tr *transport) wants(ctx context.Context) bool {
	q := requestOf(ctx)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.open > 0 && (tr.dials == 1 || q.ctx.Err() == nil)
}

// note keeps how a dial has ended.
func (tr *transport) note(err error) {
	tr.mu.Lock()
	tr.failed = err
	tr.mu.Unlock()
	if err != nil {
		tr.tried.Wake()
	}
}

// failure returns the error of the last dial; nil while none has failed since one
// succeeded.
func (tr *transport) failure() error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.failed
}

func (tr *transport) acquire() {
	tr.mu.Lock()
	tr.open++
	tr.mu.Unlock()
}

func (tr *transport) release() {
	tr.mu.Lock()
	tr.open--
	last := tr.retired && tr.open == 0
	tr.mu.Unlock()
	if last {
		tr.end()
		tr.closeIdle()
		// The stream of a request that was canceled ends a moment after it, and
		// keeps its connection from being idle until then.
		time.AfterFunc(streamEnds, tr.closeIdle)
	}
}

// retire has the connections closed once no request uses them.
func (tr *transport) retire() {
	tr.mu.Lock()
	tr.retired = true
	last := tr.open == 0
	tr.mu.Unlock()
	if last {
		tr.end()
	}
	tr.closeIdle()
}

func (tr *transport) closeIdle() {
	tr.shared.CloseIdleConnections()
	tr.upgrade.CloseIdleConnections()
}

// gate lets requests get their connection one after the other: when forty come
// at once and there is none yet, one dials and all share what it gets, be it a
// connection or an error. With a warm connection a request is through at once.
type gate struct {
	mu  sync.Mutex // guards cur
	cur *turn      // of the request that is getting its connection
}

// turn is a request's, until it has its connection.
type turn struct {
	gate *gate
	done chan struct{} // closed when it is over
	over atomic.Bool
	err  error // why there is no connection; read-only after done
}

// roundTrip sends r once it is its turn, which is over when r's trace has seen
// a connection.
func (g *gate) roundTrip(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
	mine, err := g.enter(r.Context())
	if err != nil {
		return nil, err
	}
	requestOf(r.Context()).turn = mine
	resp, err := rt.RoundTrip(r)
	if err != nil && r.Context().Err() == nil {
		mine.leave(err)
	}
	mine.leave(nil) // a request that gives up is no failure of the connection
	return resp, err
}

func (g *gate) enter(ctx context.Context) (*turn, error) {
	for {
		g.mu.Lock()
		cur := g.cur
		if cur == nil {
			cur = &turn{gate: g, done: make(chan struct{})}
			g.cur = cur
			g.mu.Unlock()
			return cur, nil
		}
		g.mu.Unlock()
		select {
		case <-cur.done:
			if cur.err != nil { // forty dials in a row would fail the same way
				return nil, cur.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leave ends the turn; only the first counts. It may be nil: an upgrade's
// connection is its own.
func (t *turn) leave(err error) {
	if t == nil || t.over.Swap(true) {
		return
	}
	t.gate.mu.Lock()
	t.gate.cur = nil
	t.gate.mu.Unlock()
	t.err = err
	close(t.done)
}

// rewrite makes the outgoing request: the same one.
func (t *Tunnel) rewrite(pr *httputil.ProxyRequest) {
	out, in := pr.Out, pr.In
	out.URL.Scheme, out.URL.Host = "https", Domain // where to is the dialer's business
	out.Host = in.Host
	out.URL.RawQuery = in.URL.RawQuery
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := in.Header[h]; ok {
			out.Header[h] = v
		}
	}
	if t.cfg.As != "" || len(t.cfg.AsGroups) > 0 {
		t.impersonate(out.Header)
	}
}

// impersonate names the Kubernetes user and groups, unless the client does.
func (t *Tunnel) impersonate(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			return
		}
	}
	if t.cfg.As != "" {
		h.Set("Impersonate-User", t.cfg.As)
	}
	for _, group := range t.cfg.AsGroups {
		h.Add("Impersonate-Group", group)
	}
}

// answered looks at an answer before it is passed on.
func (t *Tunnel) answered(resp *http.Response) error {
	q := requestOf(resp.Request.Context())
	q.event(proxies.EventConnected, nil)
	redirectBelow(resp)
	if err := explainForbidden(resp, t.cfg.ForbiddenHint); err != nil {
		return err
	}
	body := counted{ReadCloser: resp.Body, q: q, sum: &q.in, total: &t.bytesIn, fromUpstream: true}
	if stream, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &countedStream{counted: body, Writer: stream}
		return nil
	}
	resp.Body = &body
	return nil
}

// failed answers a request whose way to the cluster failed.
func (t *Tunnel) failed(w http.ResponseWriter, r *http.Request, err error) {
	q := requestOf(r.Context())
	q.arrived()
	cause := context.Cause(q.ctx)
	switch {
	case errors.Is(cause, context.Canceled):
		err = proxies.ErrClientGone
	case cause != nil:
		err = cause
	default:
		if u, ok := errors.AsType[*url.Error](err); ok { // says nothing but what was asked for
			err = u.Err
		}
	}
	q.refuse(w, r, err)
}

func requestOf(ctx context.Context) *request {
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok { // every request of a tunnel has one
		panic("kube: a request without its tunnel")
	}
	return q
}

// buffers are for copying answers: shared by all tunnels.
var buffers bufferPool

type bufferPool struct{ pool sync.Pool }

// Get returns a buffer.
func (b *bufferPool) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, copyBuffer)
}

// Put takes it back.
func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }
