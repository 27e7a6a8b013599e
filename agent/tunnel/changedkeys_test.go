package tunnel

import (
	"testing"

	"berth/agent/state"
)

func TestChangedKeys(t *testing.T) {
	got := changedKeys(state.TunnelSpec{Port: 5432, DBUser: "alice"}, state.TunnelSpec{Port: 5433, DBUser: "alice", DBName: "app"})
	if want := "db_name from nothing to app, port from 5432 to 5433"; got != want {
		t.Errorf("changedKeys = %q, want %q", got, want)
	}
}
