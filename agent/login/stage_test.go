package login

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/sessions"
	"berth/certwatch"
	"berth/internal/wake"
)

// TestLoginBesideAnotherHome: a session that another home has at the same proxy neither
// makes a login needless nor passes for what it has brought.
func TestLoginBesideAnotherHome(t *testing.T) { synctest.Test(t, loginBesideAnotherHome) }

func loginBesideAnotherHome(t *testing.T) {
	now := time.Now()
	profile := func(home, user, fingerprint string, left time.Duration) *certwatch.Profile {
		return &certwatch.Profile{
			Home: home, Name: "tele.example.com", ProxyAddr: "tele.example.com:443", User: user,
			Session: &certwatch.Session{Fingerprint: fingerprint, ValidFrom: now.Add(-time.Hour), ValidUntil: now.Add(left)},
		}
	}
	alice, bob, renewed := profile("/first", "alice", "a", time.Hour), profile("/second", "bob", "b", time.Minute), profile("/second", "bob", "c", time.Hour)
	known := sessions.New(slog.New(slog.DiscardHandler))
	t.Cleanup(known.Close)
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{alice, bob}})
	s := &stager{sessions: known, refresh: func() {}, log: slog.New(slog.DiscardHandler)}
	target := Target{Proxy: bob.ProxyAddr, Home: bob.Home, Profile: bob}

	failed := errors.New("tsh failed")
	err := s.unlessLoggedIn(t.Context(), target, func(ctx context.Context) error {
		wake.Sleep(ctx, time.Second)
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("the login ended with %v, want its own error", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.await(ctx, target); err == nil {
		t.Error("the other home's session passes for the new one")
	}
	third := profile("/third", "alice", "d", time.Minute)
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{alice, renewed, third}})
	if err := s.await(t.Context(), target); err != nil {
		t.Errorf("the new session: %v", err)
	}

	ls := New(t.Context(), Config{Config: func() *config.Config { return &config.Config{} }, Sessions: known, Logger: s.log})
	for user, want := range map[string]*certwatch.Profile{"": alice, "alice": alice, "bob": renewed, "carol": alice} {
		target, err := ls.targetOf("tele.example.com", user)
		if err != nil || target.Profile != want || target.Home != want.Home || target.session(known).Profile != want {
			t.Errorf("who names %q means %+v, %v", user, target, err)
		}
	}

	// A login that runs in either home can be cancelled by the proxy's name, whatever codes
	// are asked for, and by its user's.
	key := func(p *certwatch.Profile, codes bool) Key { return Key{Home: p.Home, Proxy: p.ProxyAddr, Codes: codes} }
	for _, test := range []struct {
		user string
		run  []Key // the first is meant
	}{
		{"", []Key{key(bob, false)}},
		{"", []Key{key(bob, false), key(alice, true)}},
		{"bob", []Key{key(bob, false), key(alice, false)}},
		{"bob", []Key{key(bob, true), key(alice, false)}},
		{"alice", []Key{key(alice, false), key(bob, false)}},
		{"alice", []Key{key(third, false), key(bob, false)}}, // she has two
		{"carol", []Key{key(alice, false), key(bob, false)}}, // whose login is in the first home
	} {
		ended := make(chan Key, len(test.run))
		var all []*Login
		for _, key := range test.run {
			all = append(all, ls.underway.join(t.Context(), key, func(ctx context.Context, _ *Login) error {
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrLeft) {
					t.Errorf("it ended with %v", context.Cause(ctx))
				}
				ended <- key
				return ctx.Err()
			}, func() {}))
		}
		if err := ls.Cancel(t.Context(), "tele.example.com", test.user); err != nil {
			t.Error(err)
		} else if got := <-ended; got != test.run[0] {
			t.Errorf("cancelled of %v for %q: %v", test.run, test.user, got)
		}
		for i, key := range test.run {
			ls.underway.cancel(key)
			<-all[i].ended
		}
	}

	// What takes a profile takes no other user's.
	for user, want := range map[string]*certwatch.Profile{"": alice, "alice": alice, "bob": renewed, "carol": nil} {
		target, err := ls.ProfileOf("tele.example.com", user)
		if target.Profile != want || (err == nil) != (want != nil) {
			t.Errorf("the profile of %q is %+v, %v", user, target, err)
		}
	}
}
