package wake_test

import (
	"testing"

	"berth/internal/wake"
)

func TestFollowers(t *testing.T) {
	var f wake.Followers
	f.Wake() // with none
	slow, cancelSlow := f.Subscribe()
	gone, cancelGone := f.Subscribe()
	cancelGone()
	f.Wake()
	f.Wake() // the slow one has not looked yet
	if len(slow) != 1 || len(gone) != 0 {
		t.Errorf("%d wake-ups for a slow follower and %d for one that left, want 1 and 0", len(slow), len(gone))
	}
	if !f.Any() {
		t.Error("no follower, want one")
	}
	cancelSlow()
	if f.Any() {
		t.Error("a follower is left")
	}
}
