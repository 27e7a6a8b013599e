package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/constants"

	"berth/internal/survive"
	"berth/internal/wake"
)

const (
	// knockEvery is how often an unreachable proxy is tried, so that berth is
	// back within a second of it; after knockLong of that, knockSlowly.
	knockEvery  = 500 * time.Millisecond
	knockSlowly = 5 * time.Second
	knockLong   = 10 * time.Minute
	// askEvery is how often a cluster that refuses the session is asked again at
	// least: after a tenth of the time that it has refused, but not sooner than an
	// unreachable one. A person who is unlocked soon is served soon, and a lock for
	// a day costs the auth service four questions a minute.
	askEvery = 15 * time.Second
	// askAgain is the least time between two checks that callers ask for.
	askAgain = 200 * time.Millisecond
	// doubtEvery is how often a refusal of one call has the cluster asked whether
	// it refuses everything.
	doubtEvery = 15 * time.Second
	// slow is how long a dial or a call takes without a doubt: one that gets no
	// answer at all takes seconds to fail.
	slow = 700 * time.Millisecond
	// verdictWait is how long a caller waits for a check, and examWait one who has
	// nothing else to go by: on a busy machine a new connection takes its time.
	verdictWait = time.Second
	examWait    = 2 * time.Second
)

// Fault is what keeps a session from its cluster, whatever is asked. It is
// immutable.
type Fault struct {
	Since time.Time // when it was first seen
	Err   error     // an UnreachableError, a RefusedError or an OutdatedError
}

// standing is how a session stands with its cluster. Whenever there is a doubt,
// one goroutine asks, over a connection of its own, until all is well: an open
// connection says nothing of a proxy that is gone or of a CA that was rotated.
type standing struct {
	checks sync.WaitGroup // of the goroutine
	moved  wake.Broadcast // woken after each check
	ask    wake.Signal    // check now

	mu      sync.Mutex // guards everything below
	asking  bool       // the goroutine runs
	broken  bool       // the connections there are failed: replace them
	fault   *Fault     // nil: all is well, as far as is known
	began   time.Time  // of the doubt
	begun   int        // checks begun so far: the number of the one under way
	wanted  int        // the number of the last one that a caller waits for
	checked int        // the number of the last one that has finished
	denied  time.Time  // when a refusal of one call last made a doubt
	lock    string     // a lock's message, from a login
}

// Fault returns what keeps the session from its cluster; nil means nothing that
// is known.
func (c *Cluster) Fault() *Fault {
	c.stand.mu.Lock()
	defer c.stand.mu.Unlock()
	return c.stand.fault
}

// Check asks the cluster over a new connection whether it still accepts the
// session, and returns the fault that it finds: a check that was under way says nothing
// of what has changed since it began. It takes verdictWait at most.
func (c *Cluster) Check(ctx context.Context) *Fault { return c.ask(ctx, c.verdictWait) }

// Examine is Check for a client whose refusal depends on the answer. It takes
// examWait at most.
func (c *Cluster) Examine(ctx context.Context) *Fault { return c.ask(ctx, examWait) }

func (c *Cluster) ask(ctx context.Context, wait time.Duration) *Fault {
	c.stand.mu.Lock()
	begun := c.stand.begun
	c.stand.wanted = begun + 1
	c.stand.mu.Unlock()
	c.doubt(false)
	fault, _ := c.verdictAfter(ctx, wait, begun)
	return fault
}

// Watched returns dial, which goes to the session's proxy: while it is slow the
// cluster is asked whether it is away.
func (c *Cluster) Watched(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		defer c.doubtWhenSlow()()
		return dial(ctx)
	}
}

// doubtWhenSlow has the cluster asked how the session stands unless the function
// that it returns is called soon.
func (c *Cluster) doubtWhenSlow() (stop func()) {
	timer := time.AfterFunc(slow, func() { c.doubt(false) })
	return func() { timer.Stop() }
}

// NoteLock notes the message of a lock on the session's user, from a login.
func (c *Cluster) NoteLock(message string) {
	c.stand.mu.Lock()
	c.stand.lock = message
	c.stand.mu.Unlock()
	c.doubt(false)
}

// doubt has the cluster asked how the session stands. broken says that the
// connections there are failed.
func (c *Cluster) doubt(broken bool) {
	s := &c.stand
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = s.broken || broken
	switch {
	case c.ctx.Err() != nil:
	case s.asking:
		s.ask.Wake()
	default:
		s.asking, s.began = true, time.Now().Round(0)
		s.checks.Go(c.keepAsking)
	}
}

// doubtRefusal is doubt for a call that was refused, which is mostly that call's
// own affair.
func (c *Cluster) doubtRefusal() {
	s := &c.stand
	s.mu.Lock()
	lately := time.Since(s.denied) < doubtEvery
	if !lately {
		s.denied = time.Now()
	}
	s.mu.Unlock()
	if !lately {
		c.doubt(false)
	}
}

// verdict waits for the next check to end, for wait at most, and returns
// the fault there is then; decided says that one has ended. Nothing is decided any more
// once the session is closed.
func (c *Cluster) verdict(ctx context.Context, wait time.Duration) (fault *Fault, decided bool) {
	c.stand.mu.Lock()
	seen := c.stand.checked
	c.stand.mu.Unlock()
	return c.verdictAfter(ctx, wait, seen)
}

// verdictAfter is verdict, and the first n checks decide nothing.
func (c *Cluster) verdictAfter(ctx context.Context, wait time.Duration, n int) (fault *Fault, decided bool) {
	s := &c.stand
	s.moved.Until(ctx, wait, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		closed := c.ctx.Err() != nil
		decided = s.checked > n || !s.asking && !closed
		return decided || closed
	})
	return c.Fault(), decided
}

