package proxies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"berth/proxies/internal/early"
)

const (
	// earlyMax is how much is read ahead of a client that is not connected
	// yet, to notice when it hangs up; a greeting is a few hundred bytes.
	earlyMax = 16 << 10
	// refuseTimeout is how long Config.Refuse may take, unless it gives itself more.
	refuseTimeout = 4 * time.Second
	// restAfter is how long an answer may pause without having ended.
	restAfter = 200 * time.Millisecond
	// lingerTimeout is how long a refused client may take to hang up.
	lingerTimeout = 500 * time.Millisecond
	// firstWords is how long a client may take to speak after its upstream has hung
	// up: before that it may have been too late.
	firstWords = 500 * time.Millisecond
)

// conn is one client connection.
//
// It has two goroutines. serve finds the upstream and then copies from it to
// the client. readClient reads the client from the first moment: until there is
// an upstream it keeps what it reads, and so notices when the client hangs up;
// then it forwards.
type conn struct {
	t      *Tunnel
	tcp    *net.TCPConn            // the client's socket
	client Front                   // the client: tcp, or what Config.Front put before it
	cancel context.CancelCauseFunc // ends Source and Dial

	tooMany *LimitError // nil: the client may be served
	reading bool        // readClient was started; serve's

	// settled is closed when upstream is set, or stays nil for good.
	settled    chan struct{}
	upstream   net.Conn      // read-only after settled
	ear        Ear           // read-only after settled; nil: none hears
	ends       time.Time     // of the cert that upstream was opened with; read-only after settled; zero: not known
	rest       Rest          // read-only after settled; nil: the connection is not recycled
	clientDone chan struct{} // closed when readClient has returned
	copyDone   chan struct{} // closed when nothing more comes from upstream
	finished   chan struct{} // closed when serve has returned

	// early is what the client has sent before its first answer, with or
	// without an upstream, so that Refuse can read it again. talked means that
	// early is not kept: the client has an answer, or has sent too much.
	// readClient owns both, and serve after readClient has returned.
	early  []byte
	talked bool
	// spokeOut means that the upstream has ended, and had spoken. serve alone uses it.
	spokeOut bool
	pauses   chan pause // for the reader, before the connection is settled; see leave
	// move hands the client over with early and ahead, which Front has read; serve
	// owns both after readClient has returned because of errMoved.
	move  Move
	ahead []byte
	// waited is how long Source took; serve owns it.
	waited time.Duration

	// served says that the client has a way to dial, or an upstream, and marked that
	// MarkConnections was called since served was set; both are guarded by t.mu.
	served, marked bool

	in, out   atomic.Int64 // bytes from upstream, bytes from the client
	asked     atomic.Int64 // when the client spoke last, in Tunnel.now
	answered  atomic.Int64 // when the upstream did
	clientEOF atomic.Bool  // the client has ended its half
	unread    atomic.Bool  // readClient must leave the rest to serve
	heard     atomic.Bool  // ear has heard enough
	hurried   atomic.Bool  // the next rest is the last

	reader  atomic.Pointer[reader] // the client's, once there is an upstream
	restMu  sync.Mutex             // guards the calls of rest, and the three below
	parted  bool                   // the client has had its farewell
	telling bool                   // rest has followed an answer that is still being written
	told    int64                  // when the last answer had reached the client's socket, in Tunnel.now

	mu     sync.Mutex // guards everything below
	open   net.Conn   // upstream, to be closed by shut
	closed bool
	cause  error // the first thing that went wrong
}

// serve sees the connection through, from the dial to the end.
func (c *conn) serve(ctx context.Context) {
	if guard := c.t.cfg.Guard; guard != nil {
		if err := guard(c.tcp); err != nil {
			c.turnAway(&TurnedAwayError{err})
			return
		}
	}
	c.reading = true
	go c.readClient()
	if c.tooMany != nil {
		c.refuse(c.tooMany)
		return
	}
	up, err := c.connect(ctx)
	if err == nil {
		err = c.adopt(ctx, up)
	}
	if err != nil {
		c.refuse(err)
		return
	}
	if listen := c.t.cfg.Listen; listen != nil {
		c.ear = listen()
	}
	if !c.ends.IsZero() {
		c.rest = c.t.cfg.Recycle(c.ends)
	}
	c.answered.Store(c.t.now())
	c.t.spoke.Wake()
	c.settle()
	c.event(EventConnected, nil, c.waited)
	if c.rest != nil {
		ctx, end := context.WithCancel(context.WithoutCancel(ctx)) // a tunnel that has left is stopped, too
		defer end()
		c.t.wg.Go(func() {
			defer func() { _ = c.survive(recover()) }()
			c.recycle(ctx)
		})
	}

	c.readUpstream()
	close(c.copyDone)
	// Only half of the connection has ended: the client may send for long yet,
	// unless there is a refusal that it should read.
	if c.unanswered() {
		c.answer()
	} else {
		awaitHalf(c, c.clientDone, &c.out)
	}
	c.shut(nil)
	<-c.clientDone
	if c.spokeOut && c.overhears() { // only now is it known what the client said
		c.noteAnswer(c.ear.Ended())
	}

	// Clients come and go as they like, and what a stranger meets with says
	// nothing of the tunnel; what the upstream breaks is the tunnel's.
	err = c.outcome()
	if strange := c.strange(); strange != nil && !errors.Is(err, ErrRecycled) && !errors.Is(err, ErrCertEnded) {
		err = strange
	}
	var broken *ConnError
	if errors.Is(err, ErrClosedEarly) || errors.As(err, &broken) && broken.Side == SideUpstream {
		c.t.noteError(err)
	}
	c.event(EventClosed, err, c.waited)
}

