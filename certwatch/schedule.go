package certwatch

import "time"

// How often the clock is looked at, and how far it may be off what a steady
// clock would show: a computer that slept, or a clock that was set.
const (
	wakeInterval  = 15 * time.Second
	wakeTolerance = 5 * time.Second
)

// jumped reports whether the wall clock moved otherwise than it should have
// between two ticks. The monotonic clock says by how much it should have; but
// on Windows that goes on during sleep, and then the tick is late.
func jumped(before, now time.Time, interval time.Duration) bool {
	wall := now.Round(0).Sub(before.Round(0))
	steady := now.Sub(before)
	return (wall-steady).Abs() > wakeTolerance || steady > interval+wakeTolerance
}

// A schedule says when to read next. Its times are monotonic.
type schedule struct {
	cfg Config

	noise  time.Time // the first event since the last reading; zero means none
	quiet  time.Time // when the events will have been over for long enough
	retry  time.Time // when to look again at what is in doubt; zero means never
	safety time.Time
}

// noted takes note of an event.
func (s *schedule) noted() {
	now := time.Now()
	if s.noise.IsZero() {
		s.noise = now
	}
	s.quiet = now.Add(s.cfg.Debounce)
	if latest := s.noise.Add(s.cfg.MaxDebounce); s.quiet.After(latest) {
		s.quiet = latest
	}
}

// read notes that everything was read, and when to look again at what is in
// doubt; zero means nothing is.
func (s *schedule) read(retry time.Duration) {
	now := time.Now()
	s.noise, s.quiet, s.retry = time.Time{}, time.Time{}, time.Time{}
	s.safety = now.Add(s.cfg.Safety)
	if retry > 0 {
		s.retry = now.Add(retry)
	}
}

// at returns when to read next. While there are events, what is in doubt has
// to wait too: it is surely changing.
func (s *schedule) at() time.Time {
	switch {
	case !s.quiet.IsZero():
		return s.quiet
	case !s.retry.IsZero() && s.retry.Before(s.safety):
		return s.retry
	default:
		return s.safety
	}
}

// due reports whether it is time to read.
func (s *schedule) due() bool { return !time.Now().Before(s.at()) }

// next returns how long to wait, at most poll.
func (s *schedule) next(poll time.Duration) time.Duration {
	return max(0, min(poll, time.Until(s.at())))
}
