package main

import (
	"context"
	"fmt"
	"time"
)

// unused is what a program costs that is not used.
type unused struct {
	memory
	core float64 // share of one core
}

// idleRows tells what a program costs that rests.
func idleRows(who string, got []unused) (size, usage row) {
	rss := float64(median(each(got, func(a unused) int64 { return a.rss })))
	file := float64(median(each(got, func(a unused) int64 { return a.file })))
	core := median(each(got, func(a unused) float64 { return a.core }))
	size = row{what: who + ": resident memory", measured: mb(rss), figure: rss}
	if file > 0 {
		size.measured += fmt.Sprintf(" (%s of its own, %s pages of its program file)", mb(rss-file), mb(file))
	}
	return size, row{what: who + ": CPU", measured: fmt.Sprintf("%.3f %% of a core", 100*core), figure: core}
}

// watch watches a process after a while.
func (b *bench) watch(ctx context.Context, pid int, after time.Duration) (got unused, err error) {
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
