package state_test

import (
	"slices"
	"testing"

	"berth/agent/state"
)

// TestAskAgain: whatever roles and resources are called, each stays one
// argument behind a flag of its own.
func TestAskAgain(t *testing.T) {
	hostile := []string{"dba", "", "--reason", "a b", "'; rm -rf ~ #", "$(id)", "a\nb", "\x1b[31m", "\u202e"}
	for _, tt := range []struct {
		name string
		r    state.Request
		flag string
	}{
		{"roles", state.Request{Roles: hostile}, "--role"},
		{"resources", state.Request{Roles: []string{"chosen by the cluster"}, Resources: hostile}, "--resource"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := []string{"berth", "request", "create"}
			for _, v := range hostile {
				want = append(want, tt.flag, v)
			}
			if got := tt.r.AskAgain(); !slices.Equal(got, want) {
				t.Errorf("AskAgain() = %q, want %q", got, want)
			}
		})
	}
}
