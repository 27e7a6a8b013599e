package wake_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

// TestTurn: one has it at a time, and whoever waits may leave.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn wake.Turn
		var having, had atomic.Int32
		for range 3 {
			go func() {
				if !turn.Take(t.Context()) {
					t.Error("the turn never came")
				}
				defer turn.Give()
				if having.Add(1) != 1 {
					t.Error("two have the turn")
				}
				time.Sleep(time.Minute)
				having.Add(-1)
				had.Add(1)
			}()
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if turn.Take(ctx) || time.Since(began) != time.Second {
			t.Errorf("after %v the turn is whose context had ended, want false after a second", time.Since(began))
		}
		time.Sleep(time.Hour)
		if had.Load() != 3 || !turn.Take(t.Context()) {
			t.Errorf("%d had the turn, want 3, and it is free", had.Load())
		}
		turn.Give()
	})
}
