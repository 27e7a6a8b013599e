package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/internal/plain"
)

// TestNarrowTable: names are shortened in the middle first, then columns go, and
// nothing is wider than the terminal.
func TestNarrowTable(t *testing.T) {
	header := []string{"TUNNEL", "STATE", "ADDRESS", "RESOURCE", "ENGINE", "CONNECTIONS"}
	row := []string{"billing-production-replica", "ready", "127.0.0.1:15432", "名前名前名前名前名前名前 (postgres)", "native", "12"}
	for columns, want := range map[int]string{
		0:  "billing-production-replica  ready  127.0.0.1:15432  名前名前名前名前名前名前 (postgres)  native  12",
		90: "billing-pr…on-replica  ready  127.0.0.1:15432  名前名前名…(postgres)   native  12",
		70: "billing…replica  ready  127.0.0.1:15432  名前名前…stgres)  12",
		46: "billing-pro…on-replica  ready  127.0.0.1:15432",
		40: "billing-…replica  ready  127.0.0.1:15432",
	} {
		var out bytes.Buffer
		a := &app{out: &out, size: func() (int, int) { return columns, 20 }}
		if err := a.table(header, [][]string{append([]string{}, row...)}, nil, spareColumns(header)...); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		if got := lines[1]; got != want {
			t.Errorf("in %d columns:\n%q, want\n%q", columns, got, want)
		}
		for _, line := range lines {
			if columns > 0 && plain.Width(line) > columns {
				t.Errorf("in %d columns a line has %d: %q", columns, plain.Width(line), line)
			}
		}
	}
}

// TestStackedTable: where not even the columns that every row needs fit, each cell has a
// line of its own.
func TestStackedTable(t *testing.T) {
	header := []string{"TUNNEL", "STATE", "ADDRESS", "RESOURCE", "ENGINE", "CONNECTIONS"}
	for columns, want := range map[int]string{
		31: "TUNNEL   STATE  ADDRESS\nprod-pg  ready  127.0.0.1:15432\n",
		30: "prod-pg\n  ready\n  127.0.0.1:15432\n",
		20: "prod-pg\n  ready\n  127.0.0.1:15432\n",
	} {
		var out bytes.Buffer
		a := &app{out: &out, size: func() (int, int) { return columns, 20 }}
		rows := [][]string{{"prod-pg", "ready", "127.0.0.1:15432", "pg (postgres)", "native", "12"}}
		if err := a.table(header, rows, nil, spareColumns(header)...); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("in %d columns:\n%s, want\n%s", columns, got, want)
		}
	}
}

// TestLabelled: a value has lines of its own where its label leaves it no room.
func TestLabelled(t *testing.T) {
	for columns, want := range map[int]string{
		0:  "  address      127.0.0.1:19296, [::1]:19296\n",
		40: "  address      127.0.0.1:19296,\n               [::1]:19296\n",
		20: "  address\n    127.0.0.1:19296,\n    [::1]:19296\n",
	} {
		var out bytes.Buffer
		a := &app{out: &out, size: func() (int, int) { return columns, 20 }}
		if a.labelled("  ", "address", "127.0.0.1:19296, [::1]:19296"); out.String() != want {
			t.Errorf("in %d columns:\n%s, want\n%s", columns, &out, want)
		}
	}
}

// TestSentences: what is said about a new access request is broken at words.
func TestSentences(t *testing.T) {
	r := state.Request{ID: "7c1f", Roles: []string{"dba"}, State: state.RequestDenied, ResolveReason: "please ask again after the release"}
	for columns, want := range map[int]string{
		0:  "access request 7c1f for dba: denied\nbecause: please ask again after the release\n",
		32: "access request 7c1f for dba:\n  denied\nbecause: please ask again\n  after the release\n",
	} {
		var out bytes.Buffer
		a := &app{out: &out, size: func() (int, int) { return columns, 20 }}
		if err := a.printCreated(r, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("in %d columns:\n%s, want\n%s", columns, got, want)
		}
	}
}

