package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
)

// TestHubWakesWatchersForChanges: a watcher is not woken when nothing changes.
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

// TestReadersShareOneSnapshot: whoever reads gets what was published, and not a
// drawing of their own.
func TestReadersShareOneSnapshot(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, _ := e.pgTunnel("pg")
	e.config(item)
	a := e.startAgent()
	for range 3 {
		a.publish()
		a.pub.turn.Lock() // so that the agent publishes nothing in between
		first, second, published := a.Snapshot(), a.Snapshot(), a.pub.hub.cur.Load()
		a.pub.turn.Unlock()
		if first != second || first != published {
			t.Fatal("two readers have two snapshots")
		}
		if len(first.Tunnels) != 1 || first.Tunnels[0].Name != "pg" || first.Notices == nil {
			t.Errorf("published: tunnels %+v, notices %v", first.Tunnels, first.Notices)
		}
	}
}
