// Package login logs in and out through tsh. A login runs once for each profile,
// however many front ends take part in it; it happens in a home of its own and
// replaces the session in the real one only when it has succeeded. Passwords
// and one-time code seeds that a person wants remembered are in the keychain.
package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/memory"
	"berth/agent/secrets"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
	"berth/internal/survive"
)

// loginGrace is how long a login that has succeeded waits for its session to
// be read back, so that what the caller does next finds it.
const loginGrace = 3 * time.Second

// logoutGrace is the same for a session that has ended.
const logoutGrace = 6 * time.Second

// unlockWait is how long a person who wants a password stored may take to
// unlock the keychain.
const unlockWait = time.Minute

// Keychain holds passwords and seeds of one-time codes; a *secrets.Store.
type Keychain interface {
	Get(ctx context.Context, k secrets.Key) (secrets.Secret, error)
	Set(ctx context.Context, k secrets.Key, s secrets.Secret) error
	Delete(ctx context.Context, k secrets.Key) error
	Unlock(ctx context.Context) error
}

// Config says what logins need.
type Config struct {
	Config   func() *config.Config
	Sessions *sessions.Sessions // its Moved is woken when a login begins or ends
	Memory   *memory.Store
	Keychain Keychain
	Held     func() map[certwatch.ProfileID]bool // the profiles whose login clients are held for
	Refresh  func()                              // has the homes read now
	OnChange func()                              // what the snapshot says of logins has changed
	// OnLogin is called when a login has ended, with how long it took.
	OnLogin func(took time.Duration, err error)
	// Publish publishes a snapshot now: a caller that has its answer finds in the
	// next snapshot what it asked for.
	Publish func()
	Logger  *slog.Logger
}

// Logins logs in and out.
type Logins struct {
	cfg      Config
	log      *slog.Logger
	ctx      context.Context // the agent's: a login outlives the call that starts it
	underway underway
	codes    codes
}

// New returns Logins whose logins end with ctx.
func New(ctx context.Context, cfg Config) *Logins {
	return &Logins{cfg: cfg, log: cfg.Logger, ctx: ctx}
}

// Wait returns when no login runs; their context must be over.
func (ls *Logins) Wait() { ls.underway.wait() }

// Of returns the login of key; nil when none is under way.
func (ls *Logins) Of(key Key) *Login { return ls.underway.of(key) }

// State returns what a snapshot says of the login of a profile.
func (ls *Logins) State(p *certwatch.Profile) state.Login {
	s := ls.underway.state(Key{Home: p.Home, Proxy: p.ProxyAddr})
	if !s.InProgress {
		s = ls.underway.state(Key{Home: p.Home, Proxy: p.ProxyAddr, Codes: true})
	}
	return s
}

