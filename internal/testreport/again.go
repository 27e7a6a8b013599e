package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
)

// againMost is how many failed tests are run again: more is no bad luck.
const againMost = 6

// isGrave reports whether a line is of a failure that no second run excuses, of the
// test itself or of a program that it ran and whose output it prints.
func isGrave(line string) bool {
	line = strings.TrimSpace(line)
	return strings.Contains(line, "WARNING: DATA RACE") || strings.Contains(line, "race detected during execution") ||
		strings.Contains(line, "found unexpected goroutines") ||
		strings.Contains(line, "[unexpected] panic") || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// toRunAgain returns the failed tests by package, for another run without the rest of the
// tests beside them. There are none if something failed that is more than a test, or
// too many did.
func (r *report) toRunAgain() map[string][]string {
	tests, count := make(map[string][]string), 0
	for _, t := range r.failed {
		if name, _, _ := strings.Cut(t.name, "/"); name != "" && !slices.Contains(tests[t.pkg], name) {
			tests[t.pkg] = append(tests[t.pkg], name)
			count++
		}
	}
	for _, t := range r.failed {
		if tests[t.pkg] == nil { // it was not built, or ended early
			return nil
		}
	}
	if r.grave || count > againMost {
		return nil
	}
	return tests
}

// runAgain runs tests with the flags of the first run, one at a time, and reports
// whether all of them pass.
func runAgain(ctx context.Context, out io.Writer, flags []string, tests map[string][]string) bool {
	passed := len(tests) > 0
	for _, pkg := range slices.Sorted(maps.Keys(tests)) {
		only := "-run=^(" + strings.Join(tests[pkg], "|") + ")$"
		fmt.Fprintf(out, "\nOnce more, alone: %s %s\n", pkg, strings.Join(tests[pkg], " "))
		cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"test", "-count=1", "-parallel=1"}, flags, []string{only, pkg})...)
		cmd.Stdout, cmd.Stderr = out, out
		if cmd.Run() != nil { // it has said why
			passed = false
		}
	}
	if passed {
		fmt.Fprintln(out, "\nThey pass alone: each was late on a busy machine, and is to be mended.")
	}
	return passed
}
