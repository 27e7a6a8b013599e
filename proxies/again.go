package proxies

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"berth/internal/wake"
)

// A held client's dials are so far apart: a port without a listener refuses
// within microseconds, and dialling at once would keep a processor busy for as long
// as the proxy is away. The longest keeps well within the second in which held
// clients go on once it is back.
const pauseFirst, pauseMost = 10 * time.Millisecond, 250 * time.Millisecond

// Pauses are those between the dials of one client that is held while they fail.
type Pauses struct{ grow *backoff.ExponentialBackOff }

// NewPauses returns the pauses of a client of which no dial has failed yet.
func NewPauses() Pauses {
	grow := &backoff.ExponentialBackOff{
		InitialInterval: pauseFirst, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: pauseMost,
	}
	grow.Reset()
	return Pauses{grow}
}

// Wait waits until the next dial may begin, and reports whether ctx goes on.
func (p Pauses) Wait(ctx context.Context) bool { return wake.Sleep(ctx, p.grow.NextBackOff()) }
