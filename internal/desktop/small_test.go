//go:build desktop && linux

package desktop

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// small looks at what the tray costs when nothing happens.
func (w *world) small() {
	w.t.Helper()
	time.Sleep(65 * time.Second) // the minute in which it rests
	pid := w.tray.Process.Pid
	rss := procNumber(w.t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	wakeups := func() (n int) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, task := range tasks {
			n += procNumber(w.t, task, "voluntary_ctxt_switches:")
		}
		return n
	}
	// A drawing a minute may fall into these ten seconds, and a busy machine
	// wakes the runtime's own threads: the quietest of a few counts.
	const enough, windows = 60, 4
	woke := math.MaxInt
	for range windows {
		before := wakeups()
		time.Sleep(10 * time.Second)
		if woke = min(woke, wakeups()-before); woke <= enough {
			break
		}
	}
	own := procNumber(w.t, fmt.Sprintf("/proc/%d/status", pid), "RssAnon:")
	w.t.Logf("the tray: %d kB, %d kB of them its own, woken %d times in 10 s", rss, own, woke)
	// 30 MB is the budget; on a busy machine pages of the program are back at any time.
	if rss > 33_000 {
		w.t.Errorf("the tray has %d kB, want 30 MB and a tenth at most", rss)
	}
	if woke > enough {
		w.t.Errorf("the tray was woken %d times in 10 s in which nothing happened", woke)
	}
}

// procNumber is a number of a file of /proc.
func procNumber(t *testing.T, path, key string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			var n int
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s", key, path)
	return 0
}
