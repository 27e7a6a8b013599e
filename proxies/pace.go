package proxies

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// MaxDialTimeout is how long a dial may take while nothing gets through.
	MaxDialTimeout = 5 * time.Second
	// dialMax is how long one may take while others get through.
	dialMax = 4 * MaxDialTimeout

	// So many dials are under way at once before the proxy's answers say how
	// many it can take, and as few and as many as that may become.
	dialsFirst, dialsLeast, dialsMost = 8, 2, 48
	// slowBy is how much longer than the quickest a dial may take before fewer
	// are let begin: the agent's own calls share the proxy with them.
	slowBy = time.Second
	// stuckAfter is when a dial no longer takes a turn, unless others get through
	// meanwhile: the proxy may be back, and this dial not know. It is so for
	// stuckMost dials at a time.
	stuckAfter, stuckMost = 2 * time.Second, 4
	// paceLasts is how long what was learnt about a proxy is good for.
	paceLasts = time.Minute
)

// Pace decides how many dials to one proxy are under way at once. When a login
// lands, hundreds of held clients go on at the same instant, and their
// handshakes together would each take longer than any may. So the number
// follows the handshakes' latency: it grows while they are quick and falls when
// they are slow. Whoever waits takes turns, so that no tunnel starves another.
//
// A dial ends without success only when none to this proxy got through for
// MaxDialTimeout, or when it takes dialMax.
type Pace struct {
	mu      sync.Mutex // guards everything below
	limit   float64
	under   int           // dials under way
	stuck   int           // dials under way that are not counted there
	spare   int           // those of them for which no client waits
	steady  bool          // the limit was found: it no longer doubles
	best    time.Duration // the quickest dial
	lowered time.Time     // when the limit fell last
	ended   time.Time     // when a dial ended last
	through time.Time     // when one succeeded last
	lines   []line        // of those who wait; the first one's turn is next
	spares  []chan struct{}
}

// line is those who wait for one tunnel.
type line struct {
	of    any
	turns []chan struct{}
}

// NewPace returns the pace of a proxy that nothing is known about.
func NewPace() *Pace { return &Pace{limit: dialsFirst} }

// Paced returns dial for clients of a tunnel, each of which waits for its turn.
// Whatever is the same for all clients of one tunnel will do for of.
func (p *Pace) Paced(of any, dial Dial) Dial {
	return func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, of, dial) }
}

// Spare returns dial for connections that no client waits for: they give way to
// all others, and have half of the turns at most.
func (p *Pace) Spare(dial Dial) Dial {
	return func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, nil, dial) }
}

func (p *Pace) dial(ctx context.Context, of any, dial Dial) (net.Conn, error) {
	t := p.try(ctx)
	defer t.stop()
	if !p.enter(t, of) {
		return dial(t.ctx) // which has ended: the error is in the dial's own words
	}
	conn, err := dial(t.ctx)
	p.leave(t, of, err)
	return conn, err
}

// try is one dial, and its time. All but ctx and stop is guarded by Pace.mu.
type try struct {
	ctx     context.Context
	stop    func()
	late    *time.Timer
	since   time.Time // since when it waits; once it dials, since when it does
	dialled time.Time // zero while it waits
	pressed bool      // it took the last turn there was, or others wait
	stuck   bool      // its turn was given to another
	over    bool      // it has given its turn back
}