// keepAsking checks until all is well, or the session is closed.
func (c *Cluster) keepAsking() {
	s := &c.stand
	for {
		s.mu.Lock()
		s.begun++
		s.mu.Unlock()
		var clt *client.Client
		err := survive.Do(c.log, "ask how a session stands", func() (err error) {
			clt, err = c.check(c.ctx)
			return err
		})
		if c.ctx.Err() != nil {
			if clt != nil {
				_ = clt.Close() // nothing was asked that is lost
			}
			return
		}
		if _, bug := errors.AsType[*survive.Error](err); bug { // nothing was found out
			wake.Sleep(c.ctx, askEvery)
			continue
		}
		last, pause := c.judge(clt, err)
		s.moved.Wake()
		if last {
			return
		}
		began := time.Now()
		timer := time.NewTimer(pause)
		select {
		case <-c.ctx.Done():
		case <-timer.C:
		case <-s.ask:
			wake.Sleep(c.ctx, askAgain-time.Since(began))
		}
		timer.Stop()
	}
}

// check asks the root's auth service over a connection of its own, which it
// returns.
func (c *Cluster) check(ctx context.Context) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	pool, err := c.ClusterCAs(ctx, c.root)
	if err != nil {
		return nil, err
	}
	clt, err := c.connect(c.root, pool)
	if err != nil {
		return nil, err
	}
	if _, err := clt.Ping(ctx); err != nil {
		_ = clt.Close() // the failure is err
		err = c.classify(ctx, c.root, "ping "+c.root, err)
		var away *UnreachableError
		if errors.As(err, &away) && Why(away.Err) == hangsUp {
			err = cmp.Or(c.alert(ctx, pool), err)
		}
		return nil, err
	}
	c.answered.Store(true)
	return clt, nil
}

// alert returns the error for a cert that the auth service does not accept, of a CA
// that was rotated; nil for any other trouble. The service says so after the
// handshake, and a client that writes meanwhile mostly sees it hang up.
func (c *Cluster) alert(ctx context.Context, pool *x509.CertPool) error {
	conn, err := c.dialer().DialContext(ctx, "tcp", c.profile.ProxyAddr)
	if err != nil {
		return nil //nolint:nilerr // that is another trouble
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	if err := conn.SetDeadline(time.Now().Add(verdictWait)); err != nil {
		return nil //nolint:nilerr // the same
	}
	tc := tls.Client(conn, client.ConfigureALPN(&tls.Config{
		// Not Certificates: one of a CA that the service does not name is held back, and
		// the service lets in whoever shows none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.session.Cert, nil },
		RootCAs:              pool, ServerName: constants.APIDomain, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2"},
	}, c.root))
	if _, err = tc.Read(make([]byte, 1)); err == nil || outdated(err) == nil {
		return nil
	}
	return &OutdatedError{Cluster: c.root, Trust: *outdated(err), Err: err}
}

// judge notes what a check has found, reports whether it was the last, and returns
// when to check again otherwise.
func (c *Cluster) judge(clt *client.Client, err error) (last bool, pause time.Duration) {
	s := &c.stand
	s.mu.Lock()
	was, replace := s.fault, s.broken || s.fault != nil
	var denied *AccessDeniedError
	var away *UnreachableError
	next := &Fault{Since: s.began, Err: err}
	pause = min(max(time.Since(s.began)/10, knockEvery), askEvery)
	switch {
	case errors.As(err, &denied):
		next.Err = &RefusedError{Cluster: c.root, User: c.profile.User, Lock: s.lock, Err: denied.Err}
	case isOutdated(err):
	case errors.As(err, &away):
		if pause = knockEvery; time.Since(s.began) > knockLong {
			pause = knockSlowly
		}
	default: // it answers; the end of a session is nothing to ask about
		next, s.lock = nil, ""
	}
	since := s.began
	switch {
	case next == nil:
		s.broken = false
		if s.asking = s.wanted > s.begun; s.asking { // this one began too early for that caller
			s.began = time.Now().Round(0)
		}
	case was != nil && sameFault(was.Err, next.Err):
		next.Since = was.Since
	case was != nil: // one trouble gave way to another
		s.began = time.Now().Round(0)
		next.Since, since = s.began, s.began
	}
	s.fault = next
	s.checked = s.begun
	last = !s.asking // a doubt of the next moment sets it again
	s.mu.Unlock()

	if next == nil && clt != nil {
		c.adopt(clt, replace)
	}
	if (was == nil) != (next == nil) || was != nil && next != nil && was.Err.Error() != next.Err.Error() {
		c.log.Info("session's standing", "fault", faultWords(next), "since", since)
		c.onStanding()
	}
	return last, pause
}

func faultWords(f *Fault) string {
	if f == nil {
		return "none"
	}
	return f.Err.Error()
}

// sameFault reports whether two faults are of the same kind.
func sameFault(a, b error) bool {
	kind := func(err error) int {
		switch e := err.(type) { //nolint:errorlint // judge made it
		case *RefusedError:
			return 1
		case *OutdatedError:
			if e.Trust {
				return 2
			}
			return 3
		default:
			return 0
		}
	}
	return kind(a) == kind(b)
}

// adopt makes clt the connection to the root where the ones there are failed, and
// closes them; otherwise it closes clt.
func (c *Cluster) adopt(clt *client.Client, replace bool) {
	if !replace {
		_ = clt.Close() // it has served
		return
	}
	c.mu.Lock()
	old := c.clients
	if !c.closed {
		c.clients = map[string]*client.Client{c.root: clt}
	}
	closed := c.closed
	c.mu.Unlock()
	if closed {
		_ = clt.Close() // nothing calls any more
	}
	_ = closeAll(old) // they have failed
}
