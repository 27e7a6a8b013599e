//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
)

// rememberEnv runs an agent with a keychain and a session.
func rememberEnv(t *testing.T, cfg simcluster.Config, mode string, opts ...simcluster.LoginOption) (*env, *secretstest.Keychain) {
	t.Helper()
	e, k := newEnv(t, cfg), &secretstest.Keychain{}
	e.withTSH()
	e.Login(opts...)
	e.profileConfig("renew: {mode: " + mode + ", before: 5m}")
	e.startOptions(func(o *Options) { o.keychain = k }, func(*Agent) {})
	e.Await("a session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].ValidUntil != nil })
	return e, k
}

func (e *env) noSecretsTold(secrets ...string) {
	e.t.Helper()
	for _, s := range secrets {
		if strings.Contains(e.Log.String(), s) {
			e.t.Errorf("%q is in the log", s)
		}
	}
}

func TestRenewsUnaskedByStoredPassword(t *testing.T) {
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{}, "auto")
	p := e.sit(t.Context(), client.LoginStart{Remember: true}, "alice-password")
	if err := p.result(t); err != nil || !k.Has(secrets.Password) {
		t.Fatalf("login: %v, stored: %v", err, k.Has(secrets.Password))
	}
	e.Await("the stored password to be shown", func(s state.Snapshot) bool { return cmp.Equal(s.Profiles[0].Stored, []string{"password"}) })
	logins := e.Sim.Counters().Logins
	e.Login(simcluster.WithTTL(40 * time.Second))
	e.Await("a renewed session", func(s state.Snapshot) bool {
		return e.Sim.Counters().Logins > logins && time.Until(*s.Profiles[0].ValidUntil) > time.Hour
	})
	if r := e.profile().Renewal; r.Problem != nil {
		t.Errorf("problem %+v, want none", r.Problem)
	}
	e.noSecretsTold("alice-password")
}

func TestWrongStoredPasswordIsTriedOnce(t *testing.T) {
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{}, "ask")
	if err := e.sit(t.Context(), client.LoginStart{Remember: true}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.Sim.SetLogin("alice", "another-password", "")
	failed := e.Sim.Counters().FailedLogins
	for try := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := e.sit(ctx, client.LoginStart{Renew: true})
		if try > 0 {
			for asked := false; !asked; { // the person, who does not answer
				asked = p.next(t).Kind.Typed()
			}
			cancel()
		}
		if err := p.result(t); err == nil {
			t.Fatal("logged in with a wrong password")
		}
		e.Await("the login to end", func(s state.Snapshot) bool { return !s.Profiles[0].Login.InProgress })
	}
	if n := e.Sim.Counters().FailedLogins - failed; n != 1 {
		t.Errorf("%d logins with the wrong password, want one: a few lock the account", n)
	}
	if k.Has(secrets.Password) || len(e.profile().Stored) != 0 {
		t.Errorf("the wrong password is still stored: %v", e.profile().Stored)
	}
	e.noSecretsTold("alice-password", "another-password")
}

func TestMistypedPasswordIsNotStored(t *testing.T) {
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{}, "ask")
	if err := e.sit(t.Context(), client.LoginStart{Remember: true}, "mistyped").result(t); err == nil {
		t.Fatal("logged in with a mistyped password")
	}
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}, "alice-password").result(t); err != nil { // not asked to
		t.Fatal(err)
	}
	if k.Len() != 0 || len(e.profile().Stored) != 0 {
		t.Errorf("stored: %d in the keychain, %v in the snapshot; want nothing", k.Len(), e.profile().Stored)
	}
}

