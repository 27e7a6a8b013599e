package osevents

import "time"

// started is the moment from which portableClock counts.
var started = time.Now()

// portableClock reads the clocks that every system has.
func portableClock() reading {
	now := time.Now()
	return reading{wall: now.Round(0), running: now.Sub(started)}
}
