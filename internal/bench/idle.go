package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// idleAgent is what an unused agent costs.
type idleAgent struct {
	memory
	core float64 // share of one core
}

// idle measures agents that are logged in, have minted their certs, and rest.
func (b *bench) idle(ctx context.Context) error {
	for _, n := range []int{1, most} {
		got, err := collect(b.times(3, 1), func(int) (idleAgent, error) { return b.idleRound(ctx, n) })
		if err != nil {
			return err
		}
		size, usage := idleRows(fmt.Sprintf("idle agent, tunnels: %d", n), got)
		if n == most {
			size.budget, size.verdict = "≤ 45 MB", within(size.figure, 45e6)
			usage.budget, usage.verdict = "< 0.1 % of a core", within(usage.figure, 0.001)
		}
		b.add(size, usage)
	}
	return nil
}

// idleRows tells what a program costs that rests.
func idleRows(who string, got []idleAgent) (size, usage row) {
	rss := float64(median(each(got, func(a idleAgent) int64 { return a.rss })))
	file := float64(median(each(got, func(a idleAgent) int64 { return a.file })))
	core := median(each(got, func(a idleAgent) float64 { return a.core }))
	size = row{what: who + ": resident memory", measured: mb(rss), figure: rss}
	if file > 0 {
		size.measured += fmt.Sprintf(" (%s of its own, %s pages of its program file)", mb(rss-file), mb(file))
	}
	return size, row{what: who + ": CPU", measured: fmt.Sprintf("%.3f %% of a core", 100*core), figure: core}
}

func (b *bench) idleRound(ctx context.Context, n int) (got idleAgent, err error) {
	a, err := b.startAgent(ctx, n)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := a.awaitTunnels(ctx); err != nil {
		return got, err
	}
	return b.rest(ctx, a.pid())
}

// rest lets a process settle, and then watches it.
func (b *bench) rest(ctx context.Context, pid int) (got idleAgent, err error) {
	return b.watch(ctx, pid, b.span(30*time.Second, 20*time.Second)) // the agent gives back what the start needed within 15 s
}

// watch watches a process after a while.
func (b *bench) watch(ctx context.Context, pid int, after time.Duration) (got idleAgent, err error) {
	if err := pause(ctx, after); err != nil {
		return got, err
	}
	began := time.Now()
	before, err := cpuOf(pid)
	if err != nil {
		return got, err
	}
	if err := pause(ctx, b.span(30*time.Second, 5*time.Second)); err != nil {
		return got, err
	}
	then, err := cpuOf(pid)
	if err != nil {
		return got, err
	}
	got.core = (then - before).Seconds() / time.Since(began).Seconds()
	got.memory, err = memoryOf(pid)
	return got, err
}
