package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/state"
)

// TestHubWakesWatchersForChanges: nobody is woken because nothing happened.
func TestHubWakesWatchersForChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h hub
		woken, cancel := h.followers.Subscribe()
		defer cancel()
		publish := func(connections int64, want bool) {
			t.Helper()
			h.publish(&state.Snapshot{Tunnels: []state.Tunnel{{TunnelSpec: state.TunnelSpec{Name: "a"}, Connections: connections}}})
			select {
			case <-woken:
				if !want {
					t.Error("woken, and nothing has changed")
				}
			default:
				if want {
					t.Error("not woken")
				}
			}
		}
		publish(1, true)
		publish(1, false)
		time.Sleep(sameAgain / 2)
		publish(1, false)
		publish(2, true)
		time.Sleep(sameAgain)
		publish(2, true)
		publish(2, false)
	})
}
