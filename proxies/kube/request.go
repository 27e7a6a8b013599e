package kube

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
	"berth/proxies"
)

const (
	// holdPause is how long a client that was held for as long as it may be is not held
	// again, and holdAgain how long its requests may wait all the same: kubectl asks
	// five times what the cluster has before it gives up.
	holdPause = time.Minute
	holdAgain = 500 * time.Millisecond
)

// bodyMax is the longest body that is kept while its request waits, in bytes.
const bodyMax = 1 << 20

// patienceMargin is how long before a client gives up berth answers.
const patienceMargin = 2 * time.Second

// forever is longer than any client waits.
const forever = 24 * time.Hour

type (
	clientKey  struct{} // of a connection's *client, in its context
	requestKey struct{} // of the *request, in its own
)

// client is one client connection.
type client struct {
	addr net.Addr
	conn net.Conn // beneath the TLS

	mu       sync.Mutex // guards everything below
	held     int        // requests of it that are held
	since    time.Time  // when the first of them that got no login began to wait
	timedOut time.Time  // when the hold of one of them last ended without a login
}

// holdEnded notes that the hold of a request, which began at a time, ended without a
// login.
func (c *client) holdEnded(began time.Time) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timedOut.IsZero() || began.Sub(c.timedOut) >= holdPause {
		c.since = began
	}
	c.timedOut = time.Now()
}

// left returns how much of a hold is left for the next request of the client. A
// request with less patience than that, such as one for the server's version, takes
// its own time from it and no more.
func (c *client) left(hold time.Duration) time.Duration {
	if c == nil {
		return hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timedOut.IsZero() || time.Since(c.timedOut) >= holdPause {
		return hold
	}
	return min(hold, max(hold-time.Since(c.since), holdAgain))
}

// request is one request through a tunnel.
type request struct {
	t       *Tunnel
	client  *client
	ctx     context.Context
	cancel  context.CancelCauseFunc
	waited  time.Duration       // how long Source took
	watch   bool                // its answer may end anywhere: the client asks again
	turn    *turn               // of the transport's gate; nil before and for upgrades
	arrived func()              // ends the wait for a connection; see await
	settled bool                // EventConnected or EventRefused was sent
	tooMany *proxies.LimitError // nil: the request may be served

	// served says that the request has a credential, and marked that MarkConnections was
	// called since served was set; both are guarded by t.mu.
	served, marked bool

	in, out atomic.Int64 // bytes to the client, bytes from it

	mu   sync.Mutex // guards everything below
	held bool       // counted in client.held
	err  error      // what broke the answer
}

// finish ends a request, however it went.
func (q *request) finish() {
	t := q.t
	q.mu.Lock()
	err := q.err
	q.mu.Unlock()
	// net/http cancels a request whose client hung up: that is no error.
	if cause := context.Cause(q.ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if q.settled && !q.isRefused() {
		if _, ok := errors.AsType[*proxies.ConnError](err); ok {
			t.noteError(err)
		}
		q.event(proxies.EventClosed, err)
	}
	q.cancel(nil)
	t.mu.Lock()
	delete(t.active, q)
	t.mu.Unlock()
	t.cfg.Limits.Leave()
	t.cfg.OnChange()
	t.wg.Done()
}

// hurry has a request that was ended return soon, although its client may read
// nothing: a write to the client does not see that. The same is true of an upgraded
// connection whose client does not hang up. over is called when the request has
// returned.
func (q *request) hurry(w http.ResponseWriter) (over func()) {
	limit := q.t.listener.refuseTime
	returned, hurried := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(q.ctx, func() {
		defer close(hurried)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit)) // fails on a closed connection only
		if errors.Is(context.Cause(q.ctx), context.Canceled) {
			return // the client has given up the request, and may have others on the connection
		}
		select {
		case <-returned:
		case <-time.After(2 * limit):
			_ = q.client.conn.Close() // not even a frame that resets the stream gets through
		}
	})
	return func() {
		close(returned)
		if !stop() {
			<-hurried
		}
	}
}

