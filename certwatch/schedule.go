package certwatch

import "time"

// How often the clock is looked at, and how far it may be off what a steady
// clock would show: a computer that slept, or a clock that was set.
const (
	wakeInterval  = 15 * time.Second
	wakeTolerance = 5 * time.Second
)

// jumped reports whether, between two ticks that should be interval apart, the
// wall clock moved otherwise than the steady one; or, as on Windows the steady
// clock goes on during sleep, whether the tick is late.
func jumped(wall, steady, interval time.Duration) bool {
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
	at := s.quiet
	if at.IsZero() {
		at = s.retry
	}
	if at.IsZero() || s.safety.Before(at) {
		at = s.safety
	}
	return at
}

// due reports whether it is time to read.
func (s *schedule) due() bool { return !time.Now().Before(s.at()) }

// next returns how long to wait, at most poll.
func (s *schedule) next(poll time.Duration) time.Duration {
	return max(0, min(poll, time.Until(s.at())))
}
