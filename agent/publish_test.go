package agent

import (
	"testing"
)

// TestStormIsDrawnLessOften: the pause between snapshots grows while changes
// keep coming, and is short again after a calm.
func TestStormIsDrawnLessOften(t *testing.T) {
	a := &Agent{changed: make(chan struct{}, 1)}
	pause := publishPause
	for range 10 {
		a.touch()
		pause = a.nextPause(pause)
	}
	if pause != publishPauseMax {
		t.Errorf("in a storm the pause is %v, want %v", pause, publishPauseMax)
	}
	if pause = a.nextPause(pause); pause != publishPause {
		t.Errorf("after a calm the pause is %v, want %v", pause, publishPause)
	}
	a.touch()
	if pause = a.nextPause(pause); pause >= publishPauseMax/2 {
		t.Errorf("after two changes the pause is %v already", pause)
	}
}