// connect waits for a credential, then dials, and again as long as the client may
// be held and it may help.
func (c *conn) connect(ctx context.Context) (net.Conn, error) {
	cfg := &c.t.cfg
	limit := cfg.Hold
	if limit <= 0 {
		limit = MaxDialTimeout
	}
	began, pauses := time.Now(), NewPauses()
	for {
		var dial Dial
		hold := Hold{Limit: limit - time.Since(began), Begin: c.markWaiting, End: c.unmarkWaiting}
		waited, err := hold.Wait(ctx, func(ctx context.Context) (err error) {
			dial, err = c.way(ctx)
			return err
		})
		c.waited += waited
		if err != nil {
			return nil, err
		}
		up, err := dial(ctx)
		if err == nil {
			return up, nil
		}
		err = because(context.Cause(ctx), fmt.Errorf("dial: %w", err))
		if cfg.Hold <= 0 || time.Since(began) >= cfg.Hold || ctx.Err() != nil || !cfg.Again(err) {
			return nil, err
		}
		if !pauses.Wait(ctx) {
			return nil, because(context.Cause(ctx), err)
		}
	}
}

// way waits for a way to dial. One that comes while MarkConnections is called may be
// what is no longer to be used: then Source is asked again.
func (c *conn) way(ctx context.Context) (Dial, error) {
	c.serves(false)
	for {
		dial, err := c.t.cfg.Source(ctx)
		if err != nil || c.serves(true) {
			return dial, err
		}
	}
}

// serves notes whether the client has a way to dial, and reports whether it has: not if
// MarkConnections was called while it had none.
func (c *conn) serves(has bool) bool {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.served = has && !c.marked
	c.marked = false
	return c.served
}

// isMarked reports whether MarkConnections was about the connection; t.mu is held.
func (c *conn) isMarked() bool { return c.served && c.marked }

// adopt makes up the upstream and has shut close it too, or closes it at once when
// shut was faster.
func (c *conn) adopt(ctx context.Context, up net.Conn) error {
	if h, ok := up.(*handed); ok {
		up, c.ends = h.Conn, h.ends
		if h.begun != nil {
			up = &waited{begun: h.begun, cur: h.Conn, again: func() (net.Conn, error) {
				return c.connect(context.WithValue(ctx, newOnly{}, true))
			}}
		}
	}
	if tcp, ok := up.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(KeepAlive) // fails on a dead connection only
	}
	c.mu.Lock()
	closed, cause := c.closed, c.cause
	if !closed {
		c.open, c.upstream = up, up
	}
	c.mu.Unlock()
	if closed {
		_ = up.Close() // nothing was sent
		return cause
	}
	return nil
}

// markWaiting counts the client among the held. One that had an upstream already
// has no further step in its life.
func (c *conn) markWaiting(since time.Time) {
	c.t.mu.Lock()
	c.t.waiting[c] = since
	c.t.mu.Unlock()
	if c.upstream == nil {
		c.event(EventWaiting, nil, 0)
	}
	c.t.cfg.OnChange()
	if c.clientEOF.Load() {
		c.fail(ErrClientGone)
		c.cancel(ErrClientGone)
	}
	if err := c.t.cfg.Limits.Hold(); err != nil {
		c.cancel(err)
	}
}

func (c *conn) unmarkWaiting() {
	c.t.mu.Lock()
	delete(c.t.waiting, c)
	c.t.mu.Unlock()
	c.t.cfg.Limits.Unhold()
	c.t.cfg.OnChange()
}

