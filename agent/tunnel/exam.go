package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"berth/agent/cluster"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/survive"
	"berth/internal/wake"
	"berth/proxies"
	"berth/proxies/db"
)

const (
	// examTime bounds one examination of one session: a client waits for its outcome.
	examTime = 4 * time.Second
	// examFresh is how long the outcome of an examination is good for.
	examFresh = time.Second
	// A way that is broken is tried again after a tenth of the time that it has been,
	// but not sooner than examSoon and not later than examEvery. What the database's
	// service knows of a person already the auth service may hear a moment later.
	examEvery = 15 * time.Second
	examSoon  = time.Second
	// remakeEvery is how often a cert that is not valid yet is minted anew: where it is
	// this machine's clock that is behind, the next one is not valid yet either.
	remakeEvery = time.Minute
	// silence is how long a server that speaks second, and in words that berth
	// does not know, may take to hang up.
	silence = 400 * time.Millisecond
)

// exam is what is found out about a tunnel after one of its connections has
// failed. The failure alone says little: the client may have spoken another
// protocol, and the session or the cluster may be at fault.
type exam struct {
	asked wake.Signal // there is a failure to look into

	turn   wake.Turn // whose failure is looked into; guards remade
	remade time.Time // when a cert that is not valid yet was last given up

	attending sync.WaitGroup
	mu        sync.Mutex      // guards everything below; t.mu may be taken under it
	ctx       context.Context // while the tunnel runs
	attended  bool            // keepExamined runs: a tunnel that is well needs none
	err       error           // the newest failure, until it is looked into
	at        time.Time       // when the last examination ended
	last      error           // what it found; nil: all is well
}

// open has failures looked into until ctx ends and close was called.
func (e *exam) open(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ctx = ctx
}

func (e *exam) close() {
	e.mu.Lock()
	e.ctx = nil
	e.mu.Unlock()
	e.attending.Wait()
}

// doubt has a failure of the tunnel looked into. The caller does not hold t.mu.
func (e *exam) doubt(t *tunnel, err error) {
	e.mu.Lock()
	e.err = err
	e.mu.Unlock()
	e.asked.Wake()
	e.attend(t)
}

// reconsider has what is broken looked into again, since a client was served or the
// credential is another one. Where nothing can be found out, and well says so, all is
// taken to be well. The caller does not hold t.mu.
func (e *exam) reconsider(t *tunnel, well bool) {
	f := t.dialFailure()
	switch {
	case f == nil:
	case t.resolver.examinable(t):
		e.doubt(t, f.err)
	case well:
		e.forget(t)
	}
}

// forget takes all to be well: whatever fails next is looked into, however soon. The
// caller does not hold t.mu.
func (e *exam) forget(t *tunnel) {
	e.mu.Lock()
	e.at = time.Time{}
	e.mu.Unlock()
	t.setDialFailure(nil)
	e.asked.Wake()
}

// attend has failures looked into while there are any. The caller does not hold t.mu.
func (e *exam) attend(t *tunnel) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil || e.attended {
		return
	}
	e.attended = true
	ctx := e.ctx
	e.attending.Go(func() { e.keep(ctx, t) })
}

// keep looks into failures of the tunnel, and again into what is broken, until
// nothing is or ctx ends.
func (e *exam) keep(ctx context.Context, t *tunnel) {
	timer := time.NewTimer(examEvery)
	defer timer.Stop()
	for {
		broken, err := e.next(t.dialFailure)
		if err != nil {
			_ = e.find(ctx, t, err)
			continue
		}
		if broken == nil {
			return
		}
		timer.Reset(examAgain(broken))
		select {
		case <-ctx.Done():
			return
		case <-e.asked:
		case <-timer.C:
			if broken = t.dialFailure(); broken != nil { // still
				_ = e.find(ctx, t, broken.err)
			}
		}
	}
}

// next returns what is broken, and the failure to look into now. Without either it
// ends the attendance.
func (e *exam) next(dialFailure func() *dialFailure) (broken *dialFailure, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	err, e.err = e.err, nil
	broken = dialFailure()
	e.attended = err != nil || broken != nil
	return broken, err
}

