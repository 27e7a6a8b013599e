package proxies

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// HeldAfter is how long a client may wait for a credential before it counts as
// held: minting a cert takes tens of milliseconds, a person seconds.
const HeldAfter = 150 * time.Millisecond

// Hold is one client's wait for a credential.
type Hold struct {
	// Limit is how long the client may wait.
	Limit time.Duration
	// Begin is called when the client begins to be held, with the time since
	// when it waits, and End when it no longer is. Neither is called for a
	// client that gets its answer within a moment.
	Begin func(since time.Time)
	End   func()
}

// Wait calls source and returns its error, and how long it took. When ctx or
// the limit has ended the wait the error is, or wraps, the reason: ctx's cause
// or ErrHoldEnded.
func (h Hold) Wait(ctx context.Context, source func(context.Context) error) (time.Duration, error) {
	began := time.Now()
	holding, cancel := context.WithTimeoutCause(ctx, h.Limit, ErrHoldEnded)
	defer cancel()
	begun := make(chan struct{})
	late := time.AfterFunc(HeldAfter, func() {
		defer close(begun)
		h.Begin(began)
	})
	defer func() { // also when source panics
		if !late.Stop() {
			<-begun // Begin may be running still, and comes before End
			h.End()
		}
	}()
	err := source(holding)
	waited, ended := time.Since(began), context.Cause(holding)
	if err != nil {
		err = because(ended, err)
	}
	return waited, err
}

// because returns err, or why its context ended when that is the reason.
func because(cause, err error) error {
	switch {
	case cause == nil:
		return err
	case errors.Is(err, cause), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return cause
	default: // Source may say more than that time is up
		return fmt.Errorf("%w: %w", cause, err)
	}
}
