package proxies

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// warmAge is how old a connection may become that waits for a client. Proxies
	// keep silent ones for longer (12 minutes were seen), but what stands between
	// may forget them without a word.
	warmAge = 30 * time.Second
	// warmIdle is how long after its last client a tunnel keeps connections warm.
	warmIdle = 10 * time.Minute
	// warmMost is how many a tunnel keeps. It keeps one, and one more for each
	// client of the last second.
	warmMost = 8
	// warmPause is the longest pause after one has failed; it begins with
	// warmRetry and doubles.
	warmRetry, warmPause = time.Second, 30 * time.Second
	// warmJitter spreads the tunnels that begin anew at the same moment, as after a
	// sleep.
	warmJitter = 2 * time.Second
	// joinFor is how long a client waits at most for a connection that is under way
	// already before it dials itself: for as long as that should take.
	joinFor = 500 * time.Millisecond
	// greetingMax is how much a server may say before its client does.
	greetingMax = 4 << 10
)

// Way is how connections are made that may be kept warm.
type Way struct {
	// Key is the credential that they are made with; comparable. nil means none.
	Key any
	// Until is when it ends: no connection is used after that.
	Until time.Time
	// Dial makes one.
	Dial Dial
}

// Warm keeps connections to a resource ready for the clients to come, so that
// only a client's own bytes travel. It is for resources at which a connection
// without a byte starts nothing. All of its connections are made with one
// credential and none outlives it: Use closes those of another before it
// returns.
//
// The zero Way, with which it begins, keeps none. Its methods may be called at
// any time.
type Warm struct {
	allowed func() bool
	log     *slog.Logger
	wg      sync.WaitGroup // what was started and has not ended

	mu      sync.Mutex // guards everything below
	closed  bool
	way     Way
	ctx     context.Context // of the dials with way; nil: there were none
	cancel  context.CancelFunc
	ready   []*standby
	coming  []*arrival
	used    time.Time     // when a client came last, on the wall clock
	clients []time.Time   // when the last ones came
	after   time.Time     // not to dial before
	failed  int           // in a row
	takes   time.Duration // the last dial; zero: not known
	next    *time.Timer   // when to look again; nil: when something happens
}

// NewWarm returns a Warm. allowed reports whether connections may be kept now; nil
// means always.
func NewWarm(allowed func() bool, log *slog.Logger) *Warm {
	if allowed == nil {
		allowed = func() bool { return true }
	}
	return &Warm{allowed: allowed, log: log}
}

// standby is a connection that waits for its client.
type standby struct {
	handed *handed
	begun  chan<- piece // of handed
	since  time.Time
	renew  time.Time // when another one takes its place
	said   []byte    // what the server has said meanwhile
	taken  bool
}

// arrival is a connection that is being made.
type arrival struct {
	since   time.Time
	claimed bool
	done    chan *handed // capacity 1: for the client that claimed it; nil: it failed
}

// piece is what one read returned.
type piece struct {
	said []byte
	err  error
}

// Use has connections made in that way from now on. Those of another credential
// are closed, and whichever are under way will not be used.
func (w *Warm) Use(way Way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if way.Key == w.way.Key {
		w.way = way
		return
	}
	had := w.way.Key != nil
	w.drop()
	w.way = way
	w.failed, w.after = 0, time.Time{}
	if had { // other tunnels have new ones too
		w.after = time.Now().Add(rand.N(warmJitter))
	}
	w.tend()
}

// Drop closes the connections, because they may have died without a word. Others
// take their place.
func (w *Warm) Drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop()
	w.after = time.Now().Add(rand.N(warmJitter))
	w.tend()
}

// Close closes the connections for good and returns when all that was started has
// ended.
func (w *Warm) Close() {
	w.mu.Lock()
	w.closed, w.way = true, Way{}
	w.drop()
	w.tend()
	w.mu.Unlock()
	w.wg.Wait()
}

