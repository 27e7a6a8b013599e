package certwatch_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth/certwatch"
	"berth/certwatch/certwatchtest"
	"berth/internal/testwait"
	"berth/internal/tshhome"
	"berth/internal/wake"
)

// loggedIn reports whether the view shows exactly one good session, with the role.
func loggedIn(role string) func(*certwatch.View) bool {
	return func(v *certwatch.View) bool {
		return len(v.Profiles) == 1 && v.Profiles[0].Problem == nil && v.Profiles[0].Session != nil &&
			slices.Equal(v.Profiles[0].Session.Identity.Roles, []string{role})
	}
}

func empty(v *certwatch.View) bool { return len(v.Profiles) == 0 && len(v.HomeProblems) == 0 }

func troubled(v *certwatch.View) bool { return len(v.Profiles) == 0 && len(v.HomeProblems) == 1 }

func loggedOut(v *certwatch.View) bool {
	return len(v.Profiles) == 1 && v.Profiles[0].Session == nil && v.Profiles[0].Problem == nil &&
		!v.Profiles[0].Settling
}

func current(v *certwatch.View) bool { return v.Profiles[0].Current }

// loginAs writes a login with the role.
func (f *fixture) loginAs(role string) {
	f.t.Helper()
	login := certwatchtest.Login{Layout: f.home.Layout}
	login.Identity.Roles = []string{role}
	f.prof, f.creds = f.ca.Issue(f.t, login)
	f.check(f.home.Login(f.prof, f.creds))
}

// newWatched returns a fixture without a home yet, and a watcher of it. The
// safety reading is so rare that only notifications can be what tells.
func newWatched(t *testing.T, home string) (*fixture, *certwatch.Watcher) {
	t.Helper()
	f := &fixture{t: t, ca: certwatchtest.NewCA(t, "root"), home: tshhome.Home{Dir: home, Layout: tshhome.V17}}
	return f, runWatcher(t, certwatch.Config{Homes: []string{home}, Safety: time.Hour})
}

func TestHomeComesAndGoes(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	f, w := newWatched(t, filepath.Join(top, "not", "yet", ".tsh"))
	if !empty(w.View()) {
		t.Fatalf("first view = %+v, want it empty", w.View())
	}
	for _, role := range []string{"first", "second"} {
		f.loginAs(role)
		view := await(t, w, "the "+role+" login", loggedIn(role))
		if !current(view) {
			t.Errorf("%s: the profile is not the current one", role)
		}
		f.check(os.RemoveAll(f.home.Dir))
		await(t, w, "the home's end", empty)
	}
	f.loginAs("third")
	await(t, w, "the third login", loggedIn("third"))
	f.check(os.RemoveAll(filepath.Join(top, "not"))) // with its parents
	await(t, w, "the end of all", empty)
	f.loginAs("fourth")
	await(t, w, "the fourth login", loggedIn("fourth"))
	f.loginAs("fifth")
	await(t, w, "the fifth login", loggedIn("fifth"))
}

func TestHomeMovedAside(t *testing.T) {
	t.Parallel()
	f, w := newWatched(t, filepath.Join(t.TempDir(), ".tsh"))
	f.loginAs("first")
	await(t, w, "the first login", loggedIn("first"))
	f.check(os.Rename(f.home.Dir, f.home.Dir+".bak"))
	await(t, w, "no home", empty)
	f.loginAs("second")
	await(t, w, "the second login", loggedIn("second"))
	f.check(os.RemoveAll(f.home.Dir))
	f.check(os.Rename(f.home.Dir+".bak", f.home.Dir))
	await(t, w, "the first login again", loggedIn("first"))
}

func TestHomeOfAnotherKind(t *testing.T) {
	t.Parallel()
	f, w := newWatched(t, filepath.Join(t.TempDir(), ".tsh"))
	f.loginAs("first")
	await(t, w, "the first login", loggedIn("first"))

	f.check(os.RemoveAll(f.home.Dir))
	f.check(os.WriteFile(f.home.Dir, nil, 0o600))
	await(t, w, "that the home is a file", troubled)

	f.check(os.Remove(f.home.Dir))
	f.check(os.Symlink(f.home.Dir, f.home.Dir))
	await(t, w, "the symlink loop", troubled)

	f.check(os.Remove(f.home.Dir))
	target := filepath.Join(t.TempDir(), "target")
	f.check(os.Mkdir(target, 0o700))
	f.check(os.Symlink(target, f.home.Dir))
	await(t, w, "an empty home", empty)
	f.loginAs("second")
	await(t, w, "a login behind a symlink", loggedIn("second"))

	other := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"third"}}})
	f.check(os.Remove(f.home.Dir))
	f.check(os.Symlink(other.home.Dir, f.home.Dir))
	await(t, w, "the symlink's new target", loggedIn("third"))
}

