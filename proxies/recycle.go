package proxies

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"berth/internal/wake"
	"berth/proxies/internal/frugal"
)

// Why a connection ended with the cert it was opened with.
var (
	// ErrCertEnded means that the upstream cut it at the end of its cert.
	ErrCertEnded = errors.New("cut at the end of its certificate")
	// ErrRecycled means that the tunnel ended it shortly before.
	ErrRecycled = errors.New("ended at rest shortly before its certificate")
)

const (
	// recycleLead is how long before a cert's end its connections are recycled. A
	// connection used at random three times a second rests for 1.2 s about every 15 s.
	// recycleNow is how long before the end the shortest rest will do, and recycleLast
	// how long before it the farewell follows right behind an answer.
	recycleLead, recycleNow, recycleLast = 3 * time.Minute, 2 * time.Second, 500 * time.Millisecond
	// clockPoll is how often the wall clock is looked at before that: a timer stands still
	// while the machine sleeps.
	clockPoll = time.Minute
	// renewedPoll is how often a connection looks whether its cert was renewed.
	renewedPoll = 200 * time.Millisecond
	// cutSlack is how far from the end of its cert a connection may end and still
	// have been cut for it. Measured: 3 ms; clocks may differ by a second.
	cutSlack = 2 * time.Second
)

// restFor is how long a connection must have been at rest to be recycled with so
// much time left, and until when that holds. Most pools look at a connection before
// they use it only after it was idle for a second; HikariCP does after half a second. A
// client on a busy machine reads its answer late, and counts from then.
func restFor(left time.Duration) (rest, until time.Duration) {
	const recycleSoon = 10 * time.Second
	switch {
	case left > recycleSoon:
		return 1200 * time.Millisecond, recycleSoon
	case left > recycleNow:
		return 600 * time.Millisecond, recycleNow
	default: // until the client has read the answer: what it then finds at the socket is no part of that
		return 10 * time.Millisecond, 0
	}
}

// nextLook is how long nothing need be looked at: until a rest that has lasted for silent
// is long enough, one that begins now would be, or a shorter one will do.
func nextLook(left, silent time.Duration) time.Duration {
	rest, until := restFor(left)
	if silent < rest {
		rest -= silent
	}
	return min(rest, left-until)
}

// Rest follows what is said on one connection, from its beginning, to know when
// it is at rest: nothing is under way, not even a transaction. Its methods are
// not called at the same time. Server hears of an answer before the client does, and so
// before Client hears what the client says to it.
type Rest interface {
	Client(said []byte)
	Server(said []byte)
	// AtRest reports whether the farewell may be sent now.
	AtRest() bool
	// Farewell returns what ends the connection politely, in its own protocol. It
	// may be nothing.
	Farewell() []byte
}

// Ending returns conn as one that may be cut at a known time: the end of the
// cert that it was opened with.
func Ending(conn net.Conn, at time.Time) net.Conn { return &handed{Conn: conn, ends: at} }

// handed carries from a Dial to its connection what is known of conn. The
// connection takes it off: bytes do not pass through it.
type handed struct {
	net.Conn
	ends  time.Time    // see Ending; zero: not known
	begun <-chan piece // what Warm has read of it; nil: it did not wait for its client
}

// CloseWrite ends the sending half.
func (c *handed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// restClient has the connection's Rest follow what the client says, and reports
// whether it is passed on: not after the farewell.
func (c *conn) restClient(chunk []byte) bool {
	c.restMu.Lock()
	defer c.restMu.Unlock()
	if !c.parted {
		c.rest.Client(chunk)
	}
	return !c.parted
}

// restServer has it follow what the client is about to get, and reports whether the
// farewell belongs right behind that.
func (c *conn) restServer(chunk []byte) (last bool) {
	c.restMu.Lock()
	defer c.restMu.Unlock()
	c.telling = true
	c.rest.Server(chunk)
	last = c.hurried.Load() && !c.parted && c.rest.AtRest()
	c.parted = c.parted || last
	return last
}

// tell writes to the client what comes from upstream. The connection's Rest follows it
// first, because the client may ask again before Write returns here. If the connection
// is never long at rest, and this answer brings rest, then the farewell is in the same
// piece: a pool reads it before it can use the connection again.
func (c *conn) tell(chunk []byte) (int, error) {
	last := c.restServer(chunk)
	defer func() {
		c.restMu.Lock()
		c.telling, c.told = false, c.t.now()
		c.restMu.Unlock()
	}()
	if !last {
		return c.client.Write(chunk)
	}
	c.fail(ErrRecycled)
	n, err := c.client.Write(slices.Concat(chunk, c.rest.Farewell()))
	if err == nil {
		err = c.client.CloseWrite()
	}
	return min(n, len(chunk)), err
}

// recycle waits for the last minutes of the connection's cert, and then for a
// moment in which the connection is at rest and a new one would last longer. Where
// another process has the tunnel's place, a new one is that process's affair.
func (c *conn) recycle(ctx context.Context) {
	for {
		left := time.Until(c.ends)
		pause := renewedPoll
		switch {
		case left <= 0:
			return
		case left > recycleLead:
			pause = min(left-recycleLead, clockPoll)
		case c.t.hasLeft() || c.t.cfg.Renewed(c.ends):
			c.hurried.Store(left <= recycleLast)
			rested, _ := restFor(left)
			parted, silent := c.part(rested)
			if parted {
				wake.Sleep(ctx, lingerTimeout) // the client reads the farewell and hangs up
				c.shut(ErrRecycled)
				return
			}
			pause = nextLook(left, silent)
		}
		if !wake.Sleep(ctx, pause) {
			return
		}
	}
}

// restedFor decides whether the connection has been at rest for so long: then the caller
// sends the farewell, unless the client has had it. It returns how long neither side has
// spoken. On a busy machine a question may lie at the socket for a while before it is
// read, and then for another while before rest hears of it: neither is a rest. That is
// why the socket is looked at before the reader, and the reader before rest. What has
// been read and is not decrypted yet, behind a Front that speaks TLS, no one sees.
func (c *conn) restedFor(rested time.Duration) (parted, had bool, silent time.Duration) {
	c.restMu.Lock()
	defer c.restMu.Unlock()
	had = c.parted
	silent = time.Duration(c.t.now() - max(c.asked.Load(), c.answered.Load(), c.told))
	c.parted = had || !c.telling && silent >= rested && !frugal.Unread(c.tcp) && c.reader.Load().waiting() && c.rest.AtRest()
	return c.parted, had, silent
}

// part sends the client its farewell if the connection has been at rest for so long.
// It reports whether the client has its farewell, and how long neither side has spoken.
func (c *conn) part(rested time.Duration) (parted bool, silent time.Duration) {
	parted, had, silent := c.restedFor(rested)
	if parted && !had {
		c.fail(ErrRecycled)
		_ = c.client.SetWriteDeadline(time.Now().Add(refuseTimeout)) // fails on a closed connection only
		if _, err := c.client.Write(c.rest.Farewell()); err == nil {
			_ = c.client.CloseWrite() // it may have gone
		}
	}
	return parted, silent
}

// cutByCert reports whether the upstream, which has ended, cut the connection
// because its cert has.
func (c *conn) cutByCert() bool {
	return !c.ends.IsZero() && !c.clientEOF.Load() && time.Since(c.ends).Abs() < cutSlack
}
