package tunnel

import (
	"errors"
	"testing"
	"testing/synctest"

	"berth/agent/cluster"
	"berth/agent/ipc"
)

// TestWordNamesNothingEmpty holds the words for a command that names no tunnel:
// nothing empty is quoted, and the hint is not the command itself.
func TestWordNamesNothingEmpty(t *testing.T) {
	for name, err := range map[string]error{
		"denied":  &cluster.AccessDeniedError{Op: "list databases of east", Err: errors.New("access denied: locked")},
		"unknown": errors.New("list databases of east: teapot"),
	} {
		synctest.Test(t, func(t *testing.T) {
			s, done := newSet(t, 0)
			defer done()
			said, ok := errors.AsType[*ipc.Error](s.Word(err, "east"))
			if !ok {
				t.Fatalf("%s: %v is no answer for a command", name, err)
			}
			if said.Message != err.Error() || said.Hint != "berth doctor" {
				t.Errorf("%s: said %q, hint %q", name, said.Message, said.Hint)
			}
		})
	}
}
