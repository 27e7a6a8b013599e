//go:build e2e && linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// roleAsker may use the database as app, and ask for roleReporter, who may use
// it as reporter.
const (
	roleAsker    = "req-asker"
	roleReporter = "req-reporter"
)

const requestRoles = `kind: role
version: v7
metadata: {name: req-asker}
spec:
  options: {max_session_ttl: 12h}
  allow:
    logins: [nobody]
    db_labels: {'*': '*'}
    db_users: [app]
    db_names: [appdb]
    request: {roles: [req-reporter], max_duration: 2d}
---
kind: role
version: v7
metadata: {name: req-reporter}
spec:
  allow:
    db_labels: {'*': '*'}
    db_users: [reporter]
    db_names: [appdb]
---
kind: role
version: v7
metadata: {name: req-setter}
spec:
  allow:
    rules: [{resources: [access_request], verbs: [list, read, update]}]
`

// requestEvents follows "berth request watch --json".
func (p *person) requestEvents(t *testing.T) <-chan state.RequestEvent {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, lab.berth, "request", "watch", "--json")
	cmd.Env = p.berthEnv()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	events := make(chan state.RequestEvent, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var ev state.RequestEvent
			if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
				t.Errorf("berth request watch prints %q: %v", lines.Text(), err)
				continue
			}
			events <- ev
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = cmd.Wait() // it was killed
	})
	time.Sleep(500 * time.Millisecond) // it says nothing when it is ready
	return events
}

func awaitEvent(t *testing.T, events <-chan state.RequestEvent, kind state.RequestEventKind) state.RequestEvent {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case ev := <-events:
			if ev.Kind == kind {
				return ev
			}
			t.Logf("event %s of %s", ev.Kind, ev.Request.ID)
		case <-limit:
			t.Fatalf("berth request watch prints no event %q", kind)
		}
	}
}