// Login logs in through tsh, or joins the login of the same profile that runs
// already. A session that is still valid is left alone, unless it is to be
// renewed.
func (ls *Logins) Login(ctx context.Context, start ipc.LoginStart, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	target, err := ls.targetOf(start.Proxy, start.User)
	if err != nil {
		return err
	}
	policy := ls.cfg.Config().Policy
	if err := policy.AllowsProxy(target.Proxy); err != nil {
		return forbidden(err)
	}
	if start.Remember || start.TOTPSeed != "" {
		if err := policy.Allows(config.FeatureRemember); err != nil {
			return forbidden(err)
		}
		if err := ls.readyToRemember(ctx, start); err != nil {
			return err
		}
		start.Renew = true // what is not typed cannot be remembered
	}
	if f := (sessions.Session{Profile: target.Profile}); f.Valid(time.Now()) {
		if start.User != "" && start.User != target.Profile.User {
			return &ipc.Error{
				Code:    ipc.CodeInvalid,
				Message: fmt.Sprintf("%s is logged in to %s", target.Profile.User, target.Proxy),
				Hint:    sessions.LogoutCommand(target.Proxy, ls.cfg.Sessions.UserAt(target.Proxy, target.Profile.User)),
			}
		}
		// A session that the cluster no longer accepts is none.
		start.Renew = start.Renew || ls.outdated(target.Profile)
		if !start.Renew {
			if asked, err := ls.askCodes(ctx, target, answers, show); err != nil {
				return codesFailed(err, target.Proxy)
			} else if asked {
				ls.cfg.Publish()
				return show(ipc.LoginEvent{
					Kind: state.LoginDone, Proxy: target.Proxy, Deadline: state.Instant(f.Profile.Session.ValidUntil),
					Text: "tunnels through " + target.Proxy + " have their codes",
				})
			}
			return show(ipc.LoginEvent{
				Kind: state.LoginDone, Proxy: target.Proxy, Deadline: state.Instant(f.Profile.Session.ValidUntil),
				Text: fmt.Sprintf("%s is logged in to %s already", target.Profile.User, target.Proxy),
			})
		}
	}
	l := ls.Join(target, start)
	ls.cfg.Publish() // a front end that sees a prompt finds the login in the snapshot
	if err := l.Follow(ctx, answers, show); err != nil {
		return Failed(err, target.Proxy)
	}
	done := ipc.LoginEvent{Kind: state.LoginDone, Proxy: target.Proxy, Text: "logged in to " + target.Proxy}
	if p := target.session(ls.cfg.Sessions).Profile; p != nil && p.Session != nil {
		done.Text = fmt.Sprintf("logged in to %s as %s", target.Proxy, p.User)
		done.Deadline = state.Instant(p.Session.ValidUntil)
	}
	ls.cfg.Publish()
	if ls.heldAt(target.Proxy) {
		if err := ls.codesOfHeld(ctx, target, answers, show); err != nil {
			return codesFailed(err, target.Proxy)
		}
	}
	return show(done)
}

// heldAt reports whether clients are held at a proxy, for whichever session there.
func (ls *Logins) heldAt(proxy string) bool {
	held := ls.cfg.Held()
	return slices.ContainsFunc(ls.cfg.Sessions.All(), func(f sessions.Session) bool {
		return f.Profile.ProxyAddr == proxy && held[f.Profile.ID()]
	})
}

// outdated reports whether a CA was rotated since the profile's login.
func (ls *Logins) outdated(p *certwatch.Profile) bool {
	fault := ls.cfg.Sessions.Of(p.ID()).Fault()
	if fault == nil {
		return false
	}
	_, old := errors.AsType[*cluster.OutdatedError](fault.Err)
	return old
}

// Join starts a login, or joins the one under way.
func (ls *Logins) Join(target Target, start ipc.LoginStart) *Login {
	moved := func() {
		ls.cfg.Sessions.Moved.Wake()
		ls.cfg.OnChange()
	}
	l := ls.underway.join(ls.ctx, target.Key(), func(ctx context.Context, l *Login) error {
		return survive.Do(ls.cfg.Logger, "log in", func() error { return ls.runLogin(ctx, target, start, l) })
	}, moved)
	l.want(start)
	moved()
	return l
}

// Cancel ends the login under way at a proxy, of a user if one is named, for every front
// end that takes part in it.
func (ls *Logins) Cancel(_ context.Context, proxy, user string) error {
	target, err := ls.targetOf(proxy, user)
	if err != nil {
		return err
	}
	keys := []Key{target.Key()}
	for _, s := range ls.cfg.Sessions.All() { // the login may be another home's
		if s.Profile.ProxyAddr == target.Proxy && (user == "" || s.Profile.User == user) {
			keys = append(keys, Key{Home: s.Profile.Home, Proxy: target.Proxy})
		}
	}
	for _, codes := range []bool{false, true} { // while a login is under way, no codes are meant
		for _, key := range keys {
			key.Codes = codes
			if ls.underway.cancel(key) {
				return nil
			}
		}
	}
	return &ipc.Error{Code: ipc.CodeNotFound, Message: "no login is under way at " + target.Proxy, Hint: "berth login " + target.Proxy}
}

// Target is a proxy to log in to or out of.
type Target struct {
	Proxy, Home string
	Profile     *certwatch.Profile // nil: no profile yet
}

// Key names the login.
func (t Target) Key() Key { return Key{Home: t.Home, Proxy: t.Proxy} }

