package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"
)

// machine describes where the figures come from.
type machine struct {
	cpu     string
	cores   int // logical
	memory  uint64
	system  string
	virtual string // what it runs inside of; empty means nothing, or nothing known
	goVer   string
	at      time.Time
	others  float64 // share of all cores used by others meanwhile
}

func (b *bench) machine(ctx context.Context) (machine, error) {
	m := machine{cores: runtime.NumCPU(), goVer: runtime.Version(), at: time.Now()}
	cpus, err := cpu.InfoWithContext(ctx)
	if err != nil {
		return m, err
	}
	if len(cpus) > 0 {
		m.cpu = strings.Join(strings.Fields(cpus[0].ModelName), " ")
	}
	vm, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return m, err
	}
	m.memory = vm.Total
	h, err := host.InfoWithContext(ctx)
	if err != nil {
		return m, err
	}
	m.system = strings.TrimSpace(fmt.Sprintf("%s %s, kernel %s, %s", h.Platform, h.PlatformVersion, h.KernelVersion, runtime.GOARCH))
	if h.VirtualizationRole == "guest" {
		m.virtual = h.VirtualizationSystem
	}
	m.others, err = b.load.others(ctx)
	return m, err
}

func (m machine) String() string {
	virtual := ""
	if m.virtual != "" {
		virtual = " (inside " + m.virtual + ")"
	}
	return fmt.Sprintf("Machine: %s, %d cores, %.0f GB of memory; %s%s; %s; %s. Other programs used %.0f %% of its cores meanwhile.",
		m.cpu, m.cores, float64(m.memory)/1e9, m.system, virtual, m.goVer, m.at.UTC().Format("2006-01-02"), 100*m.others)
}