func (p *person) createRequest(more ...string) state.Request {
	p.t.Helper()
	var r state.Request
	out := p.berth(append([]string{"request", "create", "--role", roleReporter, "--json"}, more...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// rolesByTSH are the roles that "tsh status" shows.
func (p *person) rolesByTSH() string {
	p.t.Helper()
	for line := range strings.Lines(p.tsh("status")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "Roles" {
			roles := strings.Split(strings.TrimSpace(value), ", ")
			slices.Sort(roles)
			return strings.Join(roles, ",")
		}
	}
	p.t.Fatal("tsh status shows no roles")
	return ""
}

// worksAs reports whether a new connection as a database user works, within
// the time a new cert may take.
func (p *person) worksAs(link, user string, want bool) time.Duration {
	p.t.Helper()
	begin := time.Now()
	for {
		r := p.psql(asUser(link, user), "select current_user")
		if works := r.code == 0 && strings.TrimSpace(r.out) == user; works == want {
			return time.Since(begin)
		}
		if time.Since(begin) > 5*time.Second {
			p.t.Fatalf("5 s later psql as %s: exit code %d, want it to work: %v\n%s", user, r.code, want, r.err)
		}
	}
}

// TestAccessRequest is a request from the asking to the giving back.
func TestAccessRequest(t *testing.T) {
	if err := lab.teleport.apply(t.Context(), requestRoles); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, roleAsker)
	p.login()
	p.startAgent()
	p.addTunnel("pg")
	p.awaitReady("pg")
	p.addTunnel("elevated")
	p.awaitReady("elevated")
	p.addTunnel("viatsh", "--engine", "tsh")
	p.awaitReady("viatsh")
	link, elevated := p.berth("tunnel", "url", "pg"), p.berth("tunnel", "url", "elevated")
	viaTSH := p.berth("tunnel", "url", "viatsh")
	events := p.requestEvents(t)

	if r := p.tryBerth("request", "create", "--role", roleDB); r.code != 1 || !strings.Contains(r.err, "you may ask for: "+roleReporter) {
		t.Errorf("asking for a role that may not be asked for: exit code %d\n%s", r.code, r.err)
	}
	req := p.createRequest("--reason", "e2e <b>\x1b[31m reasons")
	if req.State != state.RequestPending || req.Reason != "e2e <b> reasons" || req.ApprovalsNeeded != 1 {
		t.Errorf("created %+v", req)
	}
	if ev := awaitEvent(t, events, state.RequestEventCreated); ev.Request.ID != req.ID {
		t.Errorf("created: %+v", ev)
	}
	if r := p.tryBerth("request", "assume", req.ID); r.code != 1 || !strings.Contains(r.err, "is not approved yet: 0 of 1 approval") {
		t.Errorf("assume too early: exit code %d\n%s", r.code, r.err)
	}
	begin := time.Now()
	if _, err := lab.teleport.tctl(t.Context(), "", "request", "approve", "--reason=granted", req.ID); err != nil {
		t.Fatal(err)
	}
	approved := time.Now()
	ev := awaitEvent(t, events, state.RequestEventApproved)
	if took := time.Since(approved); took > 2*time.Second || ev.Request.ResolveReason != "granted" || !ev.Request.Assumable {
		t.Errorf("approved: told %s after tctl had ended: %+v", took, ev.Request)
	}
	t.Logf("tctl request approve -> berth request watch: %s from its start, %s from its end",
		time.Since(begin).Round(time.Millisecond), time.Since(approved).Round(time.Millisecond))

	t.Run("for_one_tunnel", func(t *testing.T) {
		p.worksAs(elevated, "reporter", false)
		p.berth("request", "assume", req.ID[:8], "--tunnel", "elevated")
		t.Logf("assume --tunnel -> its roles are used: %s", p.worksAs(elevated, "reporter", true).Round(time.Millisecond))
		p.worksAs(link, "reporter", false)
		if got := p.rolesByTSH(); got != roleAsker {
			t.Errorf("tsh status shows the roles %s", got)
		}
		p.berth("request", "drop", "--tunnel", "elevated")
		p.worksAs(elevated, "reporter", false)
	})
	t.Run("for_one_tunnel_of_tsh", func(t *testing.T) {
		p.worksAs(viaTSH, "reporter", false)
		p.berth("request", "assume", req.ID[:8], "--tunnel", "viatsh")
		t.Logf("assume --tunnel, carried by tsh -> its roles are used: %s", p.worksAs(viaTSH, "reporter", true).Round(time.Millisecond))
		p.worksAs(link, "reporter", false)
		if got := p.rolesByTSH(); got != roleAsker {
			t.Errorf("tsh status shows the roles %s", got)
		}
		p.berth("request", "drop", "--tunnel", "viatsh")
		t.Logf("drop --tunnel, carried by tsh -> its roles are gone: %s", p.worksAs(viaTSH, "reporter", false).Round(time.Millisecond))
		p.worksAs(viaTSH, "app", true)
	})
	t.Run("for_the_session", func(t *testing.T) {
		p.berth("request", "assume", req.ID[:8])
		if got, want := p.rolesByTSH(), roleAsker+","+roleReporter; got != want {
			t.Errorf("tsh status shows the roles %s, want %s", got, want)
		}
		t.Logf("assume -> its roles are used: %s", p.worksAs(link, "reporter", true).Round(time.Millisecond))
		p.worksAs(link, "app", true)
		if prof := p.snapshot().Profiles[0]; !slices.Equal(prof.ActiveRequests, []string{req.ID}) {
			t.Errorf("berth status shows the requests %q", prof.ActiveRequests)
		}
		p.tsh("db", "ls") // tsh lives with what it finds
		p.berth("request", "drop")
		if got := p.rolesByTSH(); got != roleAsker {
			t.Errorf("after the drop tsh status shows the roles %s", got)
		}
		t.Logf("drop -> its roles are gone: %s", p.worksAs(link, "reporter", false).Round(time.Millisecond))
	})
	t.Run("held_for_a_login", func(t *testing.T) {
		p.logout()
		if r := p.tryBerth("request", "assume", req.ID, "--hold", "1s"); r.code != 4 || !strings.Contains(r.err, "no login at ") {
			t.Errorf("nobody logs in: exit code %d\n%s", r.code, r.err)
		}
		held := make(chan result, 1)
		go func() { held <- p.tryBerth("request", "assume", req.ID, "--hold", "60s", "--yes") }()
		select {
		case r := <-held:
			t.Fatalf("not held: exit code %d\n%s", r.code, r.err)
		case <-time.After(time.Second):
		}
		p.login()
		if r := <-held; r.code != 0 {
			t.Errorf("after the login: exit code %d\n%s", r.code, r.err)
		}
		if got, want := p.rolesByTSH(), roleAsker+","+roleReporter; got != want {
			t.Errorf("tsh status shows the roles %s, want %s", got, want)
		}
		p.worksAs(link, "reporter", true)
		p.berth("request", "drop")
	})
	t.Run("denied_and_deleted", func(t *testing.T) {
		other := p.createRequest("--for", "30m")
		if _, err := lab.teleport.tctl(t.Context(), "", "request", "deny", "--reason=no", other.ID); err != nil {
			t.Fatal(err)
		}
		if ev := awaitEvent(t, events, state.RequestEventDenied); ev.Request.ID != other.ID {
			t.Errorf("denied: %+v", ev)
		}
		if r := p.tryBerth("request", "assume", other.ID); r.code != 1 || !strings.Contains(r.err, "was denied: no") {
			t.Errorf("assume a denied one: exit code %d\n%s", r.code, r.err)
		}
		if _, err := lab.teleport.tctl(t.Context(), "", "request", "rm", "--force", req.ID); err != nil {
			t.Fatal(err)
		}
		awaitEvent(t, events, state.RequestEventDeleted)
	})
}

// TestDecideByRule has a person whose role sets the state of requests decide
// one, where the community edition knows no reviewers; a plain user is told
// that he may not.
func TestDecideByRule(t *testing.T) {
	if err := lab.teleport.apply(t.Context(), requestRoles); err != nil {
		t.Fatal(err)
	}
	asker, setter, plain := newPerson(t, roleAsker), newPerson(t, "req-setter"), newPerson(t, roleApp)
	for _, p := range []*person{asker, setter, plain} {
		p.login()
		p.startAgent()
	}
	req := asker.createRequest()
	if r := asker.tryBerth("request", "approve", req.ID); r.code != 1 || !strings.Contains(r.err, "you cannot review your own") {
		t.Errorf("deciding one's own: exit code %d\n%s", r.code, r.err)
	}
	if r := plain.tryBerth("request", "approve", req.ID); r.code != 1 || !strings.Contains(r.err, "is not there any more") {
		t.Errorf("deciding what one does not see: exit code %d\n%s", r.code, r.err)
	}
	out := setter.berth("request", "approve", req.ID, "--reason", "by rule")
	if want := fmt.Sprintf("%s's request for %s is approved", asker.name, roleReporter); !strings.Contains(out, want) {
		t.Errorf("approving says %q, want %q", out, want)
	}
	if r := setter.tryBerth("request", "approve", req.ID); r.code != 0 {
		t.Logf("approving again: exit code %d\n%s", r.code, r.err)
	}
	if err := until(t.Context(), 3*time.Second, 50*time.Millisecond, func() error {
		if out := asker.berth("request", "show", req.ID, "--json"); !strings.Contains(out, `"state": "approved"`) {
			return fmt.Errorf("berth request show says\n%s", out)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
