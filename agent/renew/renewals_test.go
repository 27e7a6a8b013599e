package renew

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/survive"
)

// buggyLog panics at what is decided of one proxy, and counts what is of another.
type buggyLog struct {
	slog.Handler

	buggy, other string
	counted      int
}

func (l *buggyLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *buggyLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		switch {
		case a.Key != "profile":
		case a.Value.String() == l.buggy:
			panic("a bug")
		case a.Value.String() == l.other:
			l.counted++
		}
		return true
	})
	return nil
}

// TestBugWhileDeciding: what was decided of one profile is remembered where a bug ends
// the decisions at another.
func TestBugWhileDeciding(t *testing.T) {
	now := time.Now()
	profile := func(name string) *certwatch.Profile {
		return &certwatch.Profile{
			Home: "/home", Name: name, ProxyAddr: name + ":443", User: "alice",
			Session: &certwatch.Session{ValidFrom: now.Add(-time.Hour), ValidUntil: now.Add(time.Minute)},
		}
	}
	log := &buggyLog{Handler: slog.DiscardHandler, buggy: "b.test:443", other: "a.test:443"}
	quiet := slog.New(slog.DiscardHandler)
	known := sessions.New(quiet)
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{profile("a.test"), profile("b.test")}})
	t.Cleanup(known.Close)
	rs := NewRenewals(t.Context(), Config{
		Config: func() *config.Config { return &config.Config{} }, Sessions: known,
		Logins: login.New(t.Context(), login.Config{Logger: quiet}), Held: func() map[certwatch.ProfileID]bool { return nil },
		WokeAt: func() time.Time { return time.Time{} }, Away: func() bool { return false },
		Unattended: func(*certwatch.Profile) bool { return false }, Logger: slog.New(log),
	})
	met := false
	for range 3 {
		err := survive.Do(quiet, "decide about renewals", func() error { rs.Decide(now); return nil })
		met = met || err != nil
	}
	if !met {
		t.Error("the bug was not met")
	}
	if log.counted != 1 {
		t.Errorf("the same was decided %d times anew of the profile without a bug", log.counted)
	}
}

// TestSnoozeOfTwoHomes: two homes have sessions of two users at one proxy, and each has
// its own reminder, and its own command where its renewal has failed.
func TestSnoozeOfTwoHomes(t *testing.T) {
	now := time.Now()
	profile := func(user string) *certwatch.Profile {
		return &certwatch.Profile{
			Home: "/" + user, Name: "a.test", ProxyAddr: "a.test:443", User: user,
			Session: &certwatch.Session{ValidFrom: now.Add(-time.Hour), ValidUntil: now.Add(time.Minute)},
		}
	}
	alice, bob := profile("alice"), profile("bob")
	quiet := slog.New(slog.DiscardHandler)
	known := sessions.New(quiet)
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{alice, bob}})
	t.Cleanup(known.Close)
	set := func() *config.Config { return &config.Config{} }
	rs := NewRenewals(t.Context(), Config{
		Config: set, Sessions: known, Logins: login.New(t.Context(), login.Config{Config: set, Sessions: known, Logger: quiet}),
		Held: func() map[certwatch.ProfileID]bool { return nil }, WokeAt: func() time.Time { return time.Time{} }, Away: func() bool { return false },
		Unattended: func(*certwatch.Profile) bool { return false }, Publish: func() {}, Logger: quiet,
	})
	if _, err := rs.Snooze(t.Context(), "a.test", "bob"); err != nil {
		t.Fatal(err)
	}
	rs.Decide(now)
	if a, b := rs.State(alice).Warning, rs.State(bob).Warning; a == state.WarnNot || b != state.WarnNot {
		t.Errorf("alice is warned with %q, bob with %q", a, b)
	}
	if _, err := rs.Snooze(t.Context(), "a.test", "carol"); err == nil {
		t.Error("the reminder of a user without a profile is snoozed")
	}
	for p, want := range map[*certwatch.Profile]string{alice: "alice", bob: "bob"} {
		if got := known.UserAt(p.ProxyAddr, p.User); got != want {
			t.Errorf("a command for %s names %q", want, got)
		}
	}
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{alice}})
	if got := known.UserAt(alice.ProxyAddr, alice.User); got != "" {
		t.Errorf("a command names %q, who is alone", got)
	}
}

