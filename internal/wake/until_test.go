package wake_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b wake.Broadcast
		var n atomic.Int64
		go func() {
			for range 3 {
				wake.Sleep(t.Context(), time.Second)
				n.Add(1)
				b.Wake()
			}
		}()
		began := time.Now()
		if !b.Until(t.Context(), time.Hour, func() bool { return n.Load() == 3 }) {
			t.Error("Until = false for what came true")
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want 3 s: it is woken, it does not poll", took)
		}
		if b.Until(t.Context(), time.Minute, func() bool { return false }) {
			t.Error("Until = true for what never came true")
		}
		if took := time.Since(began); took != 63*time.Second {
			t.Errorf("gave up after %v, want the limit of a minute", took-3*time.Second)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.Until(ctx, time.Hour, func() bool { return false }) || !b.Until(ctx, time.Hour, func() bool { return true }) {
			t.Error("under an ended context Until does not return what cond says")
		}
	})
}
