package login

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/state"
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

// typing is a login of the bench's profile whose prompts a person answers.
type typing struct {
	*typist
	t *testing.T
}

func (b *codesBench) begin(start ipc.LoginStart) typing {
	l := new(Login)
	l.want(start)
	return typing{newTypist(b.t.Context(), b.Logins, Target{Proxy: b.p.ProxyAddr, Home: b.p.Home, Profile: b.p}, tsh.LoginConfig{Terminal: true, User: b.p.User}, l), b.t}
}

// asks has tsh ask for something, and returns what it is answered with: what is stored, or
// else what the person types.
func (t typing) asks(p tsh.Prompt, types string) (answer string, typed bool) {
	t.ask(t.t.Context(), p, func(a string) { answer = a })
	t.waiting.Wait()
	last := t.l.steps[len(t.l.steps)-1]
	if typed = last.event.Kind.Typed(); typed {
		last.answer(types)
	}
	return answer, typed
}

// TestRefusedSecrets: what is stored is used once where a login with it is refused. A
// password that may be right is not forgotten for that, and neither is a seed.
func TestRefusedSecrets(t *testing.T) {
	const password, otherPassword, otherCode = "right-password", "another-password", "000000"
	askPassword := tsh.Prompt{Kind: state.LoginPassword}
	after, together := tsh.Prompt{Kind: state.LoginOTP}, tsh.Prompt{Kind: state.LoginOTP, Together: true}
	refused := &tsh.LoginError{Reason: tsh.ErrBadLogin}
	code := func() string {
		seed, err := secrets.ParseSeed(benchSeed)
		if err != nil {
			t.Fatal(err)
		}
		code, _, err := seed.CodeAt(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return code.Reveal()
	}
	for _, test := range []struct {
		name              string
		password, seed    bool              // what is stored
		given             string            // a seed that the person gives at the first login
		otp               *tsh.Prompt       // nil: no code is asked for
		says              string            // of the first login, which is refused
		asked             []state.LoginKind // of a person at the second login
		types             func() string     // at the second login, which succeeds, in place of what was used before
		typesPassword     string
		left              []secrets.Kind    // in the keychain
		askedAgain        []state.LoginKind // at the third login
		unattended, again bool              // after the first login, and after the second
	}{
		{name: "password_alone", password: true, says: "the stored password has been forgotten", asked: kinds("p"), askedAgain: kinds("p"), typesPassword: otherPassword},
		{name: "code_mistyped", password: true, otp: &after, asked: kinds("o"), left: []secrets.Kind{secrets.Password}, askedAgain: kinds("o"), unattended: true, again: true},
		{
			name: "code_mistyped_together", password: true, otp: &together, says: "the stored password was used, and the next login asks you", asked: kinds("po"),
			typesPassword: password, left: []secrets.Kind{secrets.Password}, askedAgain: kinds("o"), again: true,
		},
		{
			name: "password_wrong_together", password: true, otp: &together, says: "the stored password was used", asked: kinds("po"),
			typesPassword: otherPassword, askedAgain: kinds("po"),
		},
		{name: "given_seed_wrong", password: true, given: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", otp: &after, asked: kinds("o"), left: []secrets.Kind{secrets.Password}, askedAgain: kinds("o"), unattended: true, again: true},
		{
			name: "seed_wrong", seed: true, otp: &after, says: "the stored seed of the one-time codes was used, and the next login asks you", asked: kinds("po"),
			left: []secrets.Kind{secrets.TOTP}, askedAgain: kinds("po"),
		},
		{
			name: "seed_right_password_mistyped", seed: true, otp: &together, says: "the stored seed", asked: kinds("po"), types: code,
			left: []secrets.Kind{secrets.TOTP}, askedAgain: kinds("p"),
		},
		{
			name: "both_stored_seed_wrong", password: true, seed: true, otp: &after, says: "the stored seed", asked: kinds("o"),
			left: []secrets.Kind{secrets.Password, secrets.TOTP}, askedAgain: kinds("o"), unattended: true, again: true,
		},
		{
			name: "both_stored_together", password: true, seed: true, otp: &together, says: "the stored password and the seed of the one-time codes", asked: kinds("po"), types: code,
			typesPassword: password, left: []secrets.Kind{secrets.Password, secrets.TOTP}, again: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			withCodes(t, func(b *codesBench) {
				b.cfg.Sessions.Update(&certwatch.View{Profiles: []*certwatch.Profile{b.p}})
				defer b.cfg.Sessions.Close()
				if test.password {
					(&typist{ls: b.Logins, l: new(Login), proxy: b.p.ProxyAddr, user: b.p.User}).keep(t.Context(), secrets.Password, password)
				}
				if test.seed {
					b.store()
				}
				login := func(when string, start ipc.LoginStart, want []state.LoginKind, types string) typing {
					t.Helper()
					typing := b.begin(start)
					var asked []state.LoginKind
					if _, typed := typing.asks(askPassword, test.typesPassword); typed {
						asked = append(asked, state.LoginPassword)
					}
					if test.otp != nil {
						if _, typed := typing.asks(*test.otp, types); typed {
							asked = append(asked, state.LoginOTP)
						}
					}
					if want != nil && !slices.Equal(asked, want) {
						t.Errorf("%s login asked the person for %q, want %q", when, asked, want)
					}
					return typing
				}
				err := login("the first", ipc.LoginStart{TOTPSeed: test.given}, nil, otherCode).failed(t.Context(), refused)
				if !errors.Is(err, tsh.ErrBadLogin) || !strings.Contains(err.Error(), test.says) || test.says == "" && strings.Contains(err.Error(), "stored") {
					t.Errorf("the first login: %v, want it to say %q", err, test.says)
				}
				if got := b.Unattended(b.p); got != test.unattended {
					t.Errorf("after the first login, the next needs no person: %v", got)
				}
				types := otherCode
				if test.types != nil {
					types = test.types()
				}
				second := login("the second", ipc.LoginStart{}, test.asked, types)
				second.proved = true
				second.succeeded(t.Context())
				third := append(make([]state.LoginKind, 0), test.askedAgain...)
				login("the third", ipc.LoginStart{}, third, otherCode)
				if got := b.Unattended(b.p); got != test.again {
					t.Errorf("after the second login, the next needs no person: %v", got)
				}
				for _, kind := range []secrets.Kind{secrets.Password, secrets.TOTP} {
					noted := slices.Contains(b.cfg.Memory.Stored(b.p.ProxyAddr, b.p.User), string(kind))
					if kept := b.cfg.Keychain.(*secretstest.Keychain).Has(kind); kept != slices.Contains(test.left, kind) || kept != noted {
						t.Errorf("%s: in the keychain %v, noted %v", kind, kept, noted)
					}
				}
			})
		})
	}
}

// kinds are prompts for a password (p) and a one-time code (o).
func kinds(short string) (list []state.LoginKind) {
	for _, c := range short {
		list = append(list, map[rune]state.LoginKind{'p': state.LoginPassword, 'o': state.LoginOTP}[c])
	}
	return list
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
