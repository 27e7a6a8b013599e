package main

import (
	"context"
	"errors"
	"time"
)

type startTimes struct{ bound, ready time.Duration }

// start measures the way from exec to ports that can be connected to, and to
// certs in hand.
func (b *bench) start(ctx context.Context) error {
	got, err := collect(b.times(11, 3), func(int) (startTimes, error) { return b.startRound(ctx) })
	if err != nil {
		return err
	}
	bound := each(got, func(s startTimes) time.Duration { return s.bound })
	ready := each(got, func(s startTimes) time.Duration { return s.ready })
	b.add(row{
		what:     "process start → 50 ports bound",
		measured: ms(median(bound)) + " (fastest " + ms(quantile(bound, 0)) + ")",
		budget:   "≤ 50 ms", verdict: within(median(bound).Seconds(), 0.05),
	}, row{
		what:     "process start → 50 tunnels ready",
		measured: ms(median(ready)) + " (fastest " + ms(quantile(ready, 0)) + ")",
	})
	return nil
}

func (b *bench) startRound(ctx context.Context) (got startTimes, err error) {
	if err := b.calm(ctx); err != nil {
		return got, err
	}
	a, err := b.startAgent(ctx, most)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := a.awaitTunnels(ctx); err != nil {
		return got, err
	}
	return startTimes{bound: a.bound, ready: time.Since(a.began)}, nil
}