// examAgain returns how soon a failure is looked into again.
func examAgain(f *dialFailure) time.Duration {
	longest := examEvery
	if _, ok := errors.AsType[*cluster.LeafAwayError](f.err); ok { // whose coming back nothing reports
		longest = leafEvery
	}
	return min(max(time.Since(f.at)/10, examSoon), longest)
}

// running returns what ends with the tunnel.
func (e *exam) running() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx != nil {
		return e.ctx
	}
	over, end := context.WithCancel(context.Background())
	end()
	return over
}

// whyHungUp returns why the upstream hung up on a client, in place of err. A tunnel that
// stops does not look into it.
func (e *exam) whyHungUp(t *tunnel, err error) error {
	ctx, examine := e.running(), e.find
	if errors.Is(err, proxies.ErrProbe) {
		if !e.turn.Take(ctx) {
			return err
		}
		defer e.turn.Give()
		examine = look
	}
	if why := examine(ctx, t, err); why != nil && ctx.Err() == nil && !errors.Is(why, tsh.ErrReplaced) {
		return why
	}
	return err
}

// look is an examination of which only the caller learns, who has t.exam.turn.
func look(ctx context.Context, t *tunnel, err error) error {
	return survive.Do(t.log, "examine a tunnel", func() error { return t.resolver.examine(ctx, t, err) })
}

// find looks into a failure and makes the outcome the tunnel's state. It returns
// what was found; nil means that all is well. Nothing is found, and err returned, when
// ctx ends or tsh is replaced meanwhile.
func (e *exam) find(ctx context.Context, t *tunnel, err error) error {
	if !e.turn.Take(ctx) {
		return err
	}
	defer e.turn.Give()
	e.mu.Lock()
	last, fresh := e.last, time.Since(e.at) < examFresh
	e.mu.Unlock()
	if fresh {
		return last
	}
	why := look(ctx, t, err)
	if ctx.Err() != nil || errors.Is(why, tsh.ErrReplaced) {
		return err // of the new way nothing is known
	}
	e.mu.Lock()
	e.last, e.at = why, time.Now()
	e.mu.Unlock()
	switch was := t.dialFailure(); {
	case isFault(why): // it is the session's, and the next resolution says so
		t.setDialFailure(nil)
		t.wake(Changed)
	case why == nil:
		t.setDialFailure(nil)
	case was == nil:
		t.setDialFailure(&dialFailure{at: time.Now(), err: why})
	default:
		t.setDialFailure(&dialFailure{at: was.at, err: why})
	}
	return why
}

// connectAs connects with a credential as a client of the protocol would.
func connectAs(ctx context.Context, kind state.Kind, cur *credential, protocol string) error {
	conn, err := kinds[kind].try(ctx, cur)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it has served
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if kind.Info().ShowsCert { // of Kubernetes the handshake was asked
		return nil
	}
	return greet(conn, protocol)
}

// greet says what a client of the protocol says first, and returns an error if
// the server hangs up instead of answering.
func greet(conn net.Conn, protocol string) error {
	proto, _ := db.Lookup(protocol)
	first, _, known := proto.Hello()
	until := time.Now().Add(examTime)
	if !known {
		until = time.Now().Add(silence)
	}
	if err := conn.SetDeadline(until); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, first); err != nil {
		return errors.Join(proxies.ErrClosedEarly, err)
	}
	_, err := bufio.NewReader(conn).ReadByte()
	var wait net.Error
	switch {
	case err == nil, errors.As(err, &wait) && wait.Timeout() && !known:
		return nil
	case errors.Is(err, io.EOF):
		return proxies.ErrClosedEarly
	default:
		return errors.Join(proxies.ErrClosedEarly, err)
	}
}

// isFault reports whether err is what keeps a session from its cluster.
func isFault(err error) bool {
	var away *cluster.UnreachableError
	var refused *cluster.RefusedError
	var old *cluster.OutdatedError
	return errors.As(err, &away) || errors.As(err, &refused) || errors.As(err, &old)
}
