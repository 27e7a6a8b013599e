// Package relay puts distance between two programs on one machine: a TCP relay
// on loopback that delays what passes, for tests and benchmarks. It counts how
// often a connection had to wait for the other side.
package relay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

// Config says what a relay does to what passes.
type Config struct {
	// To is the address that it leads to.
	To string
	// Listen is where it listens; empty means a free port of loopback.
	Listen string
	// Delay is how long a byte takes, in each direction: half a round trip. To
	// connect takes a round trip too, as TCP's own handshake does.
	Delay time.Duration
	// Stall is the share of pieces that take StallFor longer, with everything
	// behind them, as after a lost packet: 0.01 is one in a hundred.
	Stall    float64
	StallFor time.Duration
}

// Connection is what passed over one connection so far.
type Connection struct {
	Began time.Time
	Open  bool
	// Turns is how often the client spoke after it had been silent or spoken to:
	// with the one for connecting, the round trips that it may have waited for.
	Turns int
	// Sent and Received count the client's bytes and those it got.
	Sent, Received int64
}

// Relay is a listening relay.
type Relay struct {
	cfg   Config
	delay atomic.Int64    // of Config, and SetDelay
	ctx   context.Context // ended by Close
	stop  context.CancelFunc
	wg    sync.WaitGroup

	thawed wake.Broadcast
	mu     sync.Mutex // guards everything below
	addr   string
	listen net.Listener // nil while it refuses
	held   bool
	links  []*link
}

// Start listens.
func Start(cfg Config) (*Relay, error) {
	ctx, stop := context.WithCancel(context.Background())
	r := &Relay{cfg: cfg, ctx: ctx, stop: stop, addr: cmp.Or(cfg.Listen, "127.0.0.1:0")}
	r.delay.Store(int64(cfg.Delay))
	if err := r.Refuse(false); err != nil {
		stop()
		return nil, err
	}
	return r, nil
}

// Addr is where the relay listens.
func (r *Relay) Addr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addr
}

// Refuse has new connections refused, or accepted again, at the same address. What
// is open stays.
func (r *Relay) Refuse(on bool) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on == (r.listen == nil) {
		return nil
	}
	if on {
		err = r.listen.Close()
		r.listen = nil
		return err
	}
	l, err := new(net.ListenConfig).Listen(r.ctx, "tcp", r.addr)
	if err != nil {
		return err
	}
	r.listen, r.addr = l, l.Addr().String()
	r.wg.Go(func() { r.accept(l) })
	return nil
}

// Hold keeps every byte back, of new connections too, or lets all of them go on.
func (r *Relay) Hold(on bool) {
	r.mu.Lock()
	r.held = on
	r.mu.Unlock()
	r.thawed.Wake()
}

// SetDelay changes how long a byte takes from now on.
func (r *Relay) SetDelay(d time.Duration) { r.delay.Store(int64(d)) }

// flows waits until nothing is held, and reports whether the connection still is.
func (r *Relay) flows(ctx context.Context) bool {
	for {
		changed := r.thawed.Changed()
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		if !held {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Connections returns all connections that there were, in the order in which
// they came.
func (r *Relay) Connections() []Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Connection, 0, len(r.links))
	for _, l := range r.links {
		list = append(list, l.now())
	}
	return list
}

// Cut resets the open connections and returns how many there were.
func (r *Relay) Cut() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, l := range r.links {
		if l.cut() {
			n++
		}
	}
	return n
}

// Close stops listening, cuts what is open, and returns when all has ended.
func (r *Relay) Close() {
	r.stop()
	_ = r.Refuse(true) // it was open
	r.Cut()
	r.wg.Wait()
}

func (r *Relay) accept(listen net.Listener) {
	for {
		c, err := listen.Accept()
		if err != nil {
			return
		}
		l := &link{r: r, near: c.(*net.TCPConn), began: time.Now()}
		l.ctx, l.over = context.WithCancel(r.ctx)
		r.mu.Lock()
		r.links = append(r.links, l)
		r.mu.Unlock()
		r.wg.Go(l.run)
	}
}

