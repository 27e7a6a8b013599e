package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// asked is how requests were answered for a while.
type asked struct {
	rate float64       // a second
	cpu  time.Duration // of the proxy's process, for each request
	all  time.Duration // of the runner's: clients and cluster
}

// perSecond has several askers ask for some time; proxy is the process that
// carries the requests, 0 for none.
func (c apiClient) perSecond(ctx context.Context, path string, askers int, d time.Duration, proxy int) (asked, error) {
	cpu := func(pid int) (time.Duration, error) {
		if pid == 0 {
			return 0, nil
		}
		return cpuOf(pid)
	}
	ownFrom, err := cpu(self())
	proxyFrom, err2 := cpu(proxy)
	if err := errors.Join(err, err2); err != nil {
		return asked{}, err
	}
	var n atomic.Int64
	errs := make([]error, askers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range askers {
		wg.Go(func() {
			for time.Since(began) < d && errs[i] == nil {
				errs[i] = c.get(ctx, path)
				n.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	own, err := cpu(self())
	proxied, err2 := cpu(proxy)
	each := time.Duration(max(n.Load(), 1))
	return asked{
		rate: float64(n.Load()) / took.Seconds(), cpu: (proxied - proxyFrom) / each, all: (own - ownFrom) / each,
	}, errors.Join(append(errs, err, err2)...)
}

// rateRun says which requests to measure, and on which cluster.
type rateRun struct {
	tunnel, cluster, kube string
	loads                 []rateLoad
}

type rateLoad struct {
	about, path string
	askers      int
}

// kubeRate compares requests through berth with the same ones without it, and
// with those through the least that a proxy can be, in turns and over one
// connection each.
func (b *bench) kubeRate(ctx context.Context, a *kubeAgent, r rateRun) error {
	berth, err := a.through(r.tunnel)
	if err != nil {
		return err
	}
	direct, err := a.direct(ctx, r.cluster, r.kube)
	if err != nil {
		return err
	}
	bare, stop, err := a.bare(ctx, r.cluster, r.kube)
	if err != nil {
		return err
	}
	defer stop()
	ways := []apiClient{berth, direct, bare.apiClient}
	for _, c := range ways {
		defer c.http.CloseIdleConnections()
	}
	pids := map[string]int{berth.name: a.pid(), bare.name: bare.pid}
	for _, load := range r.loads {
		got := map[string][]asked{}
		span := b.span(3*time.Second, 200*time.Millisecond)
		for range b.times(7, 1) {
			if err := b.calm(ctx); err != nil {
				return err
			}
			for _, c := range ways {
				one, err := c.perSecond(ctx, load.path, load.askers, span, pids[c.name])
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				got[c.name] = append(got[c.name], one)
			}
		}
		b.add(rateRows(load.about+", clients: "+strconv.Itoa(load.askers), got["berth"], got["direct"], got["bare"])...)
	}
	return nil
}

// rateRows are the medians; the ratio is that of each round, since what disturbs
// one way disturbs the others.
func rateRows(about string, berth, direct, bare []asked) []row {
	ratio := func(of []asked) float64 {
		ratios := make([]float64, len(of))
		for i := range of {
			ratios[i] = of[i].rate / direct[i].rate
		}
		return median(ratios)
	}
	rate := func(of []asked) float64 { return median(each(of, func(a asked) float64 { return a.rate })) }
	cpu := func(of []asked) time.Duration { return median(each(of, func(a asked) time.Duration { return a.cpu })) }
	all := func(of []asked) time.Duration { return median(each(of, func(a asked) time.Duration { return a.all })) }
	what := "requests/s, " + about
	return []row{
		{
			what:     what + ": tunnel ÷ direct",
			measured: fmt.Sprintf("%.2f (%.0f ÷ %.0f)", ratio(berth), rate(berth), rate(direct)),
			budget:   "≥ 0.9", verdict: atLeast(ratio(berth), 0.9), figure: ratio(berth),
		},
		{
			what:     what + ": a bare reverse proxy ÷ direct",
			measured: fmt.Sprintf("%.2f (%.0f ÷ %.0f)", ratio(bare), rate(bare), rate(direct)),
			figure:   ratio(bare),
		},
		{
			what: what + ": CPU of a request",
			measured: fmt.Sprintf("agent %s, bare proxy %s; client and cluster %s, without a proxy %s",
				us(cpu(berth)), us(cpu(bare)), us(all(berth)), us(all(direct))),
			figure: float64(cpu(berth)),
		},
	}
}

func us(d time.Duration) string { return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond)) }
