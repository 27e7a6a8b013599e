package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is what "go test -json" says. Source: go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64 // seconds, of what has ended
}

// test names a test of a package; the package itself if its name is empty.
type test struct{ pkg, name string }

type report struct {
	out     io.Writer
	said    map[test][]string // output of what has not ended
	skipped map[string][]test // by reason
	failed  []test
	passed  int
	slow    []timed // the slowest first, and no more than slowest
	running map[test]bool
	grave   bool // something went wrong that no second run excuses
}

// slowest is how many tests the summary names that took long, if they took
// longSeconds or more.
const (
	slowest     = 10
	longSeconds = 5
)

type timed struct {
	test
	seconds float64
}

func newReport(out io.Writer) *report {
	return &report{out: out, said: make(map[test][]string), skipped: make(map[string][]test), running: make(map[test]bool)}
}

// add takes the next event.
func (r *report) add(e event) {
	t := test{e.Package, e.Test}
	r.time(t, e.Elapsed)
	switch e.Action {
	case "run":
		r.running[t] = true
	case "build-output":
		r.print(e.Output)
	case "output":
		r.output(t, e.Output)
	case "pass":
		delete(r.running, t)
		if t.name != "" {
			r.passed++
		}
		if slices.ContainsFunc(r.said[t], isGrave) { // of a test beside it, which fails for that
			r.grave = true
			r.print(r.said[t]...)
		}
		delete(r.said, t)
	case "skip":
		delete(r.running, t)
		if t.name != "" {
			reason := reasonOf(r.said[t])
			r.skipped[reason] = append(r.skipped[reason], t)
		}
		delete(r.said, t)
	case "fail":
		delete(r.running, t)
		r.failed = append(r.failed, t)
		r.grave = r.grave || slices.ContainsFunc(r.said[t], isGrave)
		if t.name == "" { // and with it whatever has not ended
			for left := range r.running {
				r.grave = r.grave || left.pkg == t.pkg // the tests after it did not run
			}
			for _, left := range slices.SortedFunc(maps.Keys(r.said), byName) {
				if left.pkg == t.pkg && left.name != "" {
					r.print(r.said[left]...)
					delete(r.said, left)
				}
			}
		}
		r.print(r.said[t]...)
		delete(r.said, t)
	}
}

// time notes how long a test took that has ended; its subtests are part of it.
func (r *report) time(t test, seconds float64) {
	if seconds < longSeconds || t.name == "" || strings.Contains(t.name, "/") {
		return
	}
	r.slow = append(r.slow, timed{t, seconds})
	slices.SortFunc(r.slow, func(a, b timed) int { return cmp.Or(cmp.Compare(b.seconds, a.seconds), byName(a.test, b.test)) })
	r.slow = r.slow[:min(len(r.slow), slowest)]
}

// output keeps what a test says until it is known how it ends. The one line
// that tells how a package did is printed at once.
func (r *report) output(t test, text string) {
	if t.name != "" {
		r.said[t] = append(r.said[t], text)
		return
	}
	switch {
	case strings.HasPrefix(text, "ok  "), strings.HasPrefix(text, "FAIL\t"), strings.HasPrefix(text, "?   "):
		line, _, _ := strings.Cut(text, "\tcoverage: ") // of which the profile says more
		r.print(strings.TrimRight(line, "\n") + "\n")
	case text == "PASS\n", text == "FAIL\n", strings.HasPrefix(text, "coverage: "):
	default:
		r.said[t] = append(r.said[t], text)
	}
}

func (r *report) print(lines ...string) {
	for _, line := range lines {
		_, _ = io.WriteString(r.out, line) // if stdout is gone there is nothing to say it on
	}
}

// reasonOf finds the reason in the output of a skipped test: the line before
// the one that says that it was skipped, without the place in the source.
func reasonOf(said []string) string {
	reason := "no reason given"
	for _, line := range said {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, line, _ = strings.Cut(text, ": ")
		}
		reason = line
	}
	return reason
}

func byName(a, b test) int { return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.name, b.name)) }

// summary prints what is to be seen at the end.
func (r *report) summary() {
	skipped := 0
	for _, tests := range r.skipped {
		skipped += len(tests)
	}
	if skipped > 0 {
		fmt.Fprintf(r.out, "\n%d skipped:\n", skipped)
	}
	for _, reason := range slices.Sorted(maps.Keys(r.skipped)) {
		fmt.Fprintf(r.out, "  %s\n", reason)
		for _, t := range slices.SortedFunc(slices.Values(r.skipped[reason]), byName) {
			fmt.Fprintf(r.out, "      %s %s\n", t.pkg, t.name)
		}
	}
	if len(r.slow) > 0 {
		fmt.Fprintf(r.out, "\nThe slowest:\n")
	}
	for _, t := range r.slow {
		fmt.Fprintf(r.out, "  %5.1f s  %s %s\n", t.seconds, t.pkg, t.name)
	}
	if len(r.failed) == 0 {
		fmt.Fprintf(r.out, "\n%d tests passed, %d skipped, none failed.\n", r.passed, skipped)
		return
	}
	fmt.Fprintf(r.out, "\n%d tests passed, %d skipped. Failed:\n", r.passed, skipped)
	for _, t := range r.failed {
		fmt.Fprintf(r.out, "  %s\n", strings.TrimSpace(t.pkg+" "+t.name))
	}
}