// Through returns a Dial that takes a connection which was made with the
// credential key, and dials where there is none.
func (w *Warm) Through(key any, dial Dial) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		if ctx.Value(newOnly{}) == nil {
			if h := w.take(ctx, key); h != nil {
				return h, nil
			}
		}
		return dial(ctx)
	}
}

// newOnly is the key of a context in which no connection will do that has waited
// for its client.
type newOnly struct{}

// take returns a connection for a client; nil means that there is none.
func (w *Warm) take(ctx context.Context, key any) *handed {
	w.mu.Lock()
	now := time.Now()
	if key == nil || key != w.way.Key || !now.Round(0).Before(w.way.Until) {
		w.mu.Unlock()
		return nil
	}
	w.used = now.Round(0)
	w.clients = append(w.lately(now), now)
	w.failed, w.after = 0, time.Time{} // someone needs it now
	w.sweep(now)
	if s := w.newest(); s != nil {
		s.take()
		w.tend()
		w.mu.Unlock()
		return s.handed
	}
	left := time.Duration(0)
	i := slices.IndexFunc(w.coming, func(a *arrival) bool {
		left = min(w.takes*3/2, joinFor) - now.Sub(a.since)
		return !a.claimed && left > 0
	})
	if i < 0 {
		w.tend()
		w.mu.Unlock()
		return nil
	}
	a := w.coming[i]
	a.claimed = true
	w.tend()
	w.mu.Unlock()
	return w.join(ctx, a, left)
}

// newest takes the newest connection of which the end is not known; nil means that
// there is none. What watch has yet to read is known already: a proxy that resets
// all connections may do so a moment before the client comes. The caller holds w.mu.
func (w *Warm) newest() *standby {
	for n := len(w.ready); n > 0; n = len(w.ready) {
		s := w.ready[n-1]
		w.ready = w.ready[:n-1]
		ending, ok := s.handed.Conn.(interface{ HungUp() bool })
		if !ok || !ending.HungUp() {
			return s
		}
		w.close(s)
	}
	return nil
}

// join waits for a connection that is being made.
func (w *Warm) join(ctx context.Context, a *arrival, limit time.Duration) *handed {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case h := <-a.done:
		return h
	case <-ctx.Done():
	case <-timer.C:
	}
	w.mu.Lock()
	a.claimed = false
	w.mu.Unlock()
	select {
	case h := <-a.done: // at the last moment
		return h
	default:
		return nil
	}
}

// lately returns the clients of the last second, of which more than warmMost do
// not matter.
func (w *Warm) lately(now time.Time) []time.Time {
	w.clients = slices.DeleteFunc(w.clients, func(at time.Time) bool { return now.Sub(at) > time.Second })
	return w.clients[max(0, len(w.clients)-warmMost):]
}

// drop closes all connections and ends the dials. The caller holds w.mu, as in
// all that follows.
func (w *Warm) drop() {
	if w.ctx != nil {
		w.cancel()
		w.ctx, w.cancel = nil, nil
	}
	for _, s := range w.ready {
		w.close(s)
	}
	w.ready = nil
	for _, a := range w.coming {
		if a.claimed {
			a.done <- nil
		}
	}
	w.coming = nil
}

// sweep closes the connections that are too old.
func (w *Warm) sweep(now time.Time) {
	w.ready = slices.DeleteFunc(w.ready, func(s *standby) bool {
		old := now.Sub(s.since) >= warmAge || now.Round(0).Sub(s.since.Round(0)) >= warmAge
		if old {
			w.close(s)
		}
		return old
	})
}

