package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"berth/agent/state"
)

// cli measures "berth status --json" with an agent that has 50 tunnels.
func (b *bench) cli(ctx context.Context) (err error) {
	a, err := b.startAgent(ctx, most)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := a.awaitTunnels(ctx); err != nil {
		return err
	}
	calls, err := collect(b.times(21, 5), func(int) (call, error) {
		if err := b.calm(ctx); err != nil {
			return call{}, err
		}
		return a.status(ctx, b.binary)
	})
	if err != nil {
		return err
	}
	took := each(calls, func(c call) time.Duration { return c.took })
	cpu := each(calls, func(c call) time.Duration { return c.cpu })
	b.add(row{
		what:     "`berth status --json`, 50 tunnels",
		measured: ms(median(took)) + " (fastest " + ms(quantile(took, 0)) + "), CPU " + ms(median(cpu)) + " (least " + ms(quantile(cpu, 0)) + ")",
		budget:   "≤ 15 ms", verdict: within(median(took).Seconds(), 0.015),
	})
	return nil
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
