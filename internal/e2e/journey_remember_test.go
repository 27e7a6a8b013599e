//go:build e2e && linux

package e2e

import (
	"log/slog"
	"strings"
	"testing"

	"berth/agent/secrets"
	"berth/internal/dbustest"
	"berth/internal/testwait"
)

// TestRememberedPassword has a password kept in a real keyring, logs in with it
// at real Teleport without being asked, and has a wrong one forgotten at once.
func TestRememberedPassword(t *testing.T) {
	bus := dbustest.Start(t)
	bus.StartKeyring(t)
	p := newPerson(t, roleDB)
	p.more = []string{"DBUS_SESSION_BUS_ADDRESS=" + bus.Address}
	p.startAgent()
	if screen := p.berthLogin("--remember"); !strings.Contains(screen, "The password is stored in the keychain.") {
		t.Fatalf("berth login --remember says:\n%s", screen)
	}
	before := *p.snapshot().Profiles[0].ValidUntil
	testwait.NextSecond()
	p.berth("login", "--renew") // no terminal to ask at
	s := p.snapshot().Profiles[0]
	if !s.ValidUntil.After(before) || len(s.Stored) != 1 {
		t.Errorf("after a login with the stored password: %+v; want a session that ends after %v", s, before)
	}

	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
	key := secrets.Key{Proxy: s.Proxy, User: p.name, Kind: secrets.Password}
	if err := secrets.New(slog.New(slog.DiscardHandler)).Set(t.Context(), key, secrets.NewSecret("not-the-password")); err != nil {
		t.Fatal(err)
	}
	r := p.tryBerth("login", "--renew")
	if r.code != 1 || !strings.Contains(r.err, "the stored password has been forgotten") {
		t.Errorf("berth login with a wrong stored password: exit code %d\n%s", r.code, r.err)
	}
	if r := p.tryBerth("login", "--renew"); r.code != 1 || !strings.Contains(r.err, "there is no terminal") {
		t.Errorf("berth login after the stored password was forgotten: exit code %d\n%s", r.code, r.err)
	}
	if s := p.snapshot().Profiles[0]; len(s.Stored) != 0 || !s.ValidUntil.After(before) {
		t.Errorf("after a wrong stored password: %+v; want the session as it was, and nothing stored", s)
	}
	for _, secret := range []string{p.password, "not-the-password"} {
		if strings.Contains(p.agent.tail(), secret) {
			t.Error("a password is in the agent's log")
		}
	}
}