// TestTunnelsDiffer: a column is left out before two tunnels look the same.
func TestTunnelsDiffer(t *testing.T) {
	header := []string{"TUNNEL", "STATE", "ADDRESS", "RESOURCE", "ENGINE", "CONNECTIONS"}
	names := []string{"prod-orders-eu-west-1-replica", "prod-orders-eu-west-2-replica"}
	for columns, want := range map[int][]string{
		80: {"prod-order…1-replica  ready", "prod-order…2-replica  ready", "RESOURCE"},
		70: {"\nprod-orders-eu-west-1-replica  ready", "\nprod-orders-eu-west-2-replica  ready", "CONNECTIONS"},
		46: {"prod-orders…-1-replica  ready  127.0.0.1:15432\n", "prod-orders…-2-replica  ready  127.0.0.1:15432\n"},
	} {
		var rows [][]string
		for _, name := range names {
			rows = append(rows, []string{name, "ready", "127.0.0.1:15432", name + ".internal (postgres)", "native", "12"})
		}
		var out bytes.Buffer
		a := &app{out: &out, size: func() (int, int) { return columns, 20 }}
		if err := a.table(header, rows, nil, spareColumns(header)...); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("in %d columns there is no %q:\n%s", columns, text, &out)
			}
		}
	}
}

// manyTunnels are tunnels of one session that is gone, and one whose port is taken.
func manyTunnels(n int) state.Snapshot {
	s := state.Snapshot{Profiles: []state.Profile{{Proxy: "p:443", User: "alice", Cluster: "c", State: state.ProfileLoggedOut}}}
	for i := range n {
		name := fmt.Sprintf("pg-%02d", i)
		s.Tunnels = append(s.Tunnels, state.Tunnel{
			TunnelSpec: state.TunnelSpec{Name: name, Resource: "r"}, State: state.TunnelWaitingForLogin, Address: fmt.Sprintf("127.0.0.1:%d", 15000+i),
			Problem: &state.Problem{
				Code: state.CodeLoginNeeded, Title: "Login needed", Action: "berth login p:443 --user=alice",
				Text: fmt.Sprintf("There is no valid session at p:443, so tunnel %q waits for a login.", name),
			},
		})
	}
	last := &s.Tunnels[n-1]
	last.Problem = &state.Problem{Code: state.CodePortInUse, Title: "Port in use", Text: "Port 1 of tunnel is taken.", Action: "stop that program"}
	return s
}

// TestOneCauseOneMessage: what 25 tunnels have for one reason is said once, and so is
// the next step.
func TestOneCauseOneMessage(t *testing.T) {
	s := manyTunnels(26)
	s.Requests = []state.Request{{ID: "0197-long", Tunnels: []string{"pg-01"}}}
	var out bytes.Buffer
	if err := (&app{out: &out, size: func() (int, int) { return 72, 50 }}).printStatus(s, statusOptions{}); err != nil {
		t.Fatal(err)
	}
	_, problems, _ := strings.Cut(out.String(), "\n\n!")
	want := " Login needed: There is no valid session at p:443, so each of 25\n  tunnels waits for a login.\n" +
		"    → berth login p:443 --user=alice\n" +
		"! pg-25: Port in use: Port 1 of tunnel is taken.\n    → stop that program\n" +
		"· pg-01: elevated by access request 0197-lon\n    → to give it back: berth request drop 0197-lon\n"
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := strings.Count(out.String(), "berth login"); n != 1 {
		t.Errorf("the login is advised %d times:\n%s", n, &out)
	}
	if !strings.Contains(out.String(), "pg-01   waiting for login, elevated  127.0.0.1:15001") {
		t.Errorf("the elevated tunnel is not marked:\n%s", &out)
	}
}

