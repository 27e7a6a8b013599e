package access

import (
	"strings"
	"testing"
	"time"

	"berth/internal/when"
)

// TestCostNamesTheDay: of today the time is enough, of another day it is not.
func TestCostNamesTheDay(t *testing.T) {
	now := time.Now()
	e := &CostError{ID: "r", New: now, Now: now.Add(30 * time.Hour)}
	want := "ends at " + now.Local().Format("15:04") + " instead of " + when.Clock(e.Now, now)
	if got := e.Error(); !strings.HasSuffix(got, want) || !strings.Contains(want, e.Now.Local().Format("Mon")) {
		t.Errorf("%q, want %q at its end", got, want)
	}
}
