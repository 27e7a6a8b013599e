package osevents

import (
	"sync"
	"time"
)

// powerAskedFor is how long an answer about the battery counts.
const powerAskedFor = 10 * time.Second

// sparing joins what speaks for doing without whatever is not needed.
type sparing struct {
	battery func() bool // asks the system

	mu      sync.Mutex // guards what follows
	metered bool       // the network costs by the byte
	asked   time.Time
	drained bool // what battery returned
}

// Sparing reports whether to use no more power and data than necessary: the
// machine runs on its battery, or the network costs by the byte. Where the system
// does not know it returns false.
func (m *Monitor) Sparing() bool {
	s := &m.sparing
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.asked.IsZero() || now.Sub(s.asked) >= powerAskedFor {
		s.drained, s.asked = s.battery(), now
	}
	return s.metered || s.drained
}

func (s *sparing) setMetered(metered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metered = metered
}
