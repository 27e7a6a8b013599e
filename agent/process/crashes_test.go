package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/internal/paths"
)

// TestCrashLoop starts an agent again and again after one that left its note
// behind: two such starts are accidents, more are a loop, which is reported once and
// slows down.
func TestCrashLoop(t *testing.T) {
	dir := t.TempDir()
	p := paths.Paths{Lock: filepath.Join(dir, "lock"), LogFile: filepath.Join(dir, "agent.log")}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(now time.Time) crashes {
		t.Helper()
		c, err := noteStart(p, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	if c := start(now); len(c.times) != 0 || c.pause() != 0 {
		t.Fatalf("after an agent that ended as it should: %+v", c)
	}
	write(p.LockPID(), "4711\n")
	write(p.LogFile, strings.Repeat("level=INFO msg=long\n", 1000)+"one\ntwo\x1b[31m\nthree\n")
	pauses := []time.Duration{0, 0, 1, 2, 4, 8, 16, 30, 30, 30}
	var c crashes
	for i, want := range pauses {
		now = now.Add(20 * time.Second)
		c = start(now)
		if got := c.pause(); got != want*time.Second {
			t.Errorf("crash %d: waits %v, want %v", i+1, got, want*time.Second)
		}
		if told := len(c.problems(now)) == 1; told != (i >= crashesAlone) {
			t.Errorf("crash %d: told: %v", i+1, told)
		}
	}
	text := c.problems(now)[0].Text
	if want := fmt.Sprintf("%d times", len(pauses)); !strings.Contains(text, want) {
		t.Errorf("the problem does not say %q: %s", want, text)
	}
	if !strings.HasSuffix(text, "one · two · three") {
		t.Errorf("the problem does not end with the log's last lines: %q", text)
	}
	if list := c.problems(now.Add(crashWindow + time.Second)); len(list) != 0 {
		t.Errorf("still told after %v: %+v", crashWindow, list)
	}
	if c := start(now.Add(2 * crashWindow)); len(c.times) != 1 {
		t.Errorf("old crashes count: %v", c.times)
	}
}

// TestCrashNoteThatIsNone reads a file of crashes that a full disk has cut.
func TestCrashNoteThatIsNone(t *testing.T) {
	dir := t.TempDir()
	p := paths.Paths{Lock: filepath.Join(dir, "lock"), LogFile: filepath.Join(dir, "none.log")}
	for _, path := range []string{p.Crashes(), p.LockPID()} {
		if err := os.WriteFile(path, []byte(`["2026-`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := noteStart(p, time.Now())
	if err != nil || len(c.times) != 1 || c.words != "" {
		t.Errorf("got %+v, %v; want one crash without words", c, err)
	}
}
