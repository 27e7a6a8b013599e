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
	took, err := collect(b.times(21, 5), func(int) (time.Duration, error) {
		if err := b.calm(ctx); err != nil {
			return 0, err
		}
		return a.status(ctx, b.binary)
	})
	if err != nil {
		return err
	}
	b.add(row{
		what:     "`berth status --json`, 50 tunnels",
		measured: ms(median(took)) + " (fastest " + ms(quantile(took, 0)) + ")",
		budget:   "≤ 15 ms", verdict: within(median(took).Seconds(), 0.015),
	})
	return nil
}

// status runs the command once and returns how long it took.
func (a *agent) status(ctx context.Context, berth string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, berth, "status", "--json")
	cmd.Env = a.env
	began := time.Now()
	out, err := cmd.Output()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("berth status: %w", err)
	}
	a.load.addChild(cmd.ProcessState)
	var s state.Snapshot
	if err := json.Unmarshal(out, &s); err != nil {
		return 0, err
	}
	if len(s.Tunnels) != len(a.ports) {
		return 0, fmt.Errorf("status shows %d tunnels, want %d", len(s.Tunnels), len(a.ports))
	}
	return took, nil
}