// survive is deferred around a request, which a slip ends alone: what was answered is
// cut off.
func (q *request) survive(r any) {
	if r == nil {
		return
	}
	if bug, _ := r.(error); !errors.Is(bug, http.ErrAbortHandler) {
		err := &proxies.PanicError{Value: r}
		q.t.log.Error("[unexpected] panic in a request", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		q.t.noteError(err)
		if q.settled {
			q.setErr(err)
		} else {
			q.event(proxies.EventRefused, err)
			q.setErr(errRefused)
		}
	}
	panic(http.ErrAbortHandler)
}

// upstream waits for a credential.
func (q *request) upstream(w http.ResponseWriter, r *http.Request) (*Upstream, error) {
	q.t.cfg.OnChange()
	if up := q.t.cfg.Now(); up != nil && q.ctx.Err() == nil && q.serves() {
		return up, nil
	}
	if err := q.readBody(w, r); err != nil {
		return nil, err
	}
	limit := q.t.cfg.Hold
	if limit <= 0 {
		limit = proxies.MaxDialTimeout
	}
	limit = min(q.client.left(limit), patience(r))
	began := time.Now()
	var up *Upstream
	hold := proxies.Hold{Limit: limit, Begin: q.hold, End: q.unhold}
	waited, err := hold.Wait(q.ctx, func(ctx context.Context) (err error) {
		for {
			if up, err = q.t.cfg.Source(ctx); err != nil || q.serves() {
				return err
			}
		}
	})
	q.waited = waited
	switch {
	case err == nil:
		return up, nil
	case errors.Is(err, proxies.ErrHoldEnded):
		q.client.holdEnded(began)
	case errors.Is(context.Cause(q.ctx), context.Canceled): // the request's own context
		err = proxies.ErrClientGone
	}
	return nil, err
}

// serves notes that the request has a credential, and reports whether it has. One that
// came while MarkConnections was called may be what is no longer to be used: then
// Source is to be asked again.
func (q *request) serves() bool {
	q.t.mu.Lock()
	defer q.t.mu.Unlock()
	q.served = !q.marked
	q.marked = false
	return q.served
}

// isMarked reports whether MarkConnections was about the request; t.mu is held.
func (q *request) isMarked() bool { return q.served && q.marked }

// await ends the request unless its connection comes in time, and counts it among
// those that wait once a dial has failed. The dial itself is for all requests, and
// goes on. end is called when there is a connection, and when none will come.
func (q *request) await(r *http.Request, tr *transport) (end func()) {
	began := time.Now().Add(-q.waited)
	limit := q.limit(r)
	ctx, cancel := context.WithTimeoutCause(q.ctx, limit, proxies.ErrHoldEnded)
	done := make(chan struct{})
	late := time.AfterFunc(min(limit, proxies.HeldAfter-q.waited), func() { // most requests have one by then
		defer close(done)
		tr.tried.Until(ctx, forever, func() bool { return tr.failure() != nil })
		if wake.Sleep(ctx, proxies.HeldAfter-time.Since(began)) {
			q.hold(began)
			<-ctx.Done()
			q.unhold()
		}
		if errors.Is(context.Cause(ctx), proxies.ErrHoldEnded) {
			q.client.holdEnded(began)
			q.cancel(cmp.Or(tr.failure(), errSlowDial))
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		if !late.Stop() {
			<-done
		}
	})
}

// errSlowDial says that there was no connection in the time that a client has, and
// that no dial has failed yet.
var errSlowDial = fmt.Errorf("dial: %w", context.DeadlineExceeded)

// limit returns how long the request may wait for a connection. The hold's last
// moments are enough for a dial.
func (q *request) limit(r *http.Request) time.Duration {
	limit := forever
	if hold := q.t.cfg.Hold; hold > 0 {
		if limit = q.client.left(hold); limit == hold {
			limit = max(hold-q.waited, proxies.MaxDialTimeout)
		}
	}
	most := patience(r)
	return min(limit, max(most-q.waited, min(most, holdAgain)))
}

// readBody keeps the body of a request that may wait. Over HTTP/1 net/http notices a
// client's hang-up only once it has no body left to read.
func (q *request) readBody(w http.ResponseWriter, r *http.Request) error {
	if r.ProtoMajor != 1 || r.ContentLength <= 0 || r.ContentLength > bodyMax {
		return nil
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(headerTimeout)) // fails on a closed connection only
	stop := context.AfterFunc(q.ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	body, err := io.ReadAll(r.Body)
	if err == nil && stop() {
		_ = conn.SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		return nil
	}
	if cause := context.Cause(q.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return proxies.ErrClientGone
}

// patience is how long the client waits for an answer: it says so in the query,
// as kubectl does when it asks what the cluster has. In a watch's query the same
// key says how long the watch should last.
func patience(r *http.Request) time.Duration {
	if isWatch(r) {
		return forever
	}
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 {
		return forever
	}
	return max(d-patienceMargin, d/2)
}

// isWatch reports whether the request is for a stream of changes, as API servers read
// it: by the first value, where all but two mean yes. Python's client says True. Source:
// k8s.io/apimachinery, pkg/runtime, Convert_Slice_string_To_bool.
func isWatch(r *http.Request) bool {
	watch := r.URL.Query()["watch"]
	return len(watch) > 0 && watch[0] != "0" && !strings.EqualFold(watch[0], "false")
}

// hold counts the request among those that wait.
func (q *request) hold(since time.Time) {
	q.t.mu.Lock()
	q.t.waiting[q] = since
	stopped := q.t.stopped
	q.t.mu.Unlock()
	if stopped { // stop did not find q among the waiting
		q.cancel(proxies.ErrStopped)
	}
	if err := q.t.cfg.Limits.Hold(); err != nil {
		q.cancel(err)
	}
	q.mu.Lock()
	again := q.held // for a credential, and now for a connection
	q.held = true
	q.mu.Unlock()
	if q.client != nil && !again {
		q.client.mu.Lock()
		q.client.held++
		first := q.client.held == 1
		q.client.mu.Unlock()
		if first {
			q.send(proxies.EventWaiting, nil)
		}
	}
	q.t.cfg.OnChange()
}

// unhold takes the request from among those that wait.
func (q *request) unhold() {
	q.t.mu.Lock()
	delete(q.t.waiting, q)
	q.t.mu.Unlock()
	q.t.cfg.Limits.Unhold()
	q.t.cfg.OnChange()
}

// refuse answers the client with why it is not served.
func (q *request) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, proxies.ErrClientGone) {
		q.event(proxies.EventClosed, err)
		panic(http.ErrAbortHandler) // else net/http would say that all went well
	}
	if !errors.Is(err, proxies.ErrStopped) && !errors.Is(err, proxies.ErrClosed) {
		q.t.noteError(err)
	}
	q.event(proxies.EventRefused, err)
	q.setErr(errRefused)
	q.t.cfg.Refuse(err).write(w, r)
}

// errRefused marks a request whose last event was EventRefused.
var errRefused = errors.New("refused")

func (q *request) isRefused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return errors.Is(q.err, errRefused)
}

func (q *request) setErr(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
}

// event reports a step. While other requests of the same connection are held,
// only theirs are reported.
func (q *request) event(kind proxies.EventKind, err error) {
	if kind == proxies.EventConnected || kind == proxies.EventRefused {
		q.settled = true
	}
	if q.client == nil || kind == proxies.EventWaiting {
		return
	}
	q.mu.Lock()
	held := q.held
	q.held = false
	q.mu.Unlock()
	q.client.mu.Lock()
	if held {
		q.client.held--
	}
	others := q.client.held > 0
	q.client.mu.Unlock()
	if !others {
		q.send(kind, err)
	}
}

func (q *request) send(kind proxies.EventKind, err error) {
	e := proxies.Event{At: time.Now(), Kind: kind, Client: q.client.addr, Err: err, Waited: q.waited}
	if kind == proxies.EventClosed {
		e.BytesIn, e.BytesOut = q.in.Load(), q.out.Load()
	}
	q.t.cfg.OnEvent(e)
}

// counted is a body whose bytes are counted. When fromUpstream, an end other
// than the body's broke the answer; to the client of a watch it looks
// like any other end of a watch, after which it asks again.
type counted struct {
	io.ReadCloser
	q            *request
	sum, total   *atomic.Int64
	fromUpstream bool
}

// Read counts.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sum.Add(int64(n))
	c.total.Add(int64(n))
	if !c.fromUpstream || err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if c.q.ctx.Err() == nil {
		c.q.setErr(&proxies.ConnError{Side: proxies.SideUpstream, Op: "read", Err: err})
	}
	if c.q.watch {
		err = io.EOF // also when it is berth that ends it
	}
	return n, err
}

// countedStream is the same for an upgraded connection, which is written to.
type countedStream struct {
	counted
	io.Writer
}

// Write counts.
func (c *countedStream) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.q.out.Add(int64(n))
	c.q.t.bytesOut.Add(int64(n))
	return n, err
}

// CloseWrite passes on that the client has ended its half.
func (c *countedStream) CloseWrite() error {
	if half, ok := c.Writer.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return http.ErrNotSupported
}

// warningHeader is a Warning that says text. Source: RFC 7234, 5.5, and how
// Kubernetes uses it: code 299, no agent.
func warningHeader(text string) string {
	text = strings.ReplaceAll(cleanText(text), "\n", " ")
	return "299 - " + strconv.Quote(text)
}
