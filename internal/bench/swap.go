package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// betweenLogins lets the agent come to rest after the login before.
const betweenLogins = 500 * time.Millisecond

// swap measures how soon after a login a new connection has the new cert,
// while clients connect all the time and others stay.
func (b *bench) swap(ctx context.Context) (err error) {
	a, err := b.readyAgent(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := b.calm(ctx); err != nil {
		return err
	}
	w := through(a.addr(0))
	p := b.passersBy(ctx, w)
	took, err := collect(b.times(25, 3), func(int) (time.Duration, error) {
		if err := pause(ctx, betweenLogins); err != nil {
			return 0, err
		}
		return b.swapRound(ctx, w)
	})
	p.stop()
	if err != nil {
		return err
	}
	visits, failures := p.visits.Load(), p.failures.Load()
	if failures > 0 {
		b.say("  the first failure: %v", *p.first.Load())
	}
	b.add(row{
		what:     "home written by a login → new cert on the next dial",
		measured: fmt.Sprintf("%s, at most %s in %d logins", ms(median(took)), ms(quantile(took, 1)), len(took)),
		budget:   "≤ 500 ms", verdict: within(quantile(took, 1).Seconds(), 0.5),
	}, row{
		what:     "failed or dropped connections meanwhile",
		measured: fmt.Sprintf("%d of %d", failures, visits),
		budget:   "0", verdict: within(float64(failures), 0),
	})
	return nil
}

// swapRound logs in again. It returns the time from the writing of the home to
// the first dial that was served with another cert.
func (b *bench) swapRound(ctx context.Context, w way) (time.Duration, error) {
	serial := func() (string, error) {
		conn, serial, err := servedBy(ctx, w)
		if err != nil {
			return "", err
		}
		return serial, conn.Close()
	}
	before, err := serial()
	if err != nil {
		return 0, err
	}
	if err := b.sim.Login(b.home, user); err != nil {
		return 0, err
	}
	written := time.Now()
	for {
		dialed := time.Now()
		now, err := serial()
		if err != nil {
			return 0, err
		}
		if now != before {
			return dialed.Sub(written), nil
		}
		if dialed.Sub(written) > startWait {
			return 0, errors.New("no new cert was used")
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// passersBy are clients that connect over and over, and one client that stays.
type passersBy struct {
	visits, failures atomic.Int64
	first            atomic.Pointer[error]
	stop             func()
}

func (b *bench) passersBy(ctx context.Context, w way) *passersBy {
	const comeAndGo = 4
	p := &passersBy{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	p.stop = func() {
		close(done)
		wg.Wait()
	}
	repeat := func(visit func() error) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				p.note(visit())
				if pause(ctx, 5*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	for range comeAndGo {
		repeat(func() error { return visit(ctx, w) })
	}
	conn, err := ask(ctx, w, cmdEcho)
	if err != nil {
		p.note(err)
		return p
	}
	repeat(func() error { return roundTrip(conn) })
	stopThem := p.stop
	p.stop = func() {
		stopThem()
		_ = conn.Close() // nothing is lost with it
	}
	return p
}

func (p *passersBy) note(err error) {
	p.visits.Add(1)
	if err != nil {
		p.failures.Add(1)
		p.first.CompareAndSwap(nil, &err)
	}
}