func TestStoredSeedAnswers(t *testing.T) {
	testneeds.Time(t, "it waits for the code of the next half minute")
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{Users: []simcluster.User{{
		Name: "alice", Password: "alice-password", TOTP: mfaSeed, LoginTOTP: true,
	}}}, "ask")
	p := e.sit(t.Context(), client.LoginStart{Remember: true, TOTPSeed: mfaSeed}, "alice-password")
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	if want := []state.LoginKind{state.LoginPassword, state.LoginSettled, state.LoginDone}; !cmp.Equal(want, p.saw()) {
		t.Errorf("steps %v, want %v: the seed answers at once", p.saw(), want)
	}
	if diff := cmp.Diff([]string{"password", "totp"}, e.profile().Stored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	p = e.sit(t.Context(), client.LoginStart{Renew: true}) // it waits for the next code
	if err := p.result(t); err != nil || !cmp.Equal([]state.LoginKind{state.LoginDone}, p.saw()) {
		t.Errorf("second login: %v, steps %v; want nothing asked", err, p.saw())
	}
	f, err := e.Client().ForgetLogin(t.Context(), "", "")
	want := client.Forgotten{Proxy: e.Sim.ProxyAddr(), User: "alice", Stored: []string{"password", "totp"}}
	if diff := cmp.Diff(want, f); err != nil || diff != "" {
		t.Errorf("ForgetLogin: %v (-want +got):\n%s", err, diff)
	}
	if k.Len() != 0 || len(e.profile().Stored) != 0 {
		t.Errorf("stored after it was forgotten: %v", e.profile().Stored)
	}
	e.noSecretsTold("alice-password", mfaSeed)
}

// TestWrongStoredSeed: a seed that is stored without a password is used once, too.
func TestWrongStoredSeed(t *testing.T) {
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{Users: []simcluster.User{{
		Name: "alice", Password: "alice-password", TOTP: mfaSeed, LoginTOTP: true,
	}}}, "ask")
	if err := e.sit(t.Context(), client.LoginStart{TOTPSeed: mfaSeed}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	key, _ := k.Only(t)
	if err := k.Set(t.Context(), key, secrets.NewSecret("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")); err != nil {
		t.Fatal(err)
	}
	err := e.sit(t.Context(), client.LoginStart{Renew: true}, "alice-password").result(t)
	var told *client.Error
	if !errors.As(err, &told) || told.Code != ipc.CodeWrongSecret || !strings.Contains(told.Message, "the next login asks you instead") ||
		!strings.Contains(told.Hint, "berth login --forget") {
		t.Errorf("login: %#v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := e.sit(ctx, client.LoginStart{Renew: true}, "alice-password")
	for asked := state.LoginPassword; asked != state.LoginOTP; {
		asked = p.next(t).Kind
	}
	cancel()
	if err := p.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the login in which a code was asked for: %v", err)
	}
	if n := e.Sim.Counters().FailedLogins; n != 1 {
		t.Errorf("%d logins with the wrong seed, want one: a few lock the account", n)
	}
}

func TestWhatCannotBeRemembered(t *testing.T) {
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{Connectors: okta}, "ask", viaOkta)
	tests := []struct {
		name  string
		start client.LoginStart
		err   error
		says  string
	}{
		{"single_sign_on", client.LoginStart{Remember: true}, nil, "single sign-on"},
		{"no_seed", client.LoginStart{TOTPSeed: "hunter2!"}, nil, "no seed of one-time codes"},
		{"no_keychain", client.LoginStart{Remember: true}, &secrets.NoKeychainError{Err: errors.New("no bus")}, "no keychain"},
		{"locked", client.LoginStart{Remember: true}, &secrets.LockedError{}, "locked"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k.Fail(tt.err)
			p := e.sit(t.Context(), tt.start)
			err := p.result(t)
			var told *client.Error
			if !errors.As(err, &told) || !strings.Contains(told.Message, tt.says) || told.Hint == "" || len(p.saw()) != 0 {
				t.Errorf("login: %#v after %v, want an error that says %q and what to do", err, p.saw(), tt.says)
			}
		})
	}
	if _, err := e.Client().ForgetLogin(t.Context(), "nobody.test:443", ""); err == nil || !strings.Contains(err.Error(), "whose password") {
		t.Errorf("ForgetLogin without a user: %v", err)
	}
}

// TestKeychainIsLeftAlone: it is asked only for what is known to be there.
func TestKeychainIsLeftAlone(t *testing.T) {
	t.Parallel()
	e, k := rememberEnv(t, simcluster.Config{}, "ask")
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	if len(k.Asked()) != 0 {
		t.Errorf("the keychain was asked for %v, and nothing was ever stored", k.Asked())
	}
}

func TestSeedDoesNotPrint(t *testing.T) {
	t.Parallel()
	start := ipc.LoginStart{Proxy: "p:443", User: "alice", Remember: true, TOTPSeed: "GEZDGNBVGY3TQOJQ"}
	var out strings.Builder
	fmt.Fprintf(&out, "%v %+v %#v %s", start, start, start, start)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("login", "start", start)
	if strings.Contains(out.String(), start.TOTPSeed) {
		t.Errorf("the seed was printed: %s", &out)
	}
}
