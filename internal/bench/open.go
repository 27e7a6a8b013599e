package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	manyConns = 10_000
	// spareFiles is what a process needs besides its connections.
	spareFiles = 100
	openers    = 32 // how many are opened at once
)

// crowd is the agent's cost of open connections.
type crowd struct {
	conns  int
	each   float64 // bytes
	rss    float64
	own    float64
	opened time.Duration
}

// open measures agents that hold many idle connections, each of which has
// carried a byte both ways.
func (b *bench) open(ctx context.Context) error {
	limit, err := fileLimit()
	if err != nil {
		return err
	}
	// A connection takes two files: here the client's end and the cluster's,
	// and in the agent the other ends.
	possible := min(manyConns, (limit-spareFiles)/2)
	memories := curve{title: "Memory of the agent, by open connections at rest (MB)", lines: []string{"resident", "of its own"}}
	for _, want := range []int{1, 100, 1000, manyConns} {
		n := min(want, possible)
		got, err := collect(b.times(3, 1), func(int) (crowd, error) { return b.crowd(ctx, n) })
		if err != nil {
			return err
		}
		memories.add(float64(n), median(each(got, func(c crowd) float64 { return c.rss }))/1e6,
			median(each(got, func(c crowd) float64 { return c.own }))/1e6)
		if n >= 1000 {
			b.add(crowdRow(want, limit, got))
		}
	}
	b.curves["connections"] = memories
	return nil
}

func crowdRow(want, limit int, got []crowd) row {
	size := median(each(got, func(c crowd) float64 { return c.each }))
	n := got[0].conns
	note := ""
	if n < want {
		note = fmt.Sprintf("; at most %d because a process may open %d files here", n, limit)
	}
	return row{
		what: fmt.Sprintf("%d open connections: memory of the agent per connection", want),
		measured: fmt.Sprintf("%.1f KB (resident %s in all, %s of its own; opened in %.1f s; all answer)%s", size/1e3,
			mb(median(each(got, func(c crowd) float64 { return c.rss }))), mb(median(each(got, func(c crowd) float64 { return c.own }))), median(each(got, func(c crowd) time.Duration { return c.opened })).Seconds(), note),
		budget: "≤ 32 KB", verdict: within(size, 32e3),
	}
}

func (b *bench) crowd(ctx context.Context, n int) (got crowd, err error) {
	a, err := b.readyAgent(ctx, 1)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	settle := b.span(10*time.Second, time.Second)
	if err := pause(ctx, settle); err != nil {
		return got, err
	}
	before, err := memoryOf(a.pid())
	if err != nil {
		return got, err
	}
	began := time.Now()
	conns, err := openMany(ctx, through(a.addr(0)), n)
	got.opened = time.Since(began)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close() // nothing is lost with it
		}
	}()
	if err != nil {
		return got, err
	}
	if err := pause(ctx, settle); err != nil {
		return got, err
	}
	after, err := memoryOf(a.pid())
	if err != nil {
		return got, err
	}
	got.conns, got.rss, got.own = n, float64(after.rss), float64(after.rss-after.file)
	got.each = float64(after.rss-before.rss) / float64(n)
	if shown, err := a.connections(ctx); err != nil || shown != int64(n) {
		return got, errors.Join(err, fmt.Errorf("the agent shows %d open connections, want %d", shown, n))
	}
	for _, conn := range conns {
		if err := roundTrip(conn); err != nil {
			return got, fmt.Errorf("an open connection does not answer: %w", err)
		}
	}
	return got, nil
}

// openMany opens connections that have echoed a byte.
func openMany(ctx context.Context, w way, n int) ([]net.Conn, error) {
	conns := make([]net.Conn, n)
	errs := make([]error, openers)
	var wg sync.WaitGroup
	for o := range openers {
		wg.Go(func() {
			for i := o; i < n && errs[o] == nil; i += openers {
				conn, err := ask(ctx, w, cmdEcho)
				if err == nil {
					conns[i] = conn
					err = roundTrip(conn)
				}
				errs[o] = err
			}
		})
	}
	wg.Wait()
	var opened []net.Conn
	for _, conn := range conns {
		if conn != nil {
			opened = append(opened, conn)
		}
	}
	return opened, errors.Join(errs...)
}