// try returns a dial whose context ends when nothing gets through for
// MaxDialTimeout.
func (p *Pace) try(ctx context.Context) *try {
	ctx, cancel := context.WithCancelCause(ctx)
	t := &try{ctx: ctx, since: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(MaxDialTimeout, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		left := MaxDialTimeout - time.Since(latest(t.since, p.through))
		if !t.dialled.IsZero() {
			left = min(left, dialMax-time.Since(t.dialled))
		}
		if left <= 0 {
			cancel(context.DeadlineExceeded)
			return
		}
		timer.Reset(left)
	})
	t.stop = func() {
		timer.Stop()
		cancel(nil)
	}
	return t
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// enter waits until the dial may begin, and reports whether it may.
func (p *Pace) enter(t *try, of any) bool {
	turn := make(chan struct{}, 1)
	p.mu.Lock()
	p.forget()
	p.wait(of, turn)
	p.admit()
	p.mu.Unlock()
	select {
	case <-turn:
	case <-t.ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unwait(of, turn) { // it was not its turn yet
		return false
	}
	if t.ctx.Err() != nil {
		p.release(of)
		return false
	}
	t.dialled = time.Now()
	t.since = t.dialled
	t.pressed = p.under >= int(p.limit) || len(p.lines) > 0
	t.late = time.AfterFunc(stuckAfter, func() { p.passOver(t) })
	return true
}

// leave ends a dial and learns from it.
func (p *Pace) leave(t *try, of any, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	took := now.Sub(t.dialled)
	p.ended = now
	if err == nil {
		p.through = now
		if p.best == 0 || took < p.best || int(p.limit) == dialsLeast { // then it is the way that is long
			p.best = took
		}
		p.steady = p.steady || took > p.best+slowBy/4
		switch {
		case took > p.best+slowBy:
			p.lower(t)
		case !t.pressed: // it says nothing of how many would be too many
		case p.steady:
			p.limit = min(p.limit+1/p.limit, dialsMost)
		default:
			p.limit = min(p.limit+1, dialsMost)
		}
	}
	t.late.Stop()
	t.over = true // passOver may be waiting for p.mu
	if t.stuck {
		p.under++ // as if it had its turn still
		p.stuck--
	}
	p.release(of)
}

// passOver gives the turn of a dial that seems stuck to another.
func (p *Pace) passOver(t *try) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck < stuckMost && p.through.Before(t.dialled) && !t.over && t.ctx.Err() == nil {
		t.stuck = true
		p.stuck++
		p.under--
		p.admit()
	}
}

// lower lets fewer dials begin. One that began before the last time says nothing
// new.
func (p *Pace) lower(t *try) {
	if t.dialled.Before(p.lowered) {
		return
	}
	p.limit, p.steady, p.lowered = max(p.limit*0.7, dialsLeast), true, time.Now()
}

// forget begins anew when the last dial was long ago. The caller holds p.mu, as in
// all that follows.
func (p *Pace) forget() {
	if p.under == 0 && time.Since(p.ended) > paceLasts {
		p.limit, p.steady, p.best = dialsFirst, false, 0
	}
}

// wait puts a dial at the end of its line.
func (p *Pace) wait(of any, turn chan struct{}) {
	if of == nil {
		p.spares = append(p.spares, turn)
		return
	}
	i := slices.IndexFunc(p.lines, func(l line) bool { return l.of == of })
	if i < 0 {
		i = len(p.lines)
		p.lines = append(p.lines, line{of: of})
	}
	p.lines[i].turns = append(p.lines[i].turns, turn)
}

// unwait takes a dial out of its line, and reports whether it was in it still.
func (p *Pace) unwait(of any, turn chan struct{}) bool {
	if of == nil {
		before := len(p.spares)
		p.spares = slices.DeleteFunc(p.spares, func(c chan struct{}) bool { return c == turn })
		return len(p.spares) < before
	}
	i := slices.IndexFunc(p.lines, func(l line) bool { return l.of == of })
	if i < 0 {
		return false
	}
	l := &p.lines[i]
	before := len(l.turns)
	l.turns = slices.DeleteFunc(l.turns, func(c chan struct{}) bool { return c == turn })
	was := len(l.turns) < before
	if len(l.turns) == 0 {
		p.lines = slices.Delete(p.lines, i, i+1)
	}
	return was
}

// release gives a turn back.
func (p *Pace) release(of any) {
	p.under--
	if of == nil {
		p.spare--
	}
	p.admit()
}

// admit lets begin who may.
func (p *Pace) admit() {
	for p.under < int(p.limit) {
		var turn chan struct{}
		switch {
		case len(p.lines) > 0:
			first := p.lines[0]
			turn, first.turns = first.turns[0], first.turns[1:]
			p.lines = p.lines[1:]
			if len(first.turns) > 0 {
				p.lines = append(p.lines, first)
			}
		case len(p.spares) > 0 && p.spare < max(1, int(p.limit)/2):
			turn, p.spares = p.spares[0], p.spares[1:]
			p.spare++
		default:
			return
		}
		p.under++
		turn <- struct{}{}
	}
}
