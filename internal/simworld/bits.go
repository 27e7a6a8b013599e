package simworld

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"berth/proxies"
)

// lastPort is the last port given to a test.
var lastPort atomic.Int64

// FreePort returns a port below those that berth derives, so that no agent beside
// tries it, and below the ephemeral ones, so that no outgoing connection takes it.
func FreePort(t testing.TB) int {
	t.Helper()
	const first = 10000
	lastPort.CompareAndSwap(0, int64(os.Getpid()))
	for range proxies.FirstDerivedPort - first {
		port := first + int(lastPort.Add(1))%(proxies.FirstDerivedPort-first)
		if proxies.PortBusy(port) {
			continue
		}
		// The tests of other packages, which run beside, pass over what is held.
		held, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = held.Close() })
		return port
	}
	t.Fatal("no free port below those that berth derives")
	return 0
}

// Log is a buffer that many goroutines write.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
