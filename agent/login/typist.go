package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

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
	tried    []secrets.Kind
	password string // as typed
	proved   bool   // tsh has logged in with it
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
		if seed, ok := t.takeSeed(); ok {
			t.inform("A code from the stored seed is used.")
			t.waiting.Go(func() {
				if code, err := t.ls.nextCode(ctx, t.codes, seed); err == nil {
					answer(code)
				}
			})
			return
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
	what string
	err  error
}

func (e *wrongStoredError) Error() string {
	return fmt.Sprintf("%v; the stored %s has been forgotten", e.err, e.what)
}

func (e *wrongStoredError) Unwrap() error { return e.err }

// failed forgets what was stored and is wrong, so that it is never tried again:
// a few more times, and the account would be locked. A seed is kept when the
// password was typed: that is likelier to be wrong.
func (t *typist) failed(ctx context.Context, err error) error {
	t.mu.Lock()
	tried := slices.Clone(t.tried)
	t.mu.Unlock()
	if !errors.Is(err, tsh.ErrBadLogin) || !slices.Contains(tried, secrets.Password) {
		return err
	}
	names := make([]string, 0, len(tried))
	for _, kind := range tried {
		t.ls.noteStored(t.proxy, t.user, kind, false) // first: without it the keychain is not asked
		if err := t.ls.cfg.Keychain.Delete(context.WithoutCancel(ctx), t.key(kind)); err != nil {
			t.ls.log.Warn("wrong secret left in the keychain, and not used any more", "profile", t.proxy, "kind", kind, "err", err)
		}
		names = append(names, secretName(kind))
	}
	t.ls.log.Info("stored secret forgotten: it is wrong", "profile", t.proxy, "user", t.user)
	return &wrongStoredError{what: strings.Join(names, " and the "), err: err}
}

// succeeded keeps what was typed, for those who wanted that.
func (t *typist) succeeded(ctx context.Context) {
	t.mu.Lock()
	password, proved := t.password, t.proved
	t.mu.Unlock()
	p := t.target.session(t.ls.cfg.Sessions).Profile
	wants := t.l.wants()
	if !proved || p == nil {
		return
	}
	t.proxy, t.user = p.ProxyAddr, p.User // as they are looked up
	if wants.Remember && password != "" {
		t.keep(ctx, secrets.Password, password)
	}
	if wants.TOTPSeed != "" && t.keep(ctx, secrets.TOTP, wants.TOTPSeed) {
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
	t := &typist{ls: ls, l: l, target: target, proxy: target.Proxy, user: cfg.User, stored: make(map[secrets.Kind]secrets.Secret)}
	t.codes = target.Key()
	t.codes.Codes = true
	if !cfg.Terminal || cfg.User == "" || ls.cfg.Config().Policy.Allows(config.FeatureRemember) != nil {
		return t
	}
	for _, kind := range ls.cfg.Memory.Stored(target.Proxy, cfg.User) {
		secret, err := ls.cfg.Keychain.Get(ctx, t.key(secrets.Kind(kind)))
		switch {
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