// TestRolesForAll: what is assumed for a whole profile marks each of its tunnels.
func TestRolesForAll(t *testing.T) {
	until := time.Now().Add(time.Hour)
	s := state.Snapshot{
		Profiles: []state.Profile{{
			Proxy: "p:443", User: "alice", Cluster: "c", State: state.ProfileValid, ValidUntil: &until,
			ActiveRequests: []string{"0197aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"},
		}},
		Tunnels: []state.Tunnel{
			{TunnelSpec: state.TunnelSpec{Name: "mine"}, Profile: "p:443", State: state.TunnelReady},
			{TunnelSpec: state.TunnelSpec{Name: "other"}, Profile: "q:443", State: state.TunnelReady},
		},
	}
	var out bytes.Buffer
	if err := (&app{out: &out}).printStatus(s, statusOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"assumed requests 0197aaaa\n", "mine    ready, elevated", "other   ready  "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

// TestDrawnStatusFits: a watch never scrolls, and says what it leaves out.
func TestDrawnStatusFits(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, terminal: true, size: func() (int, int) { return 120, 12 }}
	flow := newFlow()
	s := manyTunnels(30)
	begun := time.Now()
	flow.note(s.Tunnels, begun)
	s.Tunnels[0].BytesIn, s.Tunnels[0].BytesOut = 3000, 500
	flow.note(s.Tunnels, begun.Add(redrawEvery/2)) // too soon
	flow.note(s.Tunnels, begun.Add(2*redrawEvery))
	if err := a.drawStatus(s, statusOptions{}, flow); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if n := strings.Count(text, "\n"); n != 11 {
		t.Errorf("%d lines are drawn in a window of 12", n)
	}
	if !strings.Contains(text, "more lines: make the window higher") || !strings.Contains(text, "1.5 kB  250 B") {
		t.Errorf("drawn is\n%s", text)
	}
	s.Tunnels[0].BytesIn = 10 // restarted: its counters began anew
	flow.note(s.Tunnels, begun.Add(3*redrawEvery))
	if got := flow.rates["pg-00"]; got != (rate{}) {
		t.Errorf("after a restart the rates are %v", got)
	}
}

// TestClientsAreNamed: a watch in a wide terminal names the programs that are connected,
// and asks for them when connections come and go, no more often than each few seconds.
func TestClientsAreNamed(t *testing.T) {
	s := manyTunnels(2)
	flow, begun, asked := newFlow(), time.Now(), 0
	look := func(after time.Duration, connections int64, clients ...state.TunnelClient) {
		s.Tunnels[0].Connections = connections
		flow.note(s.Tunnels, begun.Add(after))
		flow.look(t.Context(), func(context.Context) ([]state.TunnelClient, error) {
			asked++
			return clients, nil
		}, begun.Add(after))
	}
	psql := state.TunnelClient{Tunnel: "pg-00", Program: "psql", PID: 812, Connections: 1}
	unknown := state.TunnelClient{Tunnel: "pg-00", PID: 77, Connections: 2}
	for _, turn := range []struct {
		name        string
		after       time.Duration
		connections int64
		asked       int
		want        string
	}{
		{"none", 0, 0, 0, " 0 "},
		{"first", time.Second, 3, 1, "3: psql 812, 77"},
		{"another_soon", 3 * time.Second, 4, 1, "4: psql 812, 77"},
		{"another_later", 7 * time.Second, 4, 2, "4: psql 812, 77"},
		{"as_before", 20 * time.Second, 4, 2, "4: psql 812, 77"},
		{"gone", 30 * time.Second, 0, 2, " 0 "},
	} {
		look(turn.after, turn.connections, psql, unknown)
		if asked != turn.asked {
			t.Errorf("%s: asked %d times, want %d", turn.name, asked, turn.asked)
		}
		var out bytes.Buffer
		a := &app{out: &out, terminal: true, size: func() (int, int) { return 140, 12 }}
		if err := a.drawStatus(s, statusOptions{}, flow); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), turn.want) {
			t.Errorf("%s: %q is not in:\n%s", turn.name, turn.want, &out)
		}
	}
}
