//go:build !linux

package main

import (
	"os"
	"time"

	"github.com/shirou/gopsutil/v4/process"
)

func memoryOf(pid int) (memory, error) {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return memory{}, err
	}
	info, err := p.MemoryInfo()
	if err != nil {
		return memory{}, err
	}
	return memory{rss: int64(info.RSS)}, nil
}

// callsOf would count reads and writes, which these systems do not say.
func callsOf(int) (int64, error) { return 0, nil }

func cpuOf(pid int) (time.Duration, error) {
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return 0, err
	}
	times, err := p.Times()
	if err != nil {
		return 0, err
	}
	return time.Duration((times.User + times.System) * float64(time.Second)), nil
}

// childrenCPU would be the CPU time of ended children, which these systems do not
// say.
func childrenCPU(int) (time.Duration, error) { return 0, nil }

// peakOf would be the most memory that a process had, in which these systems
// differ.
func peakOf(*os.ProcessState) int64 { return 0 }
