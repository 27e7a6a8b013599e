//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/internal/wake"
)

const (
	// warmUp is how long the clients have before the first fault.
	warmUp = 8 * time.Second
	// calm is how long it is between two faults, once all clients are served.
	calm = 2 * time.Second
	// atRest is how long the agent has to come to rest.
	atRest = 4 * time.Second
)

// run runs everything, and returns what was found.
func run(ctx context.Context, o options) (_ report, err error) {
	r := report{Seed: o.seed, Began: time.Now(), Where: "simulated", Load: [2]string{load()}}
	w, err := newWorld(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.agent.run(gctx) })
	if w.bus != nil {
		w.tray = &tray{w: w}
		g.Go(func() error { return w.tray.run(gctx) })
	}
	g.Go(func() error {
		defer cancel()
		return w.weather(gctx, o, &r)
	})
	err = g.Wait()
	if w.lab != nil {
		r.Where = "real Teleport " + w.lab.Version
	}
	r.Seconds, r.Load[1] = time.Since(r.Began).Seconds(), load()
	r.Starts, r.Asked, r.Lost = int(w.agent.starts.Load()), w.ledger.asked(), w.ledger.lost
	return r, err
}

// weather runs the clients and, one after the other, the faults.
func (w *world) weather(ctx context.Context, o options, r *report) error {
	if err := w.ready(ctx); err != nil {
		return fmt.Errorf("the agent is not ready: %w", err)
	}
	clients := w.clients(o)
	r.Tunnels, r.Clients = len(w.tunnels), len(clients)
	wake.Sleep(ctx, atRest)
	var err error
	if r.AtRest[0], err = w.measure(ctx); err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(serving, w.ledger, clients, o.seed)
	}()
	wake.Sleep(ctx, warmUp)
	faults, missing := w.choose(o)
	w.schedule(ctx, o, faults, r)
	stop()
	<-served
	var all []string
	for _, f := range o.faults() {
		all = append(all, f.name)
	}
	r.Rows = w.ledger.rows(all, missing)
	if !wake.Sleep(ctx, atRest) {
		return nil // it was interrupted
	}
	if r.AtRest[1], err = w.measure(ctx); err != nil {
		r.Failures = append(r.Failures, "measure the agent at rest: "+err.Error())
	}
	return nil
}

// choose returns the faults that can be made here, and why the others cannot.
func (w *world) choose(o options) (faults []fault, missing map[string]string) {
	missing = make(map[string]string)
	for _, f := range o.faults() {
		if f.missing != nil {
			if why := f.missing(w); why != "" {
				missing[f.name] = why
				continue
			}
		}
		faults = append(faults, f)
	}
	return faults, missing
}

// schedule makes all faults in an order that follows from the seed, and again,
// until the time is over.
func (w *world) schedule(ctx context.Context, o options, faults []fault, r *report) {
	rnd := rand.New(rand.NewPCG(o.seed, 0))
	end := r.Began.Add(o.length)
	for len(faults) > 0 {
		round := slices.Clone(faults)
		rnd.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		for len(round) > 0 {
			var now []fault
			now, round = together(rnd, round, o.overlap)
			var spans time.Duration
			for _, f := range now {
				spans += f.short + time.Duration(rnd.Float64()*float64(min(f.long, o.longest)-min(f.short, o.longest)))
			}
			spans = min(spans, o.longest)
			if ctx.Err() != nil || time.Now().Add(spans).After(end) {
				return
			}
			if err := w.make(ctx, now, spans, o); err != nil && ctx.Err() == nil {
				r.Failures = append(r.Failures, names(now)+": "+err.Error())
			}
			r.Faults += len(now)
			if len(now) > 1 {
				r.Overlapping += len(now)
			}
			if s, err := w.measure(ctx); err == nil {
				r.Sizes = append(r.Sizes, s)
			}
		}
	}
}

// together takes the next fault of a round, and with the probability p another
// one that can overlap it. The one that lasts comes first.
func together(rnd *rand.Rand, round []fault, p float64) (now, rest []fault) {
	now, rest = []fault{round[0]}, round[1:]
	if rnd.Float64() >= p {
		return now, rest
	}
	if i := slices.IndexFunc(rest, round[0].overlaps); i >= 0 {
		now = append(now, rest[i])
		rest = slices.Delete(slices.Clone(rest), i, i+1)
	}
	if now[0].stop == nil {
		slices.Reverse(now)
	}
	return now, rest
}

func names(faults []fault) string {
	var list []string
	for _, f := range faults {
		list = append(list, f.name)
	}
	return strings.Join(list, " + ")
}

// make makes a fault, or two that overlap, and waits until the clients are served
// again.
func (w *world) make(ctx context.Context, faults []fault, span time.Duration, o options) (err error) {
	began := time.Now()
	part := span / time.Duration(len(faults))
	var there []func()
	for _, f := range faults {
		win := w.ledger.start(f.name, f.allows, f.settle)
		err = errors.Join(err, f.start(ctx, w))
		wake.Sleep(ctx, part)
		if f.stop == nil {
			w.ledger.stop(win)
			continue
		}
		there = append(there, func() {
			// It is undone even when the run ends.
			err = errors.Join(err, f.stop(context.WithoutCancel(ctx), w))
			w.ledger.stop(win)
		})
	}
	for i, undo := range there {
		if i > 0 {
			wake.Sleep(ctx, part)
		}
		undo()
	}
	over := time.Now()
	if len(there) > 0 {
		after, ready := w.untilReady(ctx, over)
		if ready == nil {
			w.ledger.ready(faults[len(faults)-1].name, after)
		}
		err = errors.Join(err, ready)
	}
	waiting, cancel := context.WithTimeout(ctx, 2*settleTime)
	defer cancel()
	for len(w.ledger.down()) > 0 && wake.Sleep(waiting, 100*time.Millisecond) {
		continue
	}
	fmt.Fprintf(o.out, "%s %-36s %6.1f s, calm %5.1f s later%s\n", began.Format(time.TimeOnly), names(faults),
		over.Sub(began).Seconds(), time.Since(over).Seconds(), stillDown(w.ledger.down()))
	wake.Sleep(ctx, calm)
	return err
}

func stillDown(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; not served: " + strings.Join(names, ", ")
}

// load is that of the machine, over a minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}
