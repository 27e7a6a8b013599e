package route

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestConnectAfterABlackHole: whenever packets pass again, a connection is there
// within besideAfter, although the attempts under way are lost.
func TestConnectAfterABlackHole(t *testing.T) {
	for _, outage := range []time.Duration{0, 700 * time.Millisecond, 2*time.Second + time.Millisecond, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			conn, err := Hedge(t.Context(), func(ctx context.Context) (net.Conn, error) {
				if time.Since(began) < outage { // its SYN is lost
					<-ctx.Done()
					return nil, ctx.Err()
				}
				here, _ := net.Pipe()
				return here, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if late := time.Since(began) - outage; late > besideAfter {
				t.Errorf("connected %v after an outage of %v", late, outage)
			}
			_ = conn.Close() // a pipe
		})
	}
}

// TestConnectIsToldAtOnce: a refusal decides, and nothing goes on after it.
func TestConnectIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("connection refused")
		var attempts atomic.Int32
		began := time.Now()
		_, err := Hedge(t.Context(), func(ctx context.Context) (net.Conn, error) {
			if attempts.Add(1) > 1 {
				return nil, refused
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, refused) || time.Since(began) != besideAfter {
			t.Errorf("told %v after %v", err, time.Since(began))
		}
	})
}

// TestConnectGivesUp with its ctx.
func TestConnectGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := Hedge(ctx, func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("told %v after %v", err, time.Since(began))
		}
	})
}
