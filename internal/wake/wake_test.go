package wake_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/wake"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !wake.Sleep(t.Context(), time.Hour) {
			t.Error("Sleep = false under a live context")
		}
		if slept := time.Since(began); slept != time.Hour {
			t.Errorf("slept %v, want an hour", slept)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if wake.Sleep(ctx, time.Hour) {
			t.Error("Sleep = true after its context ended")
		}
		if slept := time.Since(began); slept != time.Minute {
			t.Errorf("slept %v, want as long as the context lived, a minute", slept)
		}
		for _, d := range []time.Duration{-1, 0} {
			if wake.Sleep(ctx, d) {
				t.Errorf("Sleep(%v) = true under an ended context", d)
			}
			if !wake.Sleep(t.Context(), d) {
				t.Errorf("Sleep(%v) = false under a live context", d)
			}
		}
	})
}

func TestSignal(t *testing.T) {
	s := wake.NewSignal()
	select {
	case <-s:
		t.Fatal("a new signal is given already")
	default:
	}
	s.Wake()
	s.Wake()
	<-s
	select {
	case <-s:
		t.Error("two signals in a row woke twice")
	default:
	}
	s.Wake()
	<-s
}

func TestBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			b       wake.Broadcast
			value   atomic.Int64
			waiting sync.WaitGroup
		)
		b.Wake() // with no goroutine waiting
		for want := range int64(3) {
			waiting.Go(func() {
				for changed := b.Changed(); value.Load() < want; changed = b.Changed() {
					<-changed
				}
			})
		}
		for range 3 {
			synctest.Wait()
			value.Add(1)
			b.Wake()
		}
		waiting.Wait()

		old := b.Changed()
		if b.Changed() != old {
			t.Error("two that wait for one change have two channels")
		}
		b.Wake()
		<-old
		select {
		case <-b.Changed():
			t.Error("a change from before was seen again")
		default:
		}
	})
}
