package agent

import (
	"testing"

	"berth/internal/wake"
)

// TestStormIsDrawnLessOften: the pause between snapshots grows while changes
// keep coming, and is short again after a calm.
func TestStormIsDrawnLessOften(t *testing.T) {
	t.Parallel()
	p := &publisher{changed: wake.NewSignal()}
	pause := publishPause
	for range 10 {
		p.changed.Wake()
		pause = p.nextPause(pause)
	}
	if pause != publishPauseMax {
		t.Errorf("in a storm the pause is %v, want %v", pause, publishPauseMax)
	}
	if pause = p.nextPause(pause); pause != publishPause {
		t.Errorf("after a calm the pause is %v, want %v", pause, publishPause)
	}
	p.changed.Wake()
	if pause = p.nextPause(pause); pause >= publishPauseMax/2 {
		t.Errorf("after two changes the pause is %v already", pause)
	}
}
