package agent

import (
	"fmt"
	"net"
	"slices"
	"strings"
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
// drawing of their own. What a notice says is so in the tunnels beside it.
func TestReadersShareOneSnapshot(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login(simcluster.WithTTL(-1))
	item, port := e.pgTunnel("pg")
	e.config(item)
	a := e.startAgent()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	waiting := func() int64 {
		a.publish()
		a.pub.turn.Lock() // so that the agent publishes nothing in between
		first, second, published := a.Snapshot(), a.Snapshot(), a.pub.hub.cur.Load()
		a.pub.turn.Unlock()
		if first != second || first != published {
			t.Fatal("two readers have two snapshots")
		}
		noticed := slices.ContainsFunc(first.Notices, func(n state.Notice) bool {
			return n.Kind == state.NoticeLoginNeeded && strings.Contains(n.Body, "waits for tunnel pg")
		})
		if len(first.Tunnels) != 1 || noticed != (first.Tunnels[0].Waiting > 0) {
			t.Fatalf("published: tunnels %+v, notices %+v", first.Tunnels, first.Notices)
		}
		return first.Tunnels[0].Waiting
	}
	// Snapshots come as fast as they can be drawn, so that many have been begun when a
	// client comes or goes.
	await := func(n int64) {
		for limit := time.Now().Add(wait); waiting() != n; {
			if time.Now().After(limit) {
				t.Fatalf("waited in vain for %d clients to wait", n)
			}
		}
	}
	for range 10 {
		a.pub.mu.Lock()
		a.pub.tracker = nil // to which the next client is news again
		a.pub.mu.Unlock()
		client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		await(1)
		_ = client.Close() // nothing was sent
		await(0)
	}
}