// refuse ends a connection that never got an upstream.
func (c *conn) refuse(err error) {
	c.settle()
	<-c.clientDone
	if errors.Is(err, errMoved) {
		if moving := c.moveAway(); moving != nil {
			err = fmt.Errorf("%w, and this client could not be handed over: %w", ErrStopped, moving)
		}
	}
	if errors.Is(err, ErrClientGone) || errors.Is(err, ErrClosed) || errors.Is(err, errMoved) {
		c.shut(nil)
		c.event(EventClosed, err, c.waited)
		return
	}
	if !errors.Is(err, ErrStopped) {
		c.t.noteError(err)
	}
	c.explain(err)
	c.event(EventRefused, err, c.waited)
	c.linger()
	c.shut(nil)
}

// explain has Refuse answer the client.
func (c *conn) explain(why error) {
	if refuse := c.t.cfg.Refuse; refuse != nil {
		_ = c.client.SetDeadline(time.Now().Add(refuseTimeout))
		refuse(&early.Conn{Conn: c.client, Said: c.early}, why)
	}
}

// answer refuses a client whose upstream hung up instead of answering, as if
// there had been no upstream: Refuse reads the client from its first byte.
func (c *conn) answer() {
	c.unread.Store(true)
	_ = c.upstream.Close() // it is gone; a write to it need not find out
	c.wakeReader()
	<-c.clientDone
	if c.talked {
		return
	}
	c.listenShortly()
	if c.strange() != nil {
		return
	}
	c.explain(c.outcome())
	c.linger()
}

// listenShortly has the ear hear the client's first words where the upstream was
// faster: what its hanging up means depends on who the client is.
func (c *conn) listenShortly() {
	if c.ear == nil || len(c.early) > 0 {
		return
	}
	_ = c.client.SetReadDeadline(time.Now().Add(firstWords)) // fails on a closed connection only
	buf := make([]byte, 512)
	n, _ := c.client.Read(buf) // why it has no words does not matter
	c.early = buf[:n]
	c.ear.Client(c.early)
}

// unanswered reports whether the upstream hung up instead of answering, and
// Refuse can say so.
func (c *conn) unanswered() bool {
	return c.t.cfg.Refuse != nil && errors.Is(c.outcome(), ErrClosedEarly)
}

// turnAway closes a connection that the guard rejected, without a word.
func (c *conn) turnAway(err error) {
	close(c.settled)
	close(c.clientDone)
	c.shut(nil)
	if errors.Is(err, ErrClientGone) {
		c.event(EventClosed, ErrClientGone, 0)
		return
	}
	c.event(EventRefused, err, 0)
}

// linger lets the client read what Refuse wrote: closing a socket with unread
// data would reset it.
func (c *conn) linger() {
	if c.client.CloseWrite() != nil {
		return
	}
	_ = c.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, c.client, 1<<20)
}

// shut closes both ends, for cause; nil means in the usual way.
func (c *conn) shut(cause error) {
	c.fail(cause)
	c.cancel(cause)
	c.mu.Lock()
	c.closed = true
	up := c.open
	c.mu.Unlock()
	_ = c.tcp.Close() // errors when closed already
	if up != nil {
		_ = up.Close()
	}
}

// fail remembers the first thing that went wrong.
func (c *conn) fail(cause error) {
	c.mu.Lock()
	if c.cause == nil && !c.closed {
		c.cause = cause
	}
	c.mu.Unlock()
}

// restIn returns when the connection is at rest: the upstream was the last to
// speak, and has been silent for restAfter since. answered is false while the
// client is owed an answer, or has no upstream yet.
func (c *conn) restIn() (left time.Duration, answered bool) {
	c.mu.Lock()
	connected := c.open != nil
	c.mu.Unlock()
	last := c.answered.Load()
	return c.t.restAfter - time.Duration(c.t.now()-last), connected && last >= c.asked.Load()
}

// outcome is why the connection ended. An upstream that refuses the client's
// words may have answered before: then it has not hung up without a word.
func (c *conn) outcome() error {
	err := c.why()
	switch {
	case !errors.Is(err, ErrClosedEarly):
		return err
	case c.in.Load() > 0:
		return nil
	case c.ear != nil && c.ear.Probe():
		return fmt.Errorf("%w, %w", err, ErrProbe)
	default:
		return err
	}
}

func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// settle lets readClient know what came of the connection.
func (c *conn) settle() {
	c.client.Decide()
	close(c.settled)
	c.wakeReader()
}

// wakeReader ends readClient's current read: there is news in settled.
func (c *conn) wakeReader() { _ = c.client.SetReadDeadline(time.Unix(1, 0)) }

// woken reports whether a read ended because of wakeReader.
func woken(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func (c *conn) event(kind EventKind, err error, waited time.Duration) {
	e := Event{At: time.Now(), Kind: kind, Client: c.tcp.RemoteAddr(), Err: err, Waited: waited}
	if kind == EventClosed {
		e.BytesIn, e.BytesOut = c.in.Load(), c.out.Load()
	}
	c.t.cfg.OnEvent(e)
}
