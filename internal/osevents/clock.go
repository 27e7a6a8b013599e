package osevents

import (
	"sync"
	"time"
)

// reading holds the machine's clocks at one moment.
type reading struct {
	wall    time.Time     // with its monotonic reading stripped
	running time.Duration // since some fixed moment, without the time asleep
	asleep  time.Duration // since the same moment
	// asleepKnown is false where no clock counts the time asleep.
	asleepKnown bool
}

const (
	// setTolerance is how far the wall clock may be off its way before it
	// counts as set: less is the correction of a clock that drifts.
	setTolerance = 5 * time.Second
	// sleepTolerance is less than any sleep, and more than the time between
	// reading two clocks.
	sleepTolerance = 500 * time.Millisecond
)

// clock compares readings. The zero value needs a read function.
type clock struct {
	read func() reading

	mu   sync.Mutex // guards last; held while reading, so that readings are in order
	last reading
}

// step returns how long the machine has slept, and by how much its clock was
// set, since the last step.
func (c *clock) step() (slept, set time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.read()
	before := c.last
	c.last = now
	if before.wall.IsZero() {
		return 0, 0
	}
	return compare(before, now)
}

// compare is the decision of step. Where the system does not count the time
// asleep, a wall clock that is ahead has most likely gone on during sleep.
func compare(before, now reading) (slept, set time.Duration) {
	gone := now.asleep - before.asleep
	set = now.wall.Sub(before.wall) - (now.running - before.running) - gone
	if set.Abs() <= setTolerance {
		set = 0
	}
	switch {
	case now.asleepKnown && gone >= sleepTolerance:
		slept = gone
	case !now.asleepKnown && set > 0:
		slept, set = set, 0
	}
	return slept, set
}
