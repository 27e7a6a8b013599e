package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/agent/tsh"
)

// typist answers what tsh asks during one login, where the keychain holds the
// answer, and notes what people type who want it remembered. What is stored is
// tried once.
type typist struct {
	ls          *Logins
	l           *Login
	target      Target
	proxy, user string
	codes       Key            // of the codes that tunnels take, from the same seed
	waiting     sync.WaitGroup // for codes

	mu       sync.Mutex                      // guards what follows
	stored   map[secrets.Kind]secrets.Secret // not tried yet
	doubted  map[secrets.Kind]secrets.Secret // stored, and not used because a login was refused
	tried    []secrets.Kind
	coded    bool   // a code was asked for
	together bool   // tsh sends it with the password
	password string // as typed
	seedGave bool   // the code that was typed is the doubted seed's
	proved   bool   // tsh has logged in with what was typed
}

func (t *typist) key(kind secrets.Kind) secrets.Key {
	return secrets.Key{Proxy: t.proxy, User: t.user, Kind: kind}
}

func (t *typist) inform(text string) {
	t.l.prompt(t.proxy, tsh.Prompt{Kind: state.LoginInfo, Text: text}, nil)
}

func secretName(kind secrets.Kind) string {
	if kind == secrets.TOTP {
		return "seed of the one-time codes"
	}
	return "password"
}

// ask takes a prompt of tsh: it answers it, or passes it on to people.
func (t *typist) ask(ctx context.Context, p tsh.Prompt, answer func(string)) {
	defer t.ls.cfg.OnChange()
	switch p.Kind {
	case state.LoginPassword:
		if password, ok := t.take(secrets.Password); ok {
			t.inform("The stored password is used.")
			answer(password.Reveal())
			return
		}
		pass := answer
		answer = func(typed string) {
			t.mu.Lock()
			t.password = typed
			t.mu.Unlock()
			pass(typed)
		}
	case state.LoginOTP:
		t.mu.Lock()
		t.coded, t.together = true, p.Together
		t.mu.Unlock()
		if seed, ok := t.takeSeed(); ok {
			t.inform("A code from the stored seed is used.")
			t.waiting.Go(func() {
				if code, err := t.ls.nextCode(ctx, t.codes, seed); err == nil {
					answer(code)
				}
			})
			return
		}
		pass := answer
		answer = func(typed string) {
			t.mu.Lock()
			seed, err := secrets.ParseSeed(t.doubted[secrets.TOTP].Reveal())
			t.seedGave = err == nil && seed.Gives(strings.TrimSpace(typed), time.Now())
			t.mu.Unlock()
			pass(typed)
		}
	case state.LoginPIN, state.LoginURL, state.LoginTap, state.LoginInfo, state.LoginSettled, state.LoginDone:
	}
	t.l.prompt(t.proxy, p, answer)
}

// take returns what is stored, once. A person who wants a new password
// remembered is asked for it.
func (t *typist) take(kind secrets.Kind) (secrets.Secret, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	secret, ok := t.stored[kind]
	if !ok || kind == secrets.Password && t.l.wants().Remember {
		return secrets.Secret{}, false
	}
	delete(t.stored, kind)
	t.tried = append(t.tried, kind)
	return secret, true
}

// takeSeed returns the seed that a person has just given, else the stored one.
func (t *typist) takeSeed() (secrets.Seed, bool) {
	text := t.l.takeSeed()
	if text == "" {
		secret, ok := t.take(secrets.TOTP)
		if !ok {
			return secrets.Seed{}, false
		}
		text = secret.Reveal()
	}
	seed, err := secrets.ParseSeed(text)
	return seed, err == nil
}

// wrongStoredError is a login that failed with what was stored.
type wrongStoredError struct {
	what    string
	doubted bool // it may be something else that is wrong: it was not forgotten
	err     error
}

func (e *wrongStoredError) Error() string {
	if e.doubted {
		return fmt.Sprintf("%v; the stored %s was used, and the next login asks you instead", e.err, e.what)
	}
	return fmt.Sprintf("%v; the stored %s has been forgotten", e.err, e.what)
}

func (e *wrongStoredError) Unwrap() error { return e.err }

// failed forgets a stored password that is wrong, and doubts what was stored where
// something else may be: none is tried again, because a few more times, and the account
// would be locked.
func (t *typist) failed(ctx context.Context, err error) error {
	t.mu.Lock()
	tried, coded, together := slices.Clone(t.tried), t.coded, t.together
	t.mu.Unlock()
	if coded && !together { // the cluster has taken the password
		tried = slices.DeleteFunc(tried, func(kind secrets.Kind) bool { return kind == secrets.Password })
	}
	if !errors.Is(err, tsh.ErrBadLogin) || len(tried) == 0 {
		return err
	}
	names := make([]string, 0, len(tried))
	for _, kind := range tried {
		if coded {
			t.ls.codes.doubt(t.key(kind), true)
		} else {
			t.forget(ctx, kind)
		}
		names = append(names, secretName(kind))
	}
	return &wrongStoredError{what: strings.Join(names, " and the "), doubted: coded, err: err}
}