// tend closes what is too old, dials for what is missing, and sees to it that it
// is called again in time.
func (w *Warm) tend() {
	now := time.Now()
	w.sweep(now)
	if w.next != nil {
		w.next.Stop()
		w.next = nil
	}
	idle := w.used.Add(warmIdle)
	if w.closed || w.way.Key == nil || !now.Round(0).Before(w.way.Until) || !now.Round(0).Before(idle) || !w.allowed() {
		w.drop()
		return
	}
	fresh := len(w.coming)
	for _, s := range w.ready {
		if now.Before(s.renew) {
			fresh++
		}
	}
	wake := w.way.Until
	if want := min(1+len(w.lately(now)), warmMost); fresh < want {
		if now.Before(w.after) {
			wake = w.after
		} else {
			for range want - fresh {
				w.dial(now)
			}
		}
	}
	for _, s := range w.ready {
		if now.Before(s.renew) {
			wake = earliest(wake, s.renew)
		} else {
			wake = earliest(wake, s.since.Add(warmAge))
		}
	}
	w.next = time.AfterFunc(max(0, time.Until(earliest(wake, idle))), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.closed {
			w.tend()
		}
	})
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// dial begins to make a connection.
func (w *Warm) dial(now time.Time) {
	a := &arrival{since: now, done: make(chan *handed, 1)}
	w.coming = append(w.coming, a)
	if w.ctx == nil {
		w.ctx, w.cancel = context.WithCancel(context.Background())
	}
	ctx, dial := w.ctx, w.way.Dial
	w.wg.Go(func() {
		conn, err := dial(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.arrived(ctx, a, conn, err)
	})
}

// arrived puts a new connection where it belongs.
func (w *Warm) arrived(ctx context.Context, a *arrival, conn net.Conn, err error) {
	if i := slices.Index(w.coming, a); i >= 0 {
		w.coming = slices.Delete(w.coming, i, i+1)
	}
	switch {
	case ctx.Err() != nil: // it is one of another credential
		if conn != nil {
			w.wg.Go(func() { _ = conn.Close() }) // nothing was sent
		}
		return
	case err != nil:
		w.log.Debug("no warm connection", "err", err)
		w.pause()
		if a.claimed {
			a.done <- nil
		}
	default:
		w.takes = time.Since(a.since)
		s := w.standby(conn)
		if a.claimed {
			s.take()
			a.done <- s.handed
		} else {
			w.ready = append(w.ready, s)
			w.log.Debug("warm connection ready", "took", w.takes)
		}
	}
	w.tend()
}

// pause has the next dial wait, longer each time.
func (w *Warm) pause() {
	pause := min(warmRetry<<min(w.failed, 10), warmPause)
	w.failed++
	w.after = time.Now().Add(pause/2 + rand.N(pause/2))
}

// standby has a connection wait for its client.
func (w *Warm) standby(conn net.Conn) *standby {
	h, ok := conn.(*handed)
	if !ok {
		h = &handed{Conn: conn}
	}
	begun := make(chan piece, 2)
	h.begun = begun
	now := time.Now()
	s := &standby{handed: h, begun: begun, since: now, renew: now.Add(warmAge*2/3 + rand.N(warmAge/4))}
	w.wg.Go(func() { w.watch(s) })
	return s
}

// watch reads a connection until it has a client, which gets what was read, or
// has ended.
func (w *Warm) watch(s *standby) {
	defer close(s.begun)
	r := newReader(s.handed.Conn)
	for {
		chunk, err := r.next()
		said := slices.Clone(chunk)
		r.release()
		w.mu.Lock()
		if s.taken {
			w.mu.Unlock()
			s.begun <- piece{said, err}
			return
		}
		s.said = append(s.said, said...)
		if err != nil || len(s.said) > greetingMax {
			if i := slices.Index(w.ready, s); i >= 0 {
				w.ready = slices.Delete(w.ready, i, i+1)
				w.pause()
				w.tend()
			}
			w.close(s)
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// take gives the connection to a client, with what the server has said.
func (s *standby) take() {
	s.taken = true
	if len(s.said) > 0 {
		s.begun <- piece{s.said, nil}
	}
}

// close closes a connection that no client has had. TLS writes its farewell,
// which may take its time.
func (w *Warm) close(s *standby) {
	w.wg.Go(func() { _ = s.handed.Close() }) // nothing was sent
}
