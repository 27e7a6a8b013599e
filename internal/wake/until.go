package wake

import (
	"context"
	"time"
)

// Until waits until cond holds, for limit at most, and reports whether it does.
// cond is checked now, after each Wake, and a last time when the limit has
// passed or ctx has ended; it is called by the caller's goroutine.
func (b *Broadcast) Until(ctx context.Context, limit time.Duration, cond func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		changed := b.Changed()
		if cond() {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return cond()
		case <-ctx.Done():
			return cond()
		}
	}
}
