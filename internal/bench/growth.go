package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

// grown is what an agent with so many tunnels costs.
type grown struct {
	bound, ready, status, reload time.Duration
	statusCPU                    time.Duration
	most                         int64 // memory from the start on
	rest                         memory
	core                         float64 // share of one core at rest; not watched with more than most tunnels
}

// growth measures agents with more and more tunnels.
func (b *bench) growth(ctx context.Context) error {
	memories := curve{title: "Memory of the agent at rest, by tunnels (MB)", lines: []string{"resident", "of its own"}}
	for _, n := range []int{1, 50, 500, 2000} {
		got, err := collect(b.times(3, 1), func(int) (grown, error) { return b.grow(ctx, n) })
		if err != nil {
			return fmt.Errorf("%d tunnels: %w", n, err)
		}
		b.add(growthRows(n, got)...)
		rss := median(each(got, func(g grown) int64 { return g.rest.rss }))
		own := median(each(got, func(g grown) int64 { return g.rest.rss - g.rest.file }))
		memories.add(float64(n), float64(rss)/1e6, float64(own)/1e6)
	}
	b.curves["tunnels"] = memories
	return nil
}

func growthRows(n int, got []grown) []row {
	span := func(what func(grown) time.Duration) []float64 {
		return each(got, func(g grown) float64 { return 1e3 * what(g).Seconds() })
	}
	size := func(what func(grown) int64) []float64 {
		return each(got, func(g grown) float64 { return float64(what(g)) / 1e6 })
	}
	rss, own := size(func(g grown) int64 { return g.rest.rss }), size(func(g grown) int64 { return g.rest.rss - g.rest.file })
	peak := size(func(g grown) int64 { return g.most })
	bound, status := span(func(g grown) time.Duration { return g.bound }), span(func(g grown) time.Duration { return g.status })
	reload := span(func(g grown) time.Duration { return g.reload })
	cpu := span(func(g grown) time.Duration { return g.statusCPU })
	who := fmt.Sprintf("%d tunnels: ", n)
	if n == 1 {
		who = "1 tunnel: "
	}
	rows := []row{
		{what: who + "process start → ports bound", measured: spread(bound, "%.0f") + " ms"},
		{what: who + "process start → tunnels ready", measured: spread(span(func(g grown) time.Duration { return g.ready }), "%.0f") + " ms"},
		{what: who + "most memory from the start on", measured: spread(peak, "%.1f") + " MB"},
		{what: who + "memory at rest", measured: spread(rss, "%.1f") + " MB, of its own " + spread(own, "%.1f") + " MB"},
		{what: who + "`berth status --json`", measured: spread(status, "%.0f") + " ms, CPU " + spread(cpu, "%.0f") + " ms"},
		{what: who + "config without one of them → seen in the snapshot", measured: spread(reload, "%.0f") + " ms"},
	}
	if n <= most {
		core := each(got, func(g grown) float64 { return 100 * g.core })
		rows = append(rows, row{
			what: who + "CPU at rest", measured: spread(core, "%.3f") + " % of a core",
			budget: "< 0.1 % of a core", verdict: within(median(core), 0.1),
		})
	}
	budget := func(row int, most float64, words string, figures []float64) {
		rows[row].budget, rows[row].verdict = words, within(median(figures), most)
	}
	switch n {
	case 50:
		budget(0, 50, "≤ 50 ms", bound)
		budget(2, 45, "≤ 45 MB", peak)
		budget(3, 14, "≤ 14 MB of its own", own)
		budget(4, 15, "≤ 15 ms", status)
	case 500:
		budget(2, 60, "≤ 60 MB", peak)
	case 2000:
		budget(0, 1000, "≤ 1 s", bound)
		budget(2, 100, "≤ 100 MB", peak)
		budget(5, 50, "≤ 50 ms", reload)
	}
	return rows
}

func (b *bench) grow(ctx context.Context, n int) (got grown, err error) {
	if err := b.calm(ctx); err != nil {
		return got, err
	}
	a, err := b.startAgent(ctx, n)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	peak := make(chan int64, 1)
	go func() { peak <- mostMemory(watching, a.pid()) }()
	if err := a.awaitTunnels(ctx); err != nil {
		return got, err
	}
	got.bound, got.ready = a.bound, time.Since(a.began)
	if err := pause(ctx, b.span(18*time.Second, 5*time.Second)); err != nil { // the agent gives back what the start needed
		return got, err
	}
	stop()
	got.most = <-peak
	if n <= most {
		idle, err := b.watch(ctx, a.pid(), 0)
		if err != nil {
			return got, err
		}
		got.rest, got.core = idle.memory, idle.core
	} else if got.rest, err = memoryOf(a.pid()); err != nil {
		return got, err
	}
	statuses, err := collect(b.times(7, 3), func(int) (call, error) { return a.status(ctx, b.binary) })
	if err != nil {
		return got, err
	}
	got.status = median(each(statuses, func(c call) time.Duration { return c.took }))
	got.statusCPU = median(each(statuses, func(c call) time.Duration { return c.cpu }))
	got.reload, err = a.reload(ctx)
	return got, err
}

// mostMemory watches a process until ctx ends.
func mostMemory(ctx context.Context, pid int) int64 {
	var most int64
	for pause(ctx, 50*time.Millisecond) == nil {
		if m, err := memoryOf(pid); err == nil {
			most = max(most, m.rss)
		}
	}
	return most
}

// reload takes the last tunnel out of the config, and returns how long it takes
// until the snapshot is without it.
func (a *agent) reload(ctx context.Context) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	c := client.Dial(a.socket)
	defer c.Close()
	var began time.Time
	for s, err := range c.Follow(ctx) {
		switch {
		case err != nil:
			return 0, err
		case began.IsZero():
			text := a.config[:len(a.config)-len(a.lastTunnel)]
			began = time.Now()
			if err := os.WriteFile(a.configFile+".new", []byte(text), 0o600); err != nil {
				return 0, err
			}
			if err := os.Rename(a.configFile+".new", a.configFile); err != nil {
				return 0, err
			}
		case len(s.Tunnels) == len(a.ports)-1:
			return time.Since(began), nil
		}
	}
	return 0, fmt.Errorf("the config is not reloaded: %w", context.Cause(ctx))
}

// call is what a command took.
type call struct{ took, cpu time.Duration }

// status runs the command once.
func (a *agent) status(ctx context.Context, berth string) (call, error) {
	cmd := exec.CommandContext(ctx, berth, "status", "--json")
	cmd.Env = a.env
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	if err != nil {
		return call{}, fmt.Errorf("berth status: %w", err)
	}
	a.load.addChild(cmd.ProcessState)
	var s state.Snapshot
	if err := json.Unmarshal(out, &s); err != nil {
		return call{}, err
	}
	if len(s.Tunnels) != len(a.ports) {
		return call{}, fmt.Errorf("status shows %d tunnels, want %d", len(s.Tunnels), len(a.ports))
	}
	return call{took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}
