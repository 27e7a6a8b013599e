package proxies

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/wake"
)

// TestDialsUnderWayAreLimited lets many clients dial at once and counts how
// many do so at the same time; all of them are served in the end.
func TestDialsUnderWayAreLimited(t *testing.T) {
	upstream, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	go func() {
		for {
			conn, err := upstream.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("x"))
			_ = conn.Close()
		}
	}()
	var now, most atomic.Int64
	slow := func(ctx context.Context) (net.Conn, error) {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		defer now.Add(-1)
		wake.Sleep(ctx, 20*time.Millisecond)
		return (&net.Dialer{}).DialContext(ctx, "tcp", upstream.Addr().String())
	}
	tun := New(Config{Source: func(context.Context) (Dial, error) { return slow, nil }, Hold: time.Minute})
	if err := tun.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tun.Run(ctx) }()
	const clients = 4 * maxDials
	results := make(chan error, clients)
	for range clients {
		go func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", tun.Status().Addresses[0])
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
				err = errors.Join(err, conn.Close())
			}
			results <- err
		}()
	}
	for range clients {
		if err := <-results; err != nil {
			t.Errorf("client: %v", err)
		}
	}
	if m := most.Load(); m > maxDials || m < 2 {
		t.Errorf("%d dials at the same time, want several and at most %d", m, maxDials)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