// session returns what there is now of the target's session, or the first one, which a
// login has brought. Another home may have a session at the same proxy.
func (t Target) session(known *sessions.Sessions) sessions.Session {
	if t.Profile != nil {
		return known.Of(t.Profile.ID())
	}
	return known.Find(t.Proxy)
}

// targetOf is Target for a user, if one is named: of several homes at the proxy the one
// with that user's profile.
func (ls *Logins) targetOf(proxy, user string) (Target, error) {
	target, err := ls.Target(proxy)
	if err != nil || target.Profile == nil || user == "" || user == target.Profile.User {
		return target, err
	}
	for _, s := range ls.cfg.Sessions.All() {
		if p := s.Profile; p.ProxyAddr == target.Proxy && p.User == user {
			return Target{Proxy: p.ProxyAddr, Home: p.Home, Profile: p}, nil
		}
	}
	return target, nil
}

// ProfileOf is Target for what takes a profile: that of a user, if one is named.
func (ls *Logins) ProfileOf(proxy, user string) (Target, error) {
	target, err := ls.targetOf(proxy, user)
	switch {
	case err != nil:
		return Target{}, err
	case target.Profile == nil:
		return Target{}, ls.NoProfile(target.Proxy)
	case user != "" && user != target.Profile.User:
		return Target{}, &ipc.Error{
			Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile of %s is at %s", user, target.Proxy), Hint: `see "berth status"`,
		}
	}
	return target, nil
}

// Target finds what a front end means by a proxy: an address, a host, a
// cluster's name, or nothing for the current profile.
func (ls *Logins) Target(proxy string) (Target, error) {
	if err := ipc.CheckProxy(proxy); err != nil {
		return Target{}, err
	}
	var p *certwatch.Profile
	if proxy == "" {
		p = ls.cfg.Sessions.Current().Profile
	} else {
		p = ls.cfg.Sessions.Find(proxy).Profile
	}
	homes, err := sessions.Homes(ls.cfg.Config())
	switch {
	case err != nil:
		return Target{}, err
	case p != nil:
		return Target{Proxy: p.ProxyAddr, Home: p.Home, Profile: p}, nil
	case proxy != "":
		return Target{Proxy: proxy, Home: homes[0]}, nil
	case len(ls.cfg.Config().Profiles) == 1:
		return Target{Proxy: ls.cfg.Config().Profiles[0].Proxy, Home: homes[0]}, nil
	default:
		return Target{}, &ipc.Error{Code: ipc.CodeInvalid, Message: "there is no current profile", Hint: "name the proxy: berth login host:port"}
	}
}

// runLogin is the login itself: it finds out what the proxy wants, runs tsh
// and waits until its session has been read.
func (ls *Logins) runLogin(ctx context.Context, target Target, start ipc.LoginStart, l *Login) (err error) {
	if ls.cfg.OnLogin != nil {
		began := time.Now()
		defer func() { ls.cfg.OnLogin(time.Since(began), err) }()
	}
	cfg, note, err := ls.tshLogin(ctx, target, start)
	if err != nil {
		return err
	}
	l.browser = ls.cfg.Config().BrowserFor(target.Proxy)
	if (start.Remember || start.TOTPSeed != "") && !cfg.Terminal {
		return errNoPassword
	}
	if note != "" {
		ls.log.Warn("tsh may not be right for this cluster", "profile", target.Proxy, "note", note)
		l.prompt(target.Proxy, tsh.Prompt{Kind: state.LoginInfo, Text: note}, nil)
	}
	typist := newTypist(ctx, ls, target, cfg, l)
	cfg.Ask = func(p tsh.Prompt, answer func(string)) { typist.ask(ctx, p, answer) }
	ls.log.Info("login started", "profile", target.Proxy, "user", cfg.User, "home", target.Home)
	stage := &stager{sessions: ls.cfg.Sessions, refresh: ls.cfg.Refresh, log: ls.log}
	err = stage.unlessLoggedIn(ctx, target, func(ctx context.Context) error {
		err := stage.login(ctx, target, cfg, l)
		typist.proved = err == nil
		return err
	})
	typist.waiting.Wait()
	if err != nil {
		ls.noteLock(target, err)
		err = typist.failed(ctx, err)
		ls.log.Info("login failed", "profile", target.Proxy, "err", err)
		return err
	}
	ls.log.Info("logged in", "profile", target.Proxy)
	if err := stage.await(ctx, target); err != nil {
		return err
	}
	typist.succeeded(ctx)
	return nil
}

