package osevents

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	at := func(wall, running, asleep time.Duration, known bool) reading {
		return reading{
			wall: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(wall), running: running, asleep: asleep, asleepKnown: known,
		}
	}
	const h, s = time.Hour, time.Second
	tests := []struct {
		name       string
		now        reading
		slept, set time.Duration
	}{
		{"nothing", at(15*s, 15*s, 0, true), 0, 0},
		{"slow_process", at(h, h, 0, true), 0, 0},
		{"slept", at(9*h, 15*s, 9*h-15*s, true), 9*h - 15*s, 0},
		{"short_nap", at(3*s, 2*s, s, true), s, 0},
		{"clock_set_forward", at(9*h, 15*s, 0, true), 0, 9*h - 15*s},
		{"clock_set_back", at(-9*h, 15*s, 0, true), 0, -9*h - 15*s},
		{"drift_corrected", at(18*s, 15*s, 0, true), 0, 0},
		{"slept_and_set", at(5*h, 15*s, 9*h, true), 9 * h, 5*h - 9*h - 15*s},
		{"sleep_not_counted", at(9*h, 15*s, 0, false), 9*h - 15*s, 0},
		{"sleep_not_counted_set_back", at(-9*h, 15*s, 0, false), 0, -9*h - 15*s},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := at(0, 0, 0, tt.now.asleepKnown)
			if slept, set := compare(before, tt.now); slept != tt.slept || set != tt.set {
				t.Errorf("compare() = slept %v, set %v; want %v, %v", slept, set, tt.slept, tt.set)
			}
		})
	}
}

// fakeMachine is a machine whose sleep, clock and network a test commands.
type fakeMachine struct {
	mu            sync.Mutex
	slept, set    time.Duration
	address       string
	clocks, looks atomic.Int64
	begin         time.Time
}

func newFakeMachine() *fakeMachine { return &fakeMachine{begin: time.Now(), address: "10.0.0.1"} }

func (f *fakeMachine) readClock() reading {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clocks.Add(1)
	running := time.Since(f.begin)
	return reading{wall: f.begin.Round(0).Add(running + f.slept + f.set), running: running, asleep: f.slept, asleepKnown: true}
}

func (f *fakeMachine) readNetwork(add func(string)) {
	f.looks.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	add(f.address)
}

func (f *fakeMachine) do(change func(f *fakeMachine)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeMachine) monitor(cfg Config, sources ...source) *Monitor {
	m := New(cfg)
	m.sources = sources
	m.clock.read, m.network.read = f.readClock, f.readNetwork
	return m
}

// listening is a source that listens well and hears nothing.
func listening(ctx context.Context, _ *Monitor, up func()) error {
	up()
	<-ctx.Done()
	return ctx.Err()
}

func TestLooksWhereNobodyTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, r := newFakeMachine(), newRecorder()
		start(t, machine.monitor(Config{Tell: r.tell}))
		time.Sleep(time.Hour)
		r.none(t, time.Second)

		machine.do(func(f *fakeMachine) { f.slept += 9 * time.Hour })
		if e := r.want(t, Woke); e.By != 9*time.Hour {
			t.Errorf("slept %v, want 9h", e.By)
		}
		machine.do(func(f *fakeMachine) { f.set -= 9 * time.Hour })
		if e := r.want(t, ClockChanged); e.By != -9*time.Hour {
			t.Errorf("set by %v, want -9h", e.By)
		}
		before := time.Now()
		machine.do(func(f *fakeMachine) { f.address = "10.0.0.2" })
		r.want(t, NetworkChanged)
		if took := time.Since(before); took > lookEvery {
			t.Errorf("a change of the network was seen after %v, want %v at most", took, lookEvery)
		}
		r.none(t, time.Hour)
	})
}

