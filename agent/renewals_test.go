//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testwait"
	"berth/internal/tshhome"
	"berth/internal/wake"
)

// testBrowser is a command that opens a page and logs in there, or only notes
// that it was called.
func testBrowser(t *testing.T, e *env, logIn bool) (argv string, opened func() int) {
	t.Helper()
	dir := t.TempDir()
	script := filepath.Join(dir, "browser")
	notes := filepath.Join(dir, "opened")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\necho \"$1\" >>%s\n", notes), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var person sync.WaitGroup
	t.Cleanup(func() { cancel(); person.Wait() })
	urls := func() []string {
		raw, err := os.ReadFile(notes)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return strings.Fields(string(raw))
	}
	if logIn {
		person.Go(func() {
			for done := 0; ctx.Err() == nil; {
				if list := urls(); len(list) > done {
					done++
					e.browse(list[done-1], "user=alice")
				}
				wake.Sleep(ctx, 10*time.Millisecond)
			}
		})
	}
	return fmt.Sprintf("browser: [%q]", script), func() int { return len(urls()) }
}

var okta = []simcluster.Connector{{Name: "okta", Type: simcluster.OIDC}}

var viaOkta = simcluster.WithProfile(func(p *tshhome.Profile) { p.AuthConnector = "okta" })

func (e *env) profile() state.Profile {
	e.t.Helper()
	s := e.Await("the profile", func(s state.Snapshot) bool { return len(s.Profiles) == 1 })
	return s.Profiles[0]
}

func TestRenewWhileValid(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	e.Login(simcluster.WithTTL(time.Hour))
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	before := e.profile()
	open := e.mustPG(port)
	old := e.serial(open)

	if err := e.sit(t.Context(), client.LoginStart{Renew: true}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	after := e.profile()
	if !after.ValidUntil.After(*before.ValidUntil) {
		t.Errorf("the session ends at %v, as before the renewal (%v)", after.ValidUntil, before.ValidUntil)
	}
	if got := e.serial(open); got != old {
		t.Errorf("the open connection is served by cert %s, before the renewal it was %s", got, old)
	}
	e.Await("a new cert", func(s state.Snapshot) bool {
		return s.Tunnels[0].CertValidUntil != nil && s.Tunnels[0].CertValidUntil.After(*before.ValidUntil)
	})
	if got := e.serial(e.mustPG(port)); got == old {
		t.Error("a new connection is served by the old cert")
	}
	e.nothingStaged()
}

// nothingStaged fails the test if a login leaves something beside its session,
// which is seen a moment before the login tidies up.
func (e *env) nothingStaged() {
	e.t.Helper()
	var left []string
	if !testwait.Until(func() bool {
		entries, err := os.ReadDir(e.Home)
		if err != nil {
			e.t.Fatal(err)
		}
		left = nil
		for _, entry := range entries {
			if name := entry.Name(); name != "keys" && name != "known_hosts" && name != "current-profile" && name != "environment" &&
				!strings.HasSuffix(name, ".yaml") {
				left = append(left, name)
			}
		}
		return len(left) == 0
	}) {
		e.t.Errorf("%q are left in the home", left)
	}
}

func TestFailedRenewalChangesNothing(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	e.Login(simcluster.WithTTL(time.Hour))
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	before := e.tree()
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}, "wrong").result(t); err == nil {
		t.Fatal("a wrong password is right")
	}
	leaving, cancel := context.WithCancel(t.Context())
	p := e.sit(leaving, client.LoginStart{Renew: true})
	p.next(t)
	cancel()
	if err := p.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	e.Await("the login to be over", func(s state.Snapshot) bool { return !s.Profiles[0].Login.InProgress })
	if after := e.tree(); after != before {
		t.Errorf("the home changed from\n%s\nto\n%s", before, after)
	}
	e.mustPG(port)
}

// tree is the home's files and what is in them.
func (e *env) tree() string {
	e.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(e.Home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", strings.TrimPrefix(path, e.Home), raw)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return b.String()
}

func TestRenewsUnasked(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Connectors: okta})
	e.withTSH()
	e.Login(simcluster.WithTTL(16*time.Minute), viaOkta)
	browser, opened := testBrowser(t, e, true)
	item, _ := e.pgTunnel("pg")
	e.profileConfig(browser+", renew: {mode: auto, before: 5m}", item)
	before := e.startSession()
	r := e.Await("a plan", func(s state.Snapshot) bool { return s.Profiles[0].Renewal.At != nil }).Profiles[0].Renewal
	if r.Mode != state.RenewAuto || !r.At.Equal(before.Add(-5*time.Minute)) {
		t.Errorf("renewal %+v, want a login at 5 minutes before %v", r, before)
	}
	e.Login(simcluster.WithTTL(40*time.Second), viaOkta) // more than half of it is over: a cert begins a minute back
	before = *e.Await("the short session", func(s state.Snapshot) bool { return s.Profiles[0].ValidUntil.Before(before) }).Profiles[0].ValidUntil
	e.Await("a new session", func(s state.Snapshot) bool { return s.Profiles[0].ValidUntil.After(before) })
	e.Await("word of the renewal", func(s state.Snapshot) bool { return s.Profiles[0].Renewal.RenewedAt != nil })
	if n := opened(); n != 1 {
		t.Errorf("%d login pages were opened, want one", n)
	}
	e.nothingStaged()
}