// noteLock hands the session a lock's message, which the cluster sends to logins
// alone.
func (ls *Logins) noteLock(target Target, err error) {
	var refused *tsh.LoginError
	if target.Profile == nil || !errors.As(err, &refused) || !errors.Is(err, tsh.ErrLocked) {
		return
	}
	if f := ls.cfg.Sessions.Of(target.Profile.ID()); f.Cluster != nil {
		f.Cluster.NoteLock(refused.Lock())
	}
}

// tshLogin returns how to run tsh, and what the user should know about it.
func (ls *Logins) tshLogin(ctx context.Context, target Target, start ipc.LoginStart) (cfg tsh.LoginConfig, note string, err error) {
	path, err := tsh.Find(tsh.Options{ConfigPath: ls.cfg.Config().TSHPath()})
	if missing, ok := errors.AsType[*tsh.NotFoundError](err); ok && !missing.FromConfig && filepath.IsAbs(start.TSH) {
		path, err = tsh.Find(tsh.Options{ConfigPath: start.TSH})
	}
	if err != nil {
		return cfg, "", err
	}
	trust, err := ls.cfg.Config().ProxyTrust(target.Proxy)
	if err != nil {
		return cfg, "", err
	}
	fromConfig, _ := ls.cfg.Config().Profile(target.Proxy)
	cfg = tsh.LoginConfig{
		Path: path, Proxy: target.Proxy, Auth: connector(start.Auth, fromConfig.Auth, target.Profile), TTL: start.TTL,
		Insecure: trust.Insecure, CAFile: trust.CAFile, Terminal: true, Logger: ls.log,
	}
	user := start.User
	if user == "" && target.Profile != nil {
		user = target.Profile.User
	}
	if target.Profile != nil {
		cfg.MFAMode = target.Profile.MFAMode
	}
	ping, err := pingProxy(ctx, target.Proxy, cfg.Auth, trust)
	if err != nil {
		// tsh meets the same trouble, and says what it is.
		ls.log.Debug("proxy not asked how to log in", "profile", target.Proxy, "err", err)
		cfg.User = user
		return cfg, "", nil
	}
	if note, err = checkTSHVersion(ctx, path, ping); err != nil {
		return cfg, "", err
	}
	if cfg.Terminal = !ping.singleSignOn; cfg.Terminal {
		cfg.User = user
	}
	return cfg, note, nil
}

// NoProfile says why berth knows no profile at a proxy: there is none, or the policy
// forbids it. An empty name means the current profile.
func (ls *Logins) NoProfile(proxy string) error {
	if p := ls.cfg.Sessions.FindForbidden(proxy, "").Profile; p != nil {
		if err := ls.cfg.Config().Policy.AllowsProxy(p.ProxyAddr); err != nil {
			return forbidden(err)
		}
	}
	return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile is at %s", proxy), Hint: `see "berth status"`}
}

// Logout has tsh end the session at a proxy, of a user if one is named.
func (ls *Logins) Logout(ctx context.Context, proxy, user string) (string, error) {
	target, err := ls.ProfileOf(proxy, user)
	if err != nil { // a session that the policy forbids can still be ended
		if p := ls.cfg.Sessions.FindForbidden(proxy, user).Profile; p != nil {
			target, err = Target{Proxy: p.ProxyAddr, Home: p.Home, Profile: p}, nil
		}
	}
	if err != nil {
		return "", err
	}
	path, err := tsh.Find(tsh.Options{ConfigPath: ls.cfg.Config().TSHPath()})
	if err != nil {
		failed := &ipc.Error{Code: ipc.CodeFailed, Message: fmt.Sprintf("cannot log out of %s: %v", target.Proxy, err)}
		if missing, ok := errors.AsType[*tsh.NotFoundError](err); ok {
			failed.Hint = missing.Hint()
		}
		return "", failed
	}
	args := []string{"logout", "--proxy=" + target.Proxy, "--user=" + target.Profile.User}
	if _, err := tsh.Command(ctx, path, target.Home, args...).Output(); err != nil {
		return "", err
	}
	ls.log.Info("logged out", "profile", target.Proxy)
	// certwatch takes a moment to believe that a session has gone.
	ls.cfg.Refresh()
	ls.cfg.Sessions.Moved.Until(ctx, logoutGrace, func() bool {
		now := time.Now()
		return !target.session(ls.cfg.Sessions).Valid(now) && !ls.cfg.Sessions.FindForbidden(target.Proxy, target.Profile.User).Valid(now)
	})
	ls.cfg.Publish()
	return target.Proxy, nil
}

