package login

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/agent/config"
	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/tsh"
	"berth/certwatch"
)

func TestWrongStoredKeepsItsReason(t *testing.T) {
	err := &wrongStoredError{what: "password", err: &tsh.LoginError{Reason: tsh.ErrBadLogin}}
	if !errors.Is(err, tsh.ErrBadLogin) || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("%v is no wrong login that says what was done", err)
	}
}

// TestStoredIsNoted: what the keychain holds is noted, or it is not said to be stored:
// during a hand-over nothing can be.
func TestStoredIsNoted(t *testing.T) {
	store, err := memory.Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	k := &secretstest.Keychain{}
	ls := New(t.Context(), Config{Memory: store, Keychain: k, Logger: slog.New(slog.DiscardHandler)})
	typist := &typist{ls: ls, l: new(Login), proxy: "tele.test:443", user: "alice"}
	keep := func(when string, kind secrets.Kind, says string, noted ...string) {
		t.Helper()
		kept := typist.keep(t.Context(), kind, "secret")
		said := typist.l.steps[len(typist.l.steps)-1].event.Text
		if kept != strings.Contains(said, "is stored") || !strings.Contains(said, says) {
			t.Errorf("%s: %v, and it says %q", when, kept, said)
		}
		if got := store.Stored("tele.test:443", "alice"); !slices.Equal(got, noted) {
			t.Errorf("%s: %q is noted, want %q", when, got, noted)
		}
	}
	thaw := store.Freeze()
	keep("during a hand-over", secrets.Password, "was not stored: the agent hands over")
	if k.Len() > 0 {
		t.Error("the keychain holds what no agent knows of")
	}
	thaw(false)
	keep("after it", secrets.Password, "is stored", "password")
	k.Fail(&secrets.LockedError{})
	keep("locked", secrets.TOTP, "was not stored", "password")
	keep("locked", secrets.Password, "was not stored", "password") // the former one is there
}

// TestUnattendedIsTheNextLogins: a stored password makes a login need no person where the
// next one asks for it, whatever the last one did.
func TestUnattendedIsTheNextLogins(t *testing.T) {
	store, err := memory.Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SetStored("tele.test:443", "alice", string(secrets.Password), true); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		last, configured string
		want             bool
	}{
		{"", "", true},
		{"local", "", true},
		{"okta", "", false},
		{"local", "local", true},
		{"local", "okta", false},
		{"okta", "local", true},
	} {
		set := &config.Config{Profiles: []config.Profile{{Proxy: "tele.test:443", Auth: test.configured}}}
		ls := New(t.Context(), Config{Config: func() *config.Config { return set }, Memory: store, Logger: slog.New(slog.DiscardHandler)})
		p := &certwatch.Profile{ProxyAddr: "tele.test:443", User: "alice", AuthConnector: test.last}
		if got := ls.Unattended(p); got != test.want {
			t.Errorf("the last login was by %q, the config says %q: unattended %v, want %v", test.last, test.configured, got, test.want)
		}
	}
}
