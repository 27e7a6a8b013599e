package osevents

import (
	"testing"
	"time"

	"berth/internal/testwait"
)

func TestSourcesOfWindows(t *testing.T) {
	r := newRecorder()
	m := New(Config{Tell: r.tell})
	start(t, m)
	testwait.Eventually(t, "the callbacks", func() bool { return m.missing() == coverClock })

	onPower(0, powerSuspend, 0)
	r.want(t, Suspending)
	onPower(0, powerResumeAutomatic, 0)
	onPower(0, powerResumeSuspend, 0) // the user came as well
	if e := r.want(t, Woke); e.Source != "power" {
		t.Errorf("woken by %s, want power", e.Source)
	}
	onChange(0, 0, 0)
	r.none(t, settle+time.Second) // a hint, and nothing is another
}

func TestPresenceOnWindows(t *testing.T) {
	p := New(Config{}).Presence()
	if !p.IdleKnown || p.Idle < 0 || p.Idle > 50*24*time.Hour {
		t.Errorf("Presence() = %+v, want to know how long the user has been idle", p)
	}
	t.Logf("lock: %v, known: %v", p.Locked, p.LockKnown)
}

func TestClockOfWindows(t *testing.T) {
	before := readClock()
	var now reading
	testwait.Eventually(t, "the clock to run", func() bool { now = readClock(); return now.running-before.running >= 20*time.Millisecond })
	if slept, set := compare(before, now); !now.asleepKnown || slept != 0 || set != 0 {
		t.Errorf("slept %v, set %v, known %v; want nothing, and to know", slept, set, now.asleepKnown)
	}
}