// readyToRemember refuses what could not be kept before anything is typed.
func (ls *Logins) readyToRemember(ctx context.Context, start ipc.LoginStart) error {
	if start.TOTPSeed != "" {
		if _, err := secrets.ParseSeed(start.TOTPSeed); err != nil {
			return &ipc.Error{Code: ipc.CodeInvalid, Message: err.Error(), Hint: "nothing was stored; try again: berth login --remember-totp"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, unlockWait)
	defer cancel()
	if err := ls.cfg.Keychain.Unlock(ctx); err != nil {
		return keychainFailed(err)
	}
	return nil
}

// forbidden words what the policy forbids, for the caller.
func forbidden(err error) error {
	e := &ipc.Error{Code: ipc.CodeDenied, Message: err.Error()}
	if policy, ok := errors.AsType[*config.PolicyError](err); ok {
		e.Hint = policy.NextStep()
	}
	return e
}

// keychainFailed words what a keychain refuses, for the caller.
func keychainFailed(err error) error {
	e := &ipc.Error{Code: ipc.CodeFailed, Message: err.Error()}
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		e.Hint = hinter.Hint()
	}
	return e
}

// Unattended reports whether a login of the profile would most likely need no
// person: it asks for a password, which is stored.
func (ls *Logins) Unattended(p *certwatch.Profile) bool {
	set, _ := ls.cfg.Config().Profile(p.ProxyAddr)
	auth := connector("", set.Auth, p)
	return (auth == "" || auth == "local") && ls.cfg.Config().Policy.Allows(config.FeatureRemember) == nil &&
		ls.mayUse(secrets.Key{Proxy: p.ProxyAddr, User: p.User, Kind: secrets.Password})
}

// Forget deletes what the keychain holds for a user at a proxy.
func (ls *Logins) Forget(ctx context.Context, proxy, user string) (ipc.Forgotten, error) {
	target, err := ls.Target(proxy)
	if err != nil {
		return ipc.Forgotten{}, err
	}
	if user == "" && target.Profile != nil {
		user = target.Profile.User
	}
	if user == "" {
		return ipc.Forgotten{}, &ipc.Error{Code: ipc.CodeInvalid, Message: "it is not known whose password is meant", Hint: "name the user: berth login --forget --user USER " + target.Proxy}
	}
	f := ipc.Forgotten{Proxy: target.Proxy, User: user, Stored: append([]string{}, ls.cfg.Memory.Stored(target.Proxy, user)...)}
	for _, kind := range []secrets.Kind{secrets.Password, secrets.TOTP} {
		err := ls.cfg.Keychain.Delete(ctx, secrets.Key{Proxy: target.Proxy, User: user, Kind: kind})
		var missing *secrets.NoKeychainError
		if err != nil && (slices.Contains(f.Stored, string(kind)) || !errors.As(err, &missing)) {
			return ipc.Forgotten{}, keychainFailed(err)
		}
		ls.noteStored(target.Proxy, user, kind, false)
	}
	ls.cfg.Publish()
	return f, nil
}

// noteStored notes what the keychain holds.
func (ls *Logins) noteStored(proxy, user string, kind secrets.Kind, stored bool) {
	if err := ls.cfg.Memory.SetStored(proxy, user, string(kind), stored); err != nil {
		ls.log.Warn("state not saved", "err", err)
	}
}
