package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
)

// loadMeter says how much of the machine other programs used, without which
// figures of a shared machine cannot be judged.
type loadMeter struct {
	first    cpu.TimesStat
	children float64 // CPU seconds of agents that have ended
}

func (l *loadMeter) start(ctx context.Context) error {
	var err error
	l.first, err = cpuTimes(ctx)
	return err
}

// addChild counts an ended child's CPU time as our own.
func (l *loadMeter) addChild(p *os.ProcessState) {
	if p != nil {
		l.children += (p.UserTime() + p.SystemTime()).Seconds()
	}
}

// others is the share of all cores that other programs used since start.
func (l *loadMeter) others(ctx context.Context) (float64, error) {
	now, err := cpuTimes(ctx)
	if err != nil {
		return 0, err
	}
	own, err := cpuOf(self())
	if err != nil {
		return 0, err
	}
	return othersShare(l.first, now, own.Seconds()+l.children), nil
}

// othersShare is the share of all cores that was used between two moments and
// is not our own. What a hypervisor took away counts as used by others.
func othersShare(from, to cpu.TimesStat, own float64) float64 {
	total := sumTimes(to) - sumTimes(from)
	idle := to.Idle + to.Iowait - from.Idle - from.Iowait
	if total <= 0 {
		return 0
	}
	return max(0, (total-idle-own)/total)
}

// sumTimes leaves out guest time, which is part of user time.
func sumTimes(t cpu.TimesStat) float64 {
	return t.User + t.System + t.Idle + t.Nice + t.Iowait + t.Irq + t.Softirq + t.Steal
}

func cpuTimes(ctx context.Context) (cpu.TimesStat, error) {
	all, err := cpu.TimesWithContext(ctx, false)
	if err != nil {
		return cpu.TimesStat{}, err
	}
	if len(all) == 0 {
		return cpu.TimesStat{}, errors.New("the system tells nothing of its CPU times")
	}
	return all[0], nil
}

const (
	// calmSample is how long the machine is looked at.
	calmSample = 400 * time.Millisecond
	// calmEnough is the share of all cores that others may use.
	calmEnough = 0.1
)

// calm waits until other programs leave the machine alone, for as long as
// there is patience left for the group. Our own agents are idle then.
func (b *bench) calm(ctx context.Context) error {
	for {
		share, err := othersNow(ctx)
		if err != nil || share <= calmEnough {
			return err
		}
		if b.patienceLeft <= 0 {
			b.restless++
			return nil
		}
		b.patienceLeft -= calmSample
	}
}

// othersNow is the share of all cores that others use at the moment.
func othersNow(ctx context.Context) (float64, error) {
	from, err := cpuTimes(ctx)
	if err != nil {
		return 0, err
	}
	ownFrom, err := cpuOf(self())
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, calmSample); err != nil {
		return 0, err
	}
	to, err := cpuTimes(ctx)
	if err != nil {
		return 0, err
	}
	ownTo, err := cpuOf(self())
	if err != nil {
		return 0, err
	}
	return othersShare(from, to, (ownTo - ownFrom).Seconds()), nil
}