// link is one connection.
type link struct {
	r     *Relay
	near  *net.TCPConn
	began time.Time
	ctx   context.Context // ends when both ways have ended, or were cut
	over  context.CancelFunc

	turns          atomic.Int64
	sent, received atomic.Int64
	asked          atomic.Bool // the client was the last to speak

	mu  sync.Mutex // guards everything below
	far *net.TCPConn
	end bool
}

func (l *link) now() Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Connection{
		Began: l.began, Open: !l.end,
		Turns: int(l.turns.Load()), Sent: l.sent.Load(), Received: l.received.Load(),
	}
}

// cut resets both ends, and reports whether they were open.
func (l *link) cut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end {
		return false
	}
	l.end = true
	l.over()
	for _, c := range []*net.TCPConn{l.near, l.far} {
		if c != nil {
			_ = c.SetLinger(0) // these fail on a closed connection only
			_ = c.Close()
		}
	}
	return true
}

// run connects and passes on both ways until they have ended.
func (l *link) run() {
	delay := l.delay()
	wake.Sleep(l.ctx, delay)
	c, err := new(net.Dialer).DialContext(l.ctx, "tcp", l.r.cfg.To)
	if err != nil {
		l.cut()
		return
	}
	l.mu.Lock()
	if l.end {
		l.mu.Unlock()
		_ = c.Close() // nothing was sent
		return
	}
	l.far = c.(*net.TCPConn)
	l.mu.Unlock()
	// A client's socket is connected before the far side is: what it sends is as
	// late as if it had waited for TCP's handshake.
	connected := l.began.Add(2 * delay)
	var ways sync.WaitGroup
	ways.Go(func() { l.pass(l.far, l.near, connected, l.noteSent) })
	ways.Go(func() { l.pass(l.near, l.far, connected, l.noteReceived) })
	ways.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end {
		return
	}
	l.end = true
	l.over()
	_ = l.near.Close()
	_ = l.far.Close()
}

func (l *link) delay() time.Duration { return time.Duration(l.r.delay.Load()) }

func (l *link) noteSent(n int) {
	if !l.asked.Swap(true) {
		l.turns.Add(1)
	}
	l.sent.Add(int64(n))
}

func (l *link) noteReceived(n int) {
	l.asked.Store(false)
	l.received.Add(int64(n))
}

// piece is what was read at once, and when it is due at the other side. An empty
// one is the end.
type piece struct {
	bytes []byte
	due   time.Time
}

// underWay is how many pieces may be on the way at once: 64 MB, more than a fast
// line holds in the longest delay that is measured.
const underWay, pieceMax = 1024, 64 << 10

// pass reads from one end, and writes to the other as the distance has it.
func (l *link) pass(to, from *net.TCPConn, connected time.Time, note func(n int)) {
	pieces := make(chan piece, underWay)
	go func() {
		defer close(pieces)
		buf := make([]byte, pieceMax)
		for {
			n, err := from.Read(buf)
			sent := time.Now()
			if sent.Before(connected) {
				sent = connected
			}
			due := sent.Add(l.delay())
			if n > 0 {
				note(n)
				if l.r.cfg.Stall > 0 && rand.Float64() < l.r.cfg.Stall {
					due = due.Add(l.r.cfg.StallFor)
				}
				if !l.put(pieces, piece{append([]byte(nil), buf[:n]...), due}) {
					return
				}
			}
			switch {
			case errors.Is(err, io.EOF):
				l.put(pieces, piece{due: due})
				return
			case err != nil:
				l.cut()
				return
			}
		}
	}()
	for p := range pieces {
		if !wake.Sleep(l.ctx, time.Until(p.due)) || !l.r.flows(l.ctx) {
			return
		}
		if p.bytes == nil {
			_ = to.CloseWrite() // fails on a closed connection only
			return
		}
		if _, err := to.Write(p.bytes); err != nil {
			l.cut()
			return
		}
	}
}

func (l *link) put(pieces chan<- piece, p piece) bool {
	select {
	case pieces <- p:
		return true
	case <-l.ctx.Done():
		return false
	}
}
