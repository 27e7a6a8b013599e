//go:build unix

package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// TestLeafAway: the root answers, the leaf is not connected to it. That is one
// problem of the leaf's tunnels, and goes when it does.
func TestLeafAway(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	leaf, err := e.Sim.AddLeaf("leaf.test",
		simcluster.Database{Name: "pg-leaf", Protocol: "postgres"}, simcluster.Database{Name: "pg-two", Protocol: "postgres"})
	must(t, err)
	e.Login()
	root, _ := e.pgTunnel("root")
	port := simworld.FreePort(t)
	e.config(root,
		fmt.Sprintf("name: one, kind: db, cluster: leaf.test, resource: pg-leaf, db_user: alice, port: %d", port),
		fmt.Sprintf("name: two, kind: db, cluster: leaf.test, resource: pg-two, db_user: alice, port: %d", simworld.FreePort(t)))
	e.start()
	e.awaitWell()
	list, unasked, err := e.Client().Resources(t.Context(), client.ResourceQuery{})
	if err != nil || len(list) != 3 || len(unasked) != 0 {
		t.Errorf("Resources = %v, %q, %v; want those of the leaf too", list, unasked, err)
	}

	leaf.SetAway(true)
	const words = "leaf.test is not connected to sim.test at the moment."
	// On a busy machine the root may not have answered when a client, or a list, must say why.
	late := func(words string) bool { return strings.Contains(words, "does not answer") }
	testwait.Eventually(t, "a client to be told that the leaf is away", func() bool {
		conn, err := e.pg(t.Context(), port)
		if err == nil {
			t.Fatal(errors.Join(errors.New("served by a leaf that is away"), conn.Close(t.Context())))
		}
		told := detail(err)
		if !strings.Contains(told, words) && !late(told) {
			t.Fatalf("a client is refused with %v, %q", err, told)
		}
		return strings.Contains(told, words)
	})
	s := e.Await("the leaf's problem, and no other", func(s state.Snapshot) bool {
		return len(s.Problems) == 1 && s.Problems[0].Code == state.CodeLeafAway && s.Problems[0].Text == words
	})
	if s.Tunnels[0].State != state.TunnelReady || s.Tunnels[0].Problem != nil {
		t.Errorf("with the leaf away the root's tunnel is %s: %+v", s.Tunnels[0].State, s.Tunnels[0].Problem)
	}
	c := e.Client()
	testwait.Eventually(t, "another list: each is good for a second", func() bool {
		list, unasked, err = c.Resources(t.Context(), client.ResourceQuery{})
		if err != nil {
			return !late(err.Error())
		}
		return len(unasked) > 0 && !late(unasked[0])
	})
	if err != nil || len(list) != 1 || len(unasked) != 1 || !strings.Contains(unasked[0], "not connected to sim.test") {
		t.Errorf("Resources = %v, %q, %v; want the root's, and why not the leaf's", list, unasked, err)
	}
	testwait.Eventually(t, "the leaf's own list", func() bool {
		_, _, err = c.Resources(t.Context(), client.ResourceQuery{Cluster: "leaf.test"})
		return err == nil || !late(err.Error())
	})
	if err == nil || !strings.Contains(err.Error(), "not connected to sim.test") {
		t.Errorf("Resources of the leaf = %v", err)
	}

	leaf.SetAway(false)
	back := time.Now()
	for {
		conn, err := e.pg(t.Context(), port)
		if err == nil {
			must(t, conn.Close(t.Context()))
			break
		}
		if time.Since(back) > testwait.Patience {
			t.Fatalf("not served after the leaf is back: %v", err)
		}
	}
	testwait.Soon(t, "a client of a leaf that is back", time.Since(back), 5*time.Second)
	e.awaitWell()
}

// TestLeafThatJoins is ready within seconds, for a tunnel that waits for it.
func TestLeafThatJoins(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	e.config(fmt.Sprintf("name: leafy, kind: db, cluster: leaf.test, resource: pg-leaf, db_user: alice, port: %d", simworld.FreePort(t)))
	e.start()
	e.AwaitState("leafy", state.TunnelWaitingForLogin)
	_, err := e.Sim.AddLeaf("leaf.test", simcluster.Database{Name: "pg-leaf", Protocol: "postgres"})
	must(t, err)
	joined := time.Now()
	e.AwaitState("leafy", state.TunnelReady)
	testwait.Soon(t, "a tunnel to a leaf that has joined", time.Since(joined), 5*time.Second)
}
