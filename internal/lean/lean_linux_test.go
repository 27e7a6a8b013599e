package lean

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"berth/internal/testneeds"
)

// TestTrim: less is counted as the process's memory, and it still works.
func TestTrim(t *testing.T) {
	before := fileMemory(t)
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	after := fileMemory(t)
	if after >= before {
		t.Errorf("%d kB are mapped from files, %d before", after, before)
	}
}

func fileMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "RssFile:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	testneeds.Skip(t, "another kernel", "this one does not say what is mapped from files")
	return 0
}

func TestParse(t *testing.T) {
	const self = "/usr/bin/berth"
	cases := map[string]struct {
		line string
		ok   bool
	}{
		"code":      {"00400000-01a2b000 r-xp 00000000 08:01 42     /usr/bin/berth", true},
		"constants": {"01a2b000-02a2b000 r--p 0162b000 08:01 42     /usr/bin/berth", true},
		"data":      {"02a2b000-02b2b000 rw-p 0262b000 08:01 42     /usr/bin/berth", false},
		"another":   {"00400000-01a2b000 r-xp 00000000 08:01 42     /usr/lib/libc.so", false},
		"heap":      {"c000000000-c004000000 rw-p 00000000 00:00 0", false},
		"nonsense":  {"x-y r-xp 0 0 0 /usr/bin/berth", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if start, end, ok := parse(c.line, self); ok != c.ok {
				t.Errorf("parse = %x, %x, %v, want %v", start, end, ok, c.ok)
			}
		})
	}
}