func TestIsQuietWhereTheSystemTells(t *testing.T) {
	tests := []struct {
		name          string
		covers        cover
		clocks, looks int64 // in an hour
	}{
		{"all", coverSleep | coverClock | coverNetwork, 0, 0},
		{"no_clock", coverSleep | coverNetwork, 60, 0},
		{"no_network", coverSleep | coverClock, 240, 240},
		{"no_sleep", coverClock | coverNetwork, 240, 0},
		{"nothing", 0, 240, 240},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				machine := newFakeMachine()
				start(t, machine.monitor(Config{}, source{name: "fake", covers: tt.covers, listen: listening}))
				synctest.Wait()
				clocks, looks := machine.clocks.Load(), machine.looks.Load()
				time.Sleep(time.Hour)
				synctest.Wait()
				got := []int64{machine.clocks.Load() - clocks, machine.looks.Load() - looks}
				if diff := cmp.Diff([]int64{tt.clocks, tt.looks}, got); diff != "" {
					t.Errorf("looks at clock and network in an hour (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestLooksWhileASourceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		gone := make(chan struct{})
		flaky := func(ctx context.Context, _ *Monitor, up func()) error {
			if !works.Load() {
				return errors.New("no such thing")
			}
			up()
			select {
			case <-gone:
				return errors.New("went away")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var log bytes.Buffer
		machine, r := newFakeMachine(), newRecorder()
		cfg := Config{Tell: r.tell, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		start(t, machine.monitor(cfg,
			source{name: "flaky", covers: coverSleep | coverClock | coverNetwork, listen: flaky},
			source{name: "unsupported", listen: func(context.Context, *Monitor, func()) error { return errors.ErrUnsupported }}))
		time.Sleep(time.Hour)
		machine.do(func(f *fakeMachine) { f.slept += time.Hour })
		r.want(t, Woke)

		works.Store(true)
		time.Sleep(2 * retryMax) // until it is tried again
		machine.do(func(f *fakeMachine) { f.slept += time.Hour })
		r.none(t, time.Hour) // it would be the source's to tell

		works.Store(false)
		gone <- struct{}{}
		r.want(t, Woke)
		time.Sleep(time.Hour)
		synctest.Wait()
		for name, want := range map[string]int{"source=flaky": 2, "source=unsupported": 1} {
			if n := strings.Count(log.String(), name); n != want {
				t.Errorf("%d log lines with %s, want %d: once each time it is missing\n%s", n, name, want, &log)
			}
		}
	})
}

func TestSuspendCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine, r := newFakeMachine(), newRecorder()
		m := machine.monitor(Config{Tell: r.tell})
		start(t, m)
		m.lookAtClock("logind", true)
		r.none(t, time.Second) // no source had said that it goes to sleep
		<-m.suspending("logind")
		m.lookAtClock("logind", true)
		r.want(t, Suspending, Woke)

		<-m.suspending("logind")
		machine.do(func(f *fakeMachine) { f.slept += time.Hour })
		m.lookAtClock("timerfd", false) // two sources tell of the same
		m.lookAtClock("logind", true)
		r.want(t, Suspending, Woke)
		r.none(t, time.Minute)
	})
}

func TestSlowListenerGetsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		r := newRecorder()
		r.before = func(Event) { <-hold }
		machine := newFakeMachine()
		m := machine.monitor(Config{Tell: r.tell})
		start(t, m)
		m.lock.set("a", true)
		synctest.Wait() // Locked is being delivered
		for range 1000 {
			m.lock.set("a", false)
			m.lock.set("a", true)
		}
		m.lock.set("a", false)
		close(hold)
		r.want(t, Locked, Locked, Unlocked)
		r.none(t, time.Second)
	})
}

func TestAfterChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changes := make(chan struct{}, 1)
		looked := make(chan time.Time, 16)
		var all sync.WaitGroup
		all.Go(func() { afterChanges(ctx, changes, func() { looked <- time.Now() }) })

		begin := time.Now()
		for range 8 {
			hint(changes)
			time.Sleep(100 * time.Millisecond)
		}
		if got := (<-looked).Sub(begin); got != 700*time.Millisecond+settle {
			t.Errorf("looked %v after the first of 8 messages, want %v after the last", got, settle)
		}
		begin = time.Now()
		for time.Since(begin) < settleMax {
			hint(changes)
			time.Sleep(100 * time.Millisecond)
		}
		if got := (<-looked).Sub(begin); got > settleMax {
			t.Errorf("looked after %v at a network that is never quiet, want %v", got, settleMax)
		}
		cancel()
		all.Wait()
	})
}

func TestLockState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []Kind
		l := lockState{tell: func(e Event) <-chan struct{} {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e.Kind)
			return nil
		}}
		check := func(what string, locked, known bool, kinds ...Kind) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if gotLocked, gotKnown := l.state(); gotLocked != locked || gotKnown != known {
				t.Errorf("%s: locked %v, known %v; want %v, %v", what, gotLocked, gotKnown, locked, known)
			}
			if diff := cmp.Diff(kinds, got); diff != "" {
				t.Errorf("%s: events (-want +got):\n%s", what, diff)
			}
			got = nil
		}
		check("at_first", false, false)
		l.set("logind", false)
		check("not_locked", false, true)
		l.set("saver", true)
		check("one_says_so", true, true, Locked)
		l.set("logind", true)
		l.set("saver", false)
		check("the_other_says_so", true, true)
		l.forget("logind")
		check("who_said_so_has_gone", false, true, Unlocked)
		l.requested("request")
		check("requested", true, true, Locked)
		time.Sleep(lockRequestLasts + time.Second)
		synctest.Wait()
		check("nobody_followed_the_request", false, true, Unlocked)
		l.requested("request")
		l.cancelRequest("request")
		check("unlock_requested", false, true, Locked, Unlocked)
		l.forget("saver")
		check("all_have_gone", false, false)
	})
}

func TestIdleIsTheMostRecentInput(t *testing.T) {
	var s idleState
	is := func(d time.Duration, ok bool) func(context.Context) (time.Duration, bool) {
		return func(context.Context) (time.Duration, bool) { return d, ok }
	}
	if d, known := s.state(); known {
		t.Errorf("idle for %v, although that cannot be known", d)
	}
	s.set("a", is(time.Hour, true))
	s.set("b", is(time.Minute, true))
	s.set("c", is(0, false))
	if d, known := s.state(); d != time.Minute || !known {
		t.Errorf("idle for %v, known %v; want 1m", d, known)
	}
	s.set("b", nil)
	if d, _ := s.state(); d != time.Hour {
		t.Errorf("idle for %v after a source has gone, want 1h", d)
	}
}

func TestKindString(t *testing.T) {
	for kind, want := range map[Kind]string{Suspending: "suspending", Unlocked: "unlocked", 0: "unknown", -1: "unknown", 99: "unknown"} {
		if got := kind.String(); got != want {
			t.Errorf("Kind(%d) = %q, want %q", int(kind), got, want)
		}
	}
}