func TestLogout(t *testing.T) {
	t.Parallel()
	for _, layout := range []tshhome.Layout{tshhome.V16, tshhome.V17} {
		f, w := newWatched(t, filepath.Join(t.TempDir(), ".tsh"))
		f.home.Layout = layout
		f.loginAs("first")
		await(t, w, "the first login", loggedIn("first"))
		start := time.Now()
		f.check(f.home.Logout("proxy.test", "alice"))
		await(t, w, "the logout", loggedOut)
		testwait.Soon(t, "the logout, which must not wait for the patience for broken files,", time.Since(start), 2500*time.Millisecond)
		f.loginAs("second")
		await(t, w, "the second login", loggedIn("second"))
		f.check(f.home.LogoutAll())
		await(t, w, "the logout of all", empty)
	}
}

// A broken home keeps its last good session for a while, then says what is
// wrong, and is well again with the next login.
func TestBrokenForLong(t *testing.T) {
	t.Parallel()
	f := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"first"}}})
	const patience = time.Second
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour, Patience: patience})
	good := await(t, w, "the first login", loggedIn("first")).Profiles[0]

	start := time.Now()
	f.put("%s/alice.key", f.creds.TLSKey[:40])
	view := await(t, w, "the problem", func(v *certwatch.View) bool {
		p := v.Profiles[0]
		return p != good && p.Problem != nil && p.Session == nil
	})
	if took := time.Since(start); took < patience {
		t.Errorf("problem %v after %v, want it held for %v", view.Profiles[0].Problem, took, patience)
	}
	f.loginAs("second")
	await(t, w, "the second login", loggedIn("second"))

	// Back in time: what is wrong for a moment only is never seen.
	w = runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour, Patience: time.Hour})
	good = await(t, w, "the second login again", loggedIn("second")).Profiles[0]
	f.put("%s/alice.crt", nil)
	wake.Sleep(t.Context(), patience/4)
	f.put("%s/alice.crt", f.creds.Cert)
	f.untilAnother(w, func(p *certwatch.Profile) {
		if p.Problem != nil || p.Session != good.Session {
			t.Errorf("a moment's trouble was shown: %+v", p)
		}
	})
}

// untilAnother logs in at another proxy, whose profile comes before the one there is,
// and waits until that is seen. Meanwhile it has the latter checked in each view.
func (f *fixture) untilAnother(w *certwatch.Watcher, check func(*certwatch.Profile)) {
	f.t.Helper()
	other, creds := f.ca.Issue(f.t, certwatchtest.Login{Proxy: "another.test:3080"})
	f.check(f.home.Login(other, creds))
	await(f.t, w, "the other login", func(v *certwatch.View) bool {
		check(v.Profiles[len(v.Profiles)-1])
		return len(v.Profiles) == 2 && v.Profiles[0].Session != nil
	})
}

func TestSameSessionIsTheSameValue(t *testing.T) {
	t.Parallel()
	f := newFixture(t, certwatchtest.Login{})
	other, creds := f.ca.Issue(t, certwatchtest.Login{Proxy: "another.test:3080"})
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour})
	first := await(t, w, "a login", func(v *certwatch.View) bool {
		return len(v.Profiles) == 1 && v.Profiles[0].Session != nil && v.Profiles[0].Current
	}).Profiles[0]

	f.check(f.home.Login(other, creds))
	second := await(t, w, "the other login", func(v *certwatch.View) bool {
		return len(v.Profiles) == 2 && v.Profiles[0].Session != nil && v.Profiles[0].Current
	}).Profiles[1]
	if second == first || second.Current || second.Session != first.Session {
		t.Errorf("after another profile became current: %+v, want the same session, not current", second)
	}

	// What "tsh db login" does: all the same bytes once more.
	f.check(f.home.DBLogin(f.prof, f.creds, "root", "pg", []byte("cert"), []byte("key")))
	f.prof.AuthConnector = "okta"
	f.check(f.home.Touch(f.prof))
	await(t, w, "the connector", func(v *certwatch.View) bool {
		if v.Profiles[1].Session != first.Session {
			t.Error("the same bytes make another session")
		}
		return v.Profiles[1].AuthConnector == "okta"
	})
}

func TestSetHomes(t *testing.T) {
	a := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"a"}}})
	b := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"b"}}})
	w := runWatcher(t, certwatch.Config{Homes: []string{a.home.Dir, a.home.Dir + "/."}, Safety: time.Hour})
	kept := await(t, w, "home a", loggedIn("a")).Profiles[0]
	w.SetHomes([]string{b.home.Dir, a.home.Dir})
	view := await(t, w, "both homes", func(v *certwatch.View) bool {
		return len(v.Profiles) == 2 && v.Profiles[0].Session != nil
	})
	if view.Profiles[0].Home != b.home.Dir || view.Profiles[1] != kept {
		t.Errorf("profiles = %+v, want b's, then the same value of a", view.Profiles)
	}
	w.SetHomes([]string{b.home.Dir})
	await(t, w, "home b alone", loggedIn("b"))
	a.loginAs("unseen")
	b.loginAs("seen")
	await(t, w, "home b's new login", loggedIn("seen"))
	w.SetHomes(nil)
	await(t, w, "nothing", empty)
}

