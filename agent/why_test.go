package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testwait"
)

// TestWhyAClientWaited is the whole way: a held client, the login, the words.
func TestWhyAClientWaited(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	got := e.connecting(port)
	e.Await("a held client", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 })
	pid := fmt.Sprintf("(pid %d) waits for a login", os.Getpid())
	e.awaitEvent("pg", state.EventWaited, pid)
	e.Login()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.awaitEvent("pg", state.EventWaited, fmt.Sprintf("(pid %d) waited ", os.Getpid()))
	e.awaitEvent("pg", state.EventCert, "first cert fetched")
	if _, err := e.Client().TunnelHistory(t.Context(), "nope"); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("the history of an unknown tunnel gives %v", err)
	}
	if err := e.Client().RestartTunnel(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	e.awaitEvent("pg", state.EventConfig, "restarted on request")
	changed := strings.Replace(item, "db_name: app", "db_name: other", 1)
	e.config(changed)
	e.awaitEvent("pg", state.EventConfig, "config changed: db_name from app to other")
	e.config()
	e.Await("the tunnel to go", func(s state.Snapshot) bool { return len(s.Tunnels) == 0 })
	e.config(item)
	events := e.awaitEvent("pg", state.EventConfig, "added to the config")
	if events[0].Text != "added to the config" {
		t.Errorf("a tunnel that was removed and added remembers %q", events[0].Text)
	}
}

// awaitEvent waits for a line of the kind that contains the words, and returns
// the whole history.
func (e *env) awaitEvent(tunnel string, kind state.EventKind, words string) []state.Event {
	e.t.Helper()
	c := e.Client()
	var events []state.Event
	var err error
	if !testwait.Until(func() bool {
		events, err = c.TunnelHistory(e.t.Context(), tunnel)
		return slices.ContainsFunc(events, func(ev state.Event) bool {
			return ev.Kind == kind && strings.Contains(ev.Text, words)
		})
	}) {
		e.t.Fatalf("no event %s %q in %+v, %v", kind, words, events, err)
	}
	return events
}
