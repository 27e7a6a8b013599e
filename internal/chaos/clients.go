//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"berth/internal/wake"
)

// session is an open connection of a client.
type session interface {
	// ask wants the token back, from the server that it should be.
	ask(ctx context.Context, token string) error
	close()
}

// customer is a client in a loop.
type customer struct {
	name string
	dial func(ctx context.Context) (session, error)
	// keeps says that it keeps its connection, for about a minute.
	keeps bool
	// program says that each of its connections is a program's.
	program bool
	// every is about how long it rests after an answer, again after a loss.
	every, again time.Duration
	// limit is its own patience.
	limit time.Duration
}

const (
	// clientLimit is how long a client waits for an answer: longer than the
	// longest fault.
	clientLimit = 90 * time.Second
	// life is about how long a connection is kept.
	life = 45 * time.Second
)

// loop asks until ctx ends. What ends with ctx is not entered.
func (c *customer) loop(ctx context.Context, l *ledger, rnd *rand.Rand) {
	var s session
	var opened, heard time.Time
	last := func() {
		if s != nil {
			s.close()
			s = nil
		}
	}
	defer last()
	for n := 0; ; n++ {
		rest := time.Duration(float64(c.every) * (0.5 + rnd.Float64()))
		if s != nil && (!c.keeps || time.Since(opened) > life/2+time.Duration(rnd.Int64N(int64(life)))) {
			last()
		}
		token := fmt.Sprintf("t%d-%d", n, rnd.Uint32())
		d := deed{client: c.name, kind: open, program: c.program, since: heard, begin: time.Now()}
		asking, cancel := context.WithTimeout(ctx, c.limit)
		if s == nil {
			d.kind, d.since = fresh, d.begin
			opened = d.begin
			s, d.err = c.dial(asking)
		}
		if d.err == nil {
			d.err = s.ask(asking, token)
		}
		cancel()
		d.end = time.Now()
		if ctx.Err() != nil {
			return
		}
		l.add(d)
		heard = d.end
		if d.err != nil {
			last()
			rest = c.again
		}
		if !wake.Sleep(ctx, rest) {
			return
		}
	}
}

// clients are all of them: two of every tunnel and more, so that they ask about
// fifteen times a second.
func (w *world) clients(o options) []*customer {
	var all []*customer
	add := func(c customer) {
		c.limit = clientLimit
		all = append(all, &c)
	}
	program := func(name string, dial func(context.Context) (session, error), every time.Duration, keeps bool) {
		add(customer{name: name, dial: dial, program: true, every: every, again: time.Second, keeps: keeps})
	}
	n := make(map[string]int)
	for _, t := range w.tunnels {
		n[t.protocol]++
		dial := w.dialer(t)
		add(customer{name: t.name + " keeps", dial: dial, keeps: true, every: 4 * time.Second, again: 200 * time.Millisecond})
		add(customer{name: t.name + " anew", dial: dial, every: 6 * time.Second, again: 200 * time.Millisecond})
		// Two tunnels of each kind have real programs at them.
		if n[t.protocol] > 2 {
			continue
		}
		for _, p := range programsFor(t) {
			if o.has(p.program) && (!t.real || !p.simulated) {
				program(t.name+" "+p.name, p.dial(w, t), p.every, p.keeps)
			}
		}
	}
	return all
}

// serve runs the clients until ctx ends.
func serve(ctx context.Context, l *ledger, clients []*customer, seed uint64) {
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() { c.loop(ctx, l, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	all.Wait()
}

// wrong is a wrong answer, in words.
func wrong(got, want string) error {
	if len(got) > 200 {
		got = got[:200] + "…"
	}
	return fmt.Errorf("%w: %q instead of %q", errWrong, got, want)
}

func equal(got, want string) error {
	if got != want {
		return wrong(got, want)
	}
	return nil
}