// forget deletes a stored secret that is wrong.
func (t *typist) forget(ctx context.Context, kind secrets.Kind) {
	t.ls.noteStored(t.proxy, t.user, kind, false) // first: without it the keychain is not asked
	if err := t.ls.cfg.Keychain.Delete(context.WithoutCancel(ctx), t.key(kind)); err != nil {
		t.ls.log.Warn("wrong secret left in the keychain, and not used any more", "profile", t.proxy, "kind", kind, "err", err)
	}
	t.ls.log.Info("stored secret forgotten: it is wrong", "profile", t.proxy, "user", t.user)
}

// succeeded keeps what was typed, for those who wanted that, and settles what was doubted.
func (t *typist) succeeded(ctx context.Context) {
	t.mu.Lock()
	password, proved, seedGave := t.password, t.proved, t.seedGave
	t.mu.Unlock()
	p := t.target.session(t.ls.cfg.Sessions).Profile
	wants := t.l.wants()
	if !proved || p == nil {
		return
	}
	t.proxy, t.user = p.ProxyAddr, p.User // as they are looked up
	stored, doubted := t.doubted[secrets.Password]
	switch {
	case password == "":
	case wants.Remember:
		if t.keep(ctx, secrets.Password, password) {
			t.ls.codes.doubt(t.key(secrets.Password), false)
		}
	case doubted && stored.Reveal() == password:
		t.ls.codes.doubt(t.key(secrets.Password), false)
	case doubted:
		t.forget(ctx, secrets.Password)
		t.inform("The stored password is another one, and has been forgotten.")
	}
	if wants.TOTPSeed != "" && t.keep(ctx, secrets.TOTP, wants.TOTPSeed) || wants.TOTPSeed == "" && seedGave {
		t.ls.seedStored(p)
	}
}

// keep stores what was typed, and reports whether that succeeded.
func (t *typist) keep(ctx context.Context, kind secrets.Kind, text string) bool {
	if err := t.store(ctx, kind, secrets.NewSecret(text)); err != nil {
		t.ls.log.Warn("secret not stored", "profile", t.proxy, "kind", kind, "err", err)
		t.inform(fmt.Sprintf("The %s was not stored: %v.", secretName(kind), err))
		return false
	}
	t.inform(fmt.Sprintf("The %s is stored in the keychain.", secretName(kind)))
	return true
}

// store notes that the keychain holds a secret, and then has it hold it: what is not
// noted is never asked for.
func (t *typist) store(ctx context.Context, kind secrets.Kind, secret secrets.Secret) error {
	had := slices.Contains(t.ls.cfg.Memory.Stored(t.proxy, t.user), string(kind))
	err := t.ls.cfg.Memory.SetStored(t.proxy, t.user, string(kind), true)
	if errors.Is(err, memory.ErrPassedOn) {
		return err
	}
	if err != nil { // it is written later
		t.ls.log.Warn("state not saved", "err", err)
	}
	if err := t.ls.cfg.Keychain.Set(ctx, t.key(kind), secret); err != nil {
		if !had {
			t.ls.noteStored(t.proxy, t.user, kind, false)
		}
		return err
	}
	return nil
}

// newTypist reads what the keychain holds for the login. A keychain that is locked or
// gone holds nothing: the person is asked.
func newTypist(ctx context.Context, ls *Logins, target Target, cfg tsh.LoginConfig, l *Login) *typist {
	t := &typist{
		ls: ls, l: l, target: target, proxy: target.Proxy, user: cfg.User,
		stored: make(map[secrets.Kind]secrets.Secret), doubted: make(map[secrets.Kind]secrets.Secret),
	}
	t.codes = target.Key()
	t.codes.Codes = true
	if !cfg.Terminal || cfg.User == "" || ls.cfg.Config().Policy.Allows(config.FeatureRemember) != nil {
		return t
	}
	for _, kind := range ls.cfg.Memory.Stored(target.Proxy, cfg.User) {
		secret, err := ls.cfg.Keychain.Get(ctx, t.key(secrets.Kind(kind)))
		switch {
		case err == nil && ls.codes.doubts(t.key(secrets.Kind(kind))):
			t.doubted[secrets.Kind(kind)] = secret
			t.inform(fmt.Sprintf("The stored %s may be wrong and is not used.", secretName(secrets.Kind(kind))))
		case err == nil:
			t.stored[secrets.Kind(kind)] = secret
		case errors.Is(err, secrets.ErrNotStored):
			ls.noteStored(target.Proxy, cfg.User, secrets.Kind(kind), false)
		default:
			ls.log.Warn("stored secret not read", "profile", target.Proxy, "kind", kind, "err", err)
			t.inform(fmt.Sprintf("The stored %s cannot be used: %v.", secretName(secrets.Kind(kind)), err))
		}
	}
	return t
}
