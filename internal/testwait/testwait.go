// Package testwait waits in tests for what another goroutine or program
// brings about. In a synctest bubble it waits in the bubble's time.
package testwait

import (
	"flag"
	"runtime"
	"strconv"
	"testing"
	"time"
)

const (
	// Patience is how long anything may take that should happen at once. It is
	// generous: a busy machine is no reason for a test to fail.
	Patience = 2 * time.Minute
	// moment is how long Never watches.
	moment = 200 * time.Millisecond
	// Between two looks it waits from pollFirst on, and longer each time.
	pollFirst, pollLongest = time.Millisecond, 20 * time.Millisecond
)

// Eventually waits until ok, and fails the test when that takes too long.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !Until(ok) {
		t.Fatalf("waited %s in vain for: %s", Patience, what)
	}
}

// Until waits until ok and reports whether it came true: for those who have
// more to say of a failure than Eventually.
func Until(ok func() bool) bool { return within(Patience, ok) }

// Moment lets a moment pass, for what tells of itself to no one: bytes that
// arrive over loopback, a folder that gets watched.
func Moment() { time.Sleep(50 * time.Millisecond) }

// Hang lets a program of a test wait until it is killed: an empty select would
// be a deadlock to the runtime.
func Hang() { time.Sleep(time.Hour) }

// NextSecond waits until the clock shows another second: the end of a
// certificate, and some times of files, have nothing finer.
func NextSecond() {
	now := time.Now()
	time.Sleep(now.Truncate(time.Second).Add(time.Second).Sub(now))
}

// ManyAtOnce is for the TestMain of a package whose tests mostly wait: twelve parallel
// tests run at once, or as many as there are processors, unless the command line gives
// a number.
func ManyAtOnce() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == parallelFlag })
	if given {
		return
	}
	if err := flag.Set(parallelFlag, strconv.Itoa(max(12, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
}

const parallelFlag = "test.parallel"

// Never fails the test when ok comes true within a moment. A wait shows an
// absence only by chance: where an event tells that the time has passed,
// await that event and look once.
func Never(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if within(moment, ok) {
		t.Fatalf("this must not happen: %s", what)
	}
}

func within(limit time.Duration, ok func() bool) bool {
	for deadline, poll := time.Now().Add(limit), pollFirst; !ok(); poll = min(2*poll, pollLongest) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(poll)
	}
	return true
}
