package testwait

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// Soon fails the test when something took longer than it may on a machine that does
// nothing else. On a busy one it may take as many times longer as the machine is
// slower, so that the test tells what berth does, and not what runs beside it. What
// took is measured in real time: in a bubble compare it as it is.
func Soon(t testing.TB, what string, took, limit time.Duration) {
	t.Helper()
	if took <= limit {
		return
	}
	if busy := slower(); took > time.Duration(float64(limit)*busy) {
		t.Errorf("%s took %v, want %v at most, on a machine that is %.1f times slower than by itself", what, took, limit, busy)
	}
}

// slower is how many times slower the machine is than one that does nothing else:
// now, or in the last minute where the system tells.
func slower() float64 {
	const chunks = 40
	var all time.Duration
	best := time.Hour
	for range chunks {
		began := time.Now()
		spin()
		took := time.Since(began)
		all, best = all+took, min(best, took)
	}
	busy := max(1, float64(all)/float64(chunks*best))
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		var waiting float64
		if _, err := fmt.Sscan(string(raw), &waiting); err == nil {
			busy = max(busy, waiting/float64(runtime.NumCPU()))
		}
	}
	return busy
}

// spin works for about as long as a system lets a program work before another's turn
// comes.
func spin() {
	x := uint64(time.Now().UnixNano()) | 1
	for range 2_000_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	runtime.KeepAlive(x)
}
