package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// connect measures new connections: one after the other in pairs for what the
// tunnel adds, and many at once for how many per second there can be.
func (b *bench) connect(ctx context.Context) (err error) {
	a, err := b.readyAgent(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	direct, tunnel := b.without(), through(a.addr(0))
	latency, err := b.latency(ctx, direct, tunnel)
	if err != nil {
		return err
	}
	b.add(latency)
	rate, err := b.rates(ctx, direct, tunnel)
	if err != nil {
		return err
	}
	b.add(rate)
	return nil
}

// latency compares connecting and the first byte back. All of the difference
// is counted as the tunnel's, so what it adds before the upstream dial is less.
func (b *bench) latency(ctx context.Context, direct, tunnel way) (row, error) {
	type pair struct{ direct, tunnel time.Duration }
	pairs, err := collect(b.times(600, 50), func(round int) (p pair, err error) {
		if round%50 == 0 {
			if err := b.calm(ctx); err != nil {
				return p, err
			}
		}
		if p.direct, err = visitTimed(ctx, direct); err != nil {
			return p, err
		}
		p.tunnel, err = visitTimed(ctx, tunnel)
		return p, err
	})
	if err != nil {
		return row{}, err
	}
	added := median(each(pairs, func(p pair) time.Duration { return p.tunnel - p.direct }))
	return row{
		what: "a new connection: connect and first byte, added by the tunnel (p50)",
		measured: fmt.Sprintf("%s (%s − %s)", ms(added), ms(median(each(pairs, func(p pair) time.Duration { return p.tunnel }))),
			ms(median(each(pairs, func(p pair) time.Duration { return p.direct })))),
		budget: "≤ 1 ms", verdict: within(added.Seconds(), 0.001),
	}, nil
}

// visitTimed is a visit, and how long it took.
func visitTimed(ctx context.Context, w way) (time.Duration, error) {
	began := time.Now()
	err := visit(ctx, w)
	return time.Since(began), err
}

// visitors is how many clients connect at once, over and over.
const visitors = 8

func (b *bench) rates(ctx context.Context, direct, tunnel way) (row, error) {
	type pair struct{ direct, tunnel float64 }
	pairs, err := collect(b.times(5, 1), func(int) (p pair, err error) {
		if err := b.calm(ctx); err != nil {
			return p, err
		}
		if p.direct, err = b.visitsPerSecond(ctx, direct); err != nil {
			return p, err
		}
		p.tunnel, err = b.visitsPerSecond(ctx, tunnel)
		return p, err
	})
	if err != nil {
		return row{}, err
	}
	return row{
		what: fmt.Sprintf("new connections per second, %d clients at once", visitors),
		measured: fmt.Sprintf("%.0f through the tunnel, %.0f without it",
			median(each(pairs, func(p pair) float64 { return p.tunnel })), median(each(pairs, func(p pair) float64 { return p.direct }))),
	}, nil
}

func (b *bench) visitsPerSecond(ctx context.Context, w way) (float64, error) {
	var wg sync.WaitGroup
	var visits atomic.Int64
	errs := make([]error, visitors)
	began := time.Now()
	until := began.Add(b.span(2*time.Second, 500*time.Millisecond))
	for i := range visitors {
		wg.Go(func() {
			for errs[i] == nil && time.Now().Before(until) {
				errs[i] = visit(ctx, w)
				visits.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(visits.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}