// startSession starts the agent and returns the present session's end.
func (e *env) startSession() time.Time {
	e.t.Helper()
	e.start()
	s := e.Await("a session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].ValidUntil != nil })
	return *s.Profiles[0].ValidUntil
}

func TestDismissedIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Connectors: okta})
	e.withTSH()
	browser, opened := testBrowser(t, e, false)
	item, _ := e.pgTunnel("pg")
	e.profileConfig(browser+", renew: {mode: auto, before: 23h}", item)
	e.Login(simcluster.WithTTL(40*time.Second), viaOkta)
	agent := e.startAgent()
	e.Await("the login", func(s state.Snapshot) bool { return s.Profiles[0].Login.URL != "" })
	c := e.Client()
	err := c.Login(t.Context(), client.LoginStart{Renew: true}, func(ev client.LoginEvent, _ func(string)) error {
		if ev.Kind == state.LoginURL {
			return c.CancelLogin(t.Context(), ev.Proxy, "")
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("a login that was cancelled ends with %v", err)
	}
	s := e.Await("the dismissed login to be shown", func(s state.Snapshot) bool {
		return !s.Profiles[0].Login.InProgress && s.Profiles[0].Renewal.Problem != nil && s.Profiles[0].Renewal.Warning != state.WarnNot
	})
	if p := s.Profiles[0].Renewal.Problem; p.Code != state.CodeRenewFailed || !strings.Contains(p.Text, "cancelled") {
		t.Errorf("problem %+v", p)
	}
	for range 3 {
		agent.renewals.Decide(time.Now())
	}
	testwait.Never(t, "a second login page", func() bool {
		s, err := c.Snapshot(t.Context())
		return err != nil || opened() != 1 || s.Profiles[0].Login.InProgress
	})
}

func TestPasswordIsNotAskedUnasked(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	e.Login(simcluster.WithTTL(30 * time.Second))
	e.profileConfig("renew: {mode: auto}")
	e.startSession()
	s := e.Await("a warning instead", func(s state.Snapshot) bool { return s.Profiles[0].Renewal.Warning != state.WarnNot })
	r := s.Profiles[0].Renewal
	if r.Problem == nil || !strings.Contains(r.Problem.Text, "only you know") {
		t.Errorf("renewal %+v, want why it did not go by itself", r)
	}
	if s.Profiles[0].Login.InProgress {
		t.Error("the login goes on")
	}
}

func TestSnooze(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login(simcluster.WithTTL(10 * time.Minute))
	e.profileConfig("renew: {mode: ask, before: 23h}")
	until := e.startSession()
	c := e.Client()
	if s, err := c.SnoozeRenewal(t.Context(), "", ""); err != nil || s.Proxy != e.Sim.ProxyAddr() || s.Until == nil {
		t.Errorf("snoozed before there was a warning: %+v, %v", s, err)
	}
	e.Login(simcluster.WithTTL(30 * time.Second))
	s := e.Await("the warning", func(s state.Snapshot) bool { return s.Profiles[0].Renewal.Warning == state.WarnSoon })
	if s.Profiles[0].ValidUntil.Equal(until) {
		t.Fatal("still the old session")
	}
	last := *s.Profiles[0].Renewal.At
	snoozed, err := c.SnoozeRenewal(t.Context(), e.Sim.ProxyAddr(), "")
	if err != nil || snoozed.Until == nil || !snoozed.Until.Equal(last) {
		t.Errorf("snoozed %+v, %v, want until %v", snoozed, err, last)
	}
	e.Await("silence", func(s state.Snapshot) bool { return s.Profiles[0].Renewal.Warning == state.WarnNot })
	if _, err := c.SnoozeRenewal(t.Context(), "nowhere.test:443", ""); err == nil {
		t.Error("a session that is not there was snoozed")
	}
}

func TestCarriesOverWhatTheSessionHad(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access"}, {Name: "dba"}}})
	if _, err := e.Sim.AddLeaf("leaf.test"); err != nil {
		t.Fatal(err)
	}
	e.withTSH()
	const id, gone = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	for _, r := range []string{id, gone} {
		e.Sim.PutAccessRequest(simcluster.AccessRequest{ID: r, User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED})
	}
	e.Login(simcluster.WithTTL(30*time.Minute), simcluster.WithRequests(id, gone), simcluster.WithLeaf("leaf.test"))
	e.Sim.PutAccessRequest(simcluster.AccessRequest{ID: gone, User: "alice", Roles: []string{"dba"}, State: types.RequestState_DENIED})
	e.config()
	until := e.startSession()
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	p := e.profile()
	if !p.ValidUntil.After(until) || !slices.Equal(p.ActiveRequests, []string{id}) || !slices.Contains(p.Roles, "dba") || p.Cluster != "leaf.test" {
		t.Errorf("after the renewal: until %v, cluster %s, requests %v, roles %v", p.ValidUntil, p.Cluster, p.ActiveRequests, p.Roles)
	}
	if log := e.Log.String(); !strings.Contains(log, "not carried over") || !strings.Contains(log, gone) {
		t.Error("the request that was lost is not reported")
	}
}
