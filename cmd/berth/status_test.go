package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
)

func TestProfileLine(t *testing.T) {
	now := time.Date(2027, 3, 4, 12, 0, 0, 0, time.Local)
	at := func(d time.Duration) *time.Time { return new(now.Add(d)) }
	base := state.Profile{Proxy: "p.example.com:443", Cluster: "example.com", User: "alice", Roles: []string{"access", "dba"}}
	for _, test := range []struct {
		name   string
		change func(*state.Profile)
		want   string
	}{
		{"valid", func(p *state.Profile) { p.State, p.ValidUntil = state.ProfileValid, at(7*time.Hour+12*time.Minute) },
			"alice @ example.com · 7 h 12 min left · until 19:12:00 · roles access, dba"},
		{"expiring_tomorrow", func(p *state.Profile) { p.State, p.ValidUntil = state.ProfileExpiring, at(12*time.Hour) },
			"alice @ example.com · 12 h 0 min left · until Fri 00:00 · roles access, dba"},
		{"assumed", func(p *state.Profile) {
			p.State, p.ValidUntil, p.ActiveRequests = state.ProfileValid, at(30*24*time.Hour), []string{"r1"}
		}, "alice @ example.com · 30 days left · until 2027-04-03 12:00 · roles access, dba · assumed requests r1"},
		{"expired", func(p *state.Profile) { p.State, p.ValidUntil = state.ProfileExpired, at(-90*time.Second) },
			"alice @ example.com · expired 1 min ago · log in: berth login p.example.com:443 --user=alice"},
		{"logged_out", func(p *state.Profile) { p.State = state.ProfileLoggedOut },
			"alice @ example.com · logged out · log in: berth login p.example.com:443 --user=alice"},
		{"logged_out_and_nameless", func(p *state.Profile) { p.State, p.User, p.Cluster = state.ProfileLoggedOut, "", "" },
			"? @ p.example.com:443 · logged out · log in: berth login p.example.com:443"},
		{"hostile", func(p *state.Profile) {
			p.State, p.User, p.Cluster, p.Proxy = state.ProfileLoggedOut, "\x1b[31ma", "b\u202e", "c\n"
		}, "a @ b · logged out · log in: berth login c  --user=a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := base
			test.change(&p)
			got, login := (&app{}).profileLine(p, now)
			if login != "" {
				got += " · log in: " + login
			}
			if got != test.want {
				t.Errorf("profileLine =\n %q, want\n %q", got, test.want)
			}
		})
	}
}

// TestRightToLeft: on a terminal, words of others that are written from right to left
// leave the others where they are.
func TestRightToLeft(t *testing.T) {
	const name, apart = "דנה", "\u2068דנה\u2069"
	s := state.Snapshot{
		Tunnels:  []state.Tunnel{{TunnelSpec: state.TunnelSpec{Name: "pg"}, Problem: &state.Problem{Title: "Access denied", Text: name}}},
		Requests: []state.Request{{ID: "1", User: name, Roles: []string{name}, Reviewable: true}},
	}
	for _, terminal := range []bool{true, false} {
		var out bytes.Buffer
		a := &app{out: &out, terminal: terminal}
		if err := a.printProblems(s); err != nil {
			t.Fatal(err)
		}
		a.printAskedOfYou(s.Requests, time.Now())
		want := apart
		if !terminal {
			want = name
		}
		for _, line := range []string{"! pg: Access denied: " + want + "\n", want + " asks for " + want + ".\n"} {
			if !strings.Contains(out.String(), line) {
				t.Errorf("terminal %v: there is no %q in %q", terminal, line, out.String())
			}
		}
	}
}

// hostileSnapshot has an attack in every text that comes from elsewhere.
func hostileSnapshot() state.Snapshot {
	const evil = "x\x1b[2J\n! fake\u202e"
	problem := state.Problem{Code: "c", Title: evil, Text: evil, Action: evil}
	return state.Snapshot{
		Profiles: []state.Profile{{
			Proxy: evil, Cluster: evil, User: evil, State: state.ProfileValid, ValidUntil: new(time.Now().Add(time.Hour)),
			Roles: []string{evil}, ActiveRequests: []string{evil},
		}},
		Tunnels: []state.Tunnel{{
			TunnelSpec: state.TunnelSpec{Name: evil, Cluster: evil, Resource: evil}, Protocol: evil, Address: evil, Addresses: []string{evil}, Profile: evil,
			Engine: state.EngineTSH, EngineReason: evil, State: state.TunnelState(evil), Problem: &problem,
			CertValidUntil: new(time.Now()), LastErrorAt: new(time.Now()), Waiting: 1,
		}},
		Problems: []state.Problem{problem},
	}
}

