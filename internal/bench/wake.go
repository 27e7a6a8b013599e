package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// asleep is how long the agent stands still in a round.
const asleep = 3 * time.Second

// wake measures the first answer to a client that comes the moment a machine wakes.
// The agent is stopped as by a sleep, and meanwhile the other side gives up all of its
// connections, so that none that was kept warm is of use.
func (b *bench) wake(ctx context.Context) (err error) {
	a, err := b.readyAgent(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	w := through(a.addr(0))
	type pair struct{ awake, woken time.Duration }
	pairs, err := collect(b.times(15, 3), func(int) (p pair, err error) {
		if err := b.calm(ctx); err != nil {
			return p, err
		}
		if p.awake, err = visitTimed(ctx, w); err != nil {
			return p, err
		}
		if err := b.sleep(ctx, a); err != nil {
			return p, err
		}
		p.woken, err = visitTimed(ctx, w)
		return p, err
	})
	if err != nil {
		return err
	}
	woken := each(pairs, func(p pair) time.Duration { return p.woken })
	b.add(row{
		what: fmt.Sprintf("the moment after a sleep of %s, all connections lost: connect and first byte", asleep),
		measured: fmt.Sprintf("%s, at most %s in %d sleeps (%s before)",
			ms(median(woken)), ms(quantile(woken, 1)), len(woken), ms(median(each(pairs, func(p pair) time.Duration { return p.awake })))),
		budget: "≤ 500 ms", verdict: within(quantile(woken, 1).Seconds(), 0.5),
	})
	return nil
}

// sleep has the agent stand still, and lose its connections.
func (b *bench) sleep(ctx context.Context, a *agent) (err error) {
	if err := halt(a.cmd.Process); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resume(a.cmd.Process)) }()
	b.sim.Faults().Drop()
	return pause(ctx, asleep)
}
