package osevents

import (
	"context"
	"sync/atomic"
	"time"

	"berth/internal/wake"
)

// powerAskedFor is how long an answer about the battery counts.
const powerAskedFor = 10 * time.Second

// sparing joins what speaks for doing without whatever is not needed.
type sparing struct {
	battery func() bool // asks the system, which may take its time
	wanted  wake.Signal // an answer was used

	metered atomic.Bool // the network costs by the byte
	drained atomic.Bool // what battery returned last
}

// Sparing reports whether to use no more power and data than necessary: the
// machine runs on its battery, or the network costs by the byte. Where the system
// does not know it returns false. It never waits: it returns what was found
// last, and has Run look again if that was a while ago.
func (m *Monitor) Sparing() bool {
	m.sparing.wanted.Wake()
	return m.sparing.metered.Load() || m.sparing.drained.Load()
}

// keep asks about the battery: at the start, and then while someone is interested.
// It returns when ctx has ended and no question is open.
func (s *sparing) keep(ctx context.Context) {
	for {
		s.drained.Store(s.battery())
		if !wake.Sleep(ctx, powerAskedFor) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wanted:
		}
	}
}