func TestStatusIsSafe(t *testing.T) {
	s := hostileSnapshot()
	for _, o := range []statusOptions{{}, {json: true}, {json: true, watch: true}, {name: s.Tunnels[0].Name}} {
		t.Run(fmt.Sprintf("json_%v_watch_%v_name_%v", o.json, o.watch, o.name != ""), func(t *testing.T) {
			var out bytes.Buffer
			if err := (&app{out: &out}).printStatus(s, o); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), plain.Invisible) || strings.Contains(text, "\n! fake") {
				t.Errorf("not safe: %q", text)
			}
			if lines := strings.Count(text, "\n"); o.watch && lines != 1 {
				t.Errorf("a watch prints %d lines for a snapshot, want 1", lines)
			}
		})
	}
}

func TestComplain(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"plain", errors.New("open x: no"), exitFailed, "berth: open x: no\n"},
		{"hint", withHint(errors.New("no"), "try y"), exitFailed, "berth: no\nberth: hint: try y\n"},
		{"usage", usageError{withHint(errors.New("no"), "try y")}, exitUsage, "berth: no\nberth: hint: try y\n"},
		{"not_running", fmt.Errorf("ask: %w", client.ErrNotRunning), exitAgentNotRunning,
			"berth: ask: the agent is not running\nberth: hint: start it with \"berth agent install\", or in this terminal with \"berth agent run\"\n"},
		{"login_needed", &client.Error{Code: "login_needed", Message: "no session", Hint: "tsh login"}, exitLoginNeeded,
			"berth: no session\nberth: hint: tsh login\n"},
		{"login_needed_wrapped", fmt.Errorf("%w: x", errLoginNeeded), exitLoginNeeded, "berth: login needed: x\n"},
		{"invalid", &client.Error{Code: "invalid", Message: "bad name"}, exitUsage, "berth: bad name\n"},
		{"not_found", &client.Error{Code: "not_found", Message: "gone", Hint: "look"}, exitFailed, "berth: gone\nberth: hint: look\n"},
		{"child", fmt.Errorf("x: %w", childError{code: 42}), 42, ""},
		{"silent", fmt.Errorf("%w: x", errSilent), exitFailed, ""},
		{"hostile", withHint(errors.New("a\x1b[31m\nberth: hint: run this"), "b\u202e\nc"), exitFailed,
			"berth: a\n  berth: hint: run this\nberth: hint: b\n  c\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := exitCode(test.err); got != test.code {
				t.Errorf("exitCode = %d, want %d", got, test.code)
			}
			a, _, errOut := testApp()
			if !errors.Is(test.err, errSilent) {
				a.complain(test.err)
			}
			if got := errOut.String(); got != test.want {
				t.Errorf("complain prints %q, want %q", got, test.want)
			}
		})
	}
}

// TestDraining: one connection is not several.
func TestDraining(t *testing.T) {
	for n, want := range map[int64]string{1: "draining (1 connection of the previous agent)\n", 2: "draining (2 connections of the previous agent)\n"} {
		var out bytes.Buffer
		if err := (&app{out: &out}).printStatus(state.Snapshot{Agent: state.Agent{Draining: n}}, statusOptions{}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

// TestForbiddenSession: a session that the policy forbids is there, and no login helps.
func TestForbiddenSession(t *testing.T) {
	s := state.Snapshot{Problems: []state.Problem{{
		Code: state.CodeProxyForbidden, Title: "Proxy not allowed", Text: "The session of p is not used: the policy says so.", Action: "ask IT",
	}}}
	var out bytes.Buffer
	if err := (&app{out: &out}).printStatus(s, statusOptions{}); err != nil {
		t.Fatal(err)
	}
	want := "The policy allows none of your sessions.\n"
	if !strings.HasPrefix(out.String(), want) || !strings.Contains(out.String(), "the policy says so") || strings.Contains(out.String(), "berth login") {
		t.Errorf("got %q", out.String())
	}
}