func TestRefreshReadsNow(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour, Debounce: time.Hour, MaxDebounce: time.Hour})
	await(t, w, "a login", func(v *certwatch.View) bool { return v.Profiles[0].Session != nil })
	before := w.View().ReadAt
	f.loginAs("new")
	atRest(t, f.home.Dir)
	w.Refresh()
	view := await(t, w, "the new login", loggedIn("new"))
	if !view.ReadAt.After(before) {
		t.Errorf("read at %v, not after %v", view.ReadAt, before)
	}
}

func TestSafetyReading(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	f.age()
	w := runWatcher(t, certwatch.Config{
		Homes: []string{f.home.Dir}, Safety: 200 * time.Millisecond, Debounce: time.Hour, MaxDebounce: time.Hour,
	})
	before := w.View().ReadAt
	f.loginAs("unannounced")
	await(t, w, "a login that no notification told of", loggedIn("unannounced"))
	if !w.View().ReadAt.After(before) {
		t.Errorf("the reading is not dated")
	}
}

func TestSubscribeCoalesces(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{})
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour, Debounce: 30 * time.Millisecond})
	slow, cancelSlow := w.Subscribe()
	gone, cancelGone := w.Subscribe()
	cancelGone()
	defer cancelSlow()
	for _, role := range []string{"one", "two", "three"} {
		f.loginAs(role)
		await(t, w, role, loggedIn(role))
	}
	<-slow
	select {
	case <-slow:
		t.Errorf("a slow subscriber got more than one wake-up")
	case <-gone:
		t.Errorf("a cancelled subscriber was woken")
	default:
	}
}

// A removed file is overwritten after its name is gone: events for names that
// do not exist. Many at once, with folders that come and go.
func TestRestlessLogins(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"first"}}})
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour})
	await(t, w, "the first login", loggedIn("first"))
	changed, cancel := w.Subscribe()
	defer cancel()
	for range 30 {
		f.loginAs("next")
	}
	await(t, w, "the last login", func(v *certwatch.View) bool {
		p := v.Profiles[0]
		if p.Session == nil || p.Problem != nil {
			t.Fatalf("shown on the way: %+v", p)
		}
		return string(encodeLeaf(p.Session)) == string(f.creds.Cert)
	})
	select {
	case <-changed:
	default:
		t.Errorf("no wake-up for the change")
	}
}

// A v17 login stopped after the X.509 pair: key and certificates all belong
// together in pairs, but are of two logins.
func TestTwoLoginsAreNeverMixed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		old  bool // the new files look old, as if moved here from elsewhere
	}{{"written_in_place", false}, {"moved_from_elsewhere", true}} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			f := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"first"}}})
			w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour, Patience: time.Hour})
			await(t, w, "the first login", loggedIn("first"))
			before := w.View().Profiles[0].Session

			second := certwatchtest.Login{NotBefore: now.Add(-20 * time.Second), NotAfter: now.Add(2 * time.Hour)}
			second.Identity.Roles = []string{"second"}
			_, creds := f.ca.Issue(t, second)
			f.put("%s/alice.key", creds.TLSKey)
			f.put("%s/alice.crt", creds.Cert)
			if tt.old {
				past := now.Add(-10 * time.Second)
				f.check(os.Chtimes(f.path("%s/alice.key"), past, past))
				f.check(os.Chtimes(f.path("%s/alice.crt"), past, past))
			}
			f.untilAnother(w, func(p *certwatch.Profile) {
				if p.Session != before {
					t.Errorf("half a login was shown: %v", p.Session)
				}
			})
			f.put("%s/alice", creds.SSHKey)
			f.put("%s/alice.pub", creds.SSHPub)
			f.put("%s/alice-ssh/root-cert.pub", creds.SSHCerts["root"])
			view := await(t, w, "the second login", func(v *certwatch.View) bool {
				s := v.Profiles[1].Session
				return s != nil && slices.Equal(s.Identity.Roles, []string{"second"})
			})
			if s := view.Profiles[1].Session; s.SSH == nil || !slices.Equal(s.SSH.Roles, s.Identity.Roles) {
				t.Errorf("session %v has the SSH certificate %+v", s, s.SSH)
			}
		})
	}
}

// A changed setting is news, but not a new session.
func TestProfileChangesSessionStays(t *testing.T) {
	f := newFixture(t, certwatchtest.Login{Identity: certwatch.Identity{Roles: []string{"first"}}})
	w := runWatcher(t, certwatch.Config{Homes: []string{f.home.Dir}, Safety: time.Hour})
	before := await(t, w, "the login", loggedIn("first")).Profiles[0]
	f.prof.AuthConnector = "okta"
	f.check(f.home.Touch(f.prof))
	after := await(t, w, "the connector", func(v *certwatch.View) bool {
		return v.Profiles[0].AuthConnector == "okta"
	}).Profiles[0]
	if after.Session != before.Session {
		t.Errorf("the session is another value")
	}
}