// TestHeldOfTwoHomes: two homes have sessions of two users at one proxy, and only the
// one that a client is held for is renewed after its end.
func TestHeldOfTwoHomes(t *testing.T) {
	now := time.Now()
	profile := func(user string) *certwatch.Profile {
		return &certwatch.Profile{
			Home: "/" + user, Name: "a.test", ProxyAddr: "a.test:443", User: user,
			Session: &certwatch.Session{ValidFrom: now.Add(-time.Hour), ValidUntil: now.Add(-time.Minute)},
		}
	}
	alice, bob := profile("alice"), profile("bob")
	quiet := slog.New(slog.DiscardHandler)
	known := sessions.New(quiet)
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{alice, bob}})
	t.Cleanup(known.Close)
	set := config.Profile{Proxy: "a.test:443"}
	set.Renew.Mode = state.RenewAuto
	cfg := &config.Config{Profiles: []config.Profile{set}}
	rs := NewRenewals(t.Context(), Config{
		Config: func() *config.Config { return cfg }, Sessions: known, Logins: login.New(t.Context(), login.Config{Logger: quiet}),
		Held:   func() map[certwatch.ProfileID]bool { return map[certwatch.ProfileID]bool{bob.ID(): true} },
		WokeAt: func() time.Time { return time.Time{} }, Away: func() bool { return false },
		Unattended: func(*certwatch.Profile) bool { return false }, Logger: quiet,
	})
	for _, p := range []*certwatch.Profile{alice, bob} {
		rs.episode(p).running = true // no login begins in this test
	}
	rs.Decide(now)
	for p, want := range map[*certwatch.Profile]action{alice: actWarn, bob: actLogin} {
		if got := rs.by[p.ID()].decision.Action; got != want {
			t.Errorf("%s's session is answered with %q, want %q", p.User, got, want)
		}
	}
}

// TestCodePromptSilencesNothing: while a tunnel's code is asked for, the session's end is
// as near as ever.
func TestCodePromptSilencesNothing(t *testing.T) {
	now := time.Now()
	p := &certwatch.Profile{
		Home: "/home", Name: "a.test", ProxyAddr: "a.test:443", User: "alice",
		Session: &certwatch.Session{ValidFrom: now.Add(-time.Hour), ValidUntil: now.Add(time.Minute)},
	}
	quiet := slog.New(slog.DiscardHandler)
	known := sessions.New(quiet)
	known.Update(&certwatch.View{Profiles: []*certwatch.Profile{p}})
	t.Cleanup(known.Close)
	kept, err := memory.Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	set, none := func() *config.Config { return &config.Config{} }, func() {}
	ctx, cancel := context.WithCancel(t.Context())
	logins := login.New(ctx, login.Config{Config: set, Sessions: known, Memory: kept, OnChange: none, Publish: none, Logger: quiet})
	t.Cleanup(logins.Wait)
	t.Cleanup(cancel)
	rs := NewRenewals(ctx, Config{
		Config: set, Sessions: known, Logins: logins,
		Held: func() map[certwatch.ProfileID]bool { return nil }, WokeAt: func() time.Time { return time.Time{} }, Away: func() bool { return false },
		Unattended: func(*certwatch.Profile) bool { return false }, Logger: quiet,
	})
	never := func() bool { return false }
	logins.Need(login.CodeNeed{Profile: p, Tunnel: "pg", Held: never, Met: never})
	done := errors.New("seen enough")
	err = logins.Login(ctx, ipc.LoginStart{Proxy: "a.test"}, nil, func(ev ipc.LoginEvent) error {
		rs.Decide(now)
		if got := rs.State(p).Warning; ev.Kind != state.LoginOTP || got != state.WarnLast {
			t.Errorf("while the person is asked for %q, the warning is %q, want %q", ev.Kind, got, state.WarnLast)
		}
		return done
	})
	if err == nil || !strings.Contains(err.Error(), done.Error()) {
		t.Errorf("the asking ended with %v", err)
	}
}
