package process

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/atomicfile"
	"berth/internal/paths"
	"berth/internal/plain"
)

const (
	// crashWindow is how long an agent that ended unexpectedly counts.
	crashWindow = 10 * time.Minute
	// crashesAlone is how many are taken for accidents: a machine that lost power, a
	// kill -9. From the next one on they are a loop.
	crashesAlone = 2
	// longestPause keeps a start within the 60 seconds that a service manager
	// allows it. Meanwhile the manager holds the ports and clients queue.
	longestPause = 30 * time.Second
	// lastWords is how many lines of the log, and lastWordsBytes how much of its end,
	// are looked at for what was said last.
	lastWords      = 3
	lastWordsBytes = 4 << 10
)

// crashes are the ends of agents that were not asked to end, the oldest first, and
// what the last of them wrote last into its log.
type crashes struct {
	times []time.Time
	words string
}

// noteStart reads from p which agents ended unexpectedly, and adds the last one
// at now if it left its note behind. It fails when that cannot be written.
func noteStart(p paths.Paths, now time.Time) (crashes, error) {
	var c crashes
	raw, err := os.ReadFile(p.Crashes())
	if err == nil {
		_ = json.Unmarshal(raw, &c.times) // a file that is none says nothing
	}
	c.times = slices.DeleteFunc(c.times, func(t time.Time) bool {
		age := now.Sub(t)
		return age < 0 || age >= crashWindow
	})
	if _, err := os.Stat(p.LockPID()); err != nil {
		return c, nil // the last one ended as it should
	}
	c.times, c.words = append(c.times, now), endOf(p.LogFile)
	if raw, err = json.Marshal(c.times); err == nil {
		err = atomicfile.Write(p.Crashes(), raw, 0o600)
	}
	if err != nil {
		return c, fmt.Errorf("note that the agent before ended unexpectedly: %w", err)
	}
	return c, nil
}

// pause is how long the next start waits, so that a crash at every start does not
// keep a core busy: 1 s for the third crash in a row, doubled with each.
func (c crashes) pause() time.Duration {
	n := len(c.times) - crashesAlone - 1
	if n < 0 {
		return 0
	}
	if n > 5 {
		return longestPause
	}
	return min(time.Second<<n, longestPause)
}

// problems tells of a loop until it is over for as long as a crash counts.
func (c crashes) problems(now time.Time) []state.Problem {
	n := len(c.times)
	if n <= crashesAlone || now.Sub(c.times[n-1]) > crashWindow {
		return nil
	}
	text := fmt.Sprintf("The agent ended unexpectedly %d times within %.0f minutes.", n, crashWindow.Minutes())
	if c.words != "" {
		text += " Last in its log: " + c.words
	}
	return []state.Problem{{
		Code: state.CodeCrashLoop, Title: "Agent keeps crashing", Text: text, Action: "berth agent logs",
		Since: c.times[0].UTC(),
	}}
}

// endOf returns the last lines of a log, in one.
func endOf(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(-lastWordsBytes, io.SeekEnd); err != nil { // it is shorter
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return ""
		}
	}
	raw, err := io.ReadAll(io.LimitReader(f, lastWordsBytes))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return plain.Line(strings.Join(lines[max(0, len(lines)-lastWords):], " · "))
}
