package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
)

// loginGrace is how long a login that has succeeded waits for its session to
// be read back, so that what the caller does next finds it.
const loginGrace = 3 * time.Second

// logoutGrace is the same for a session that has ended.
const logoutGrace = 6 * time.Second

// Login logs in through tsh, or joins the login of the same profile that runs
// already. A session that is still valid is left alone, unless it is to be
// renewed.
func (a *Agent) Login(ctx context.Context, start ipc.LoginStart, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	target, err := a.loginTarget(start.Proxy)
	if err != nil {
		return err
	}
	if start.Remember || start.TOTPSeed != "" {
		if err := a.readyToRemember(ctx, start); err != nil {
			return err
		}
		start.Renew = true // what is not typed cannot be remembered
	}
	if f := (sessions.Session{Profile: target.profile}); f.Valid(time.Now()) {
		if start.User != "" && start.User != target.profile.User {
			return &ipc.Error{
				Code:    ipc.CodeInvalid,
				Message: fmt.Sprintf("%s is logged in to %s", target.profile.User, target.proxy),
				Hint:    "berth logout " + target.proxy,
			}
		}
		if !start.Renew {
			return show(ipc.LoginEvent{
				Kind: state.LoginDone, Proxy: target.proxy, Deadline: state.Instant(f.Profile.Session.ValidUntil),
				Text: fmt.Sprintf("%s is logged in to %s already", target.profile.User, target.proxy),
			})
		}
	}
	l := a.joinLogin(target, start)
	if err := l.follow(ctx, answers, show); err != nil {
		return loginFailed(err, target.proxy)
	}
	done := ipc.LoginEvent{Kind: state.LoginDone, Proxy: target.proxy, Text: "logged in to " + target.proxy}
	if p := a.sessions.Find(target.proxy).Profile; p != nil && p.Session != nil {
		done.Text = fmt.Sprintf("logged in to %s as %s", target.proxy, p.User)
		done.Deadline = state.Instant(p.Session.ValidUntil)
	}
	return show(done)
}

// joinLogin starts a login, or joins the one under way.
func (a *Agent) joinLogin(target loginTarget, start ipc.LoginStart) *login {
	l := a.logins.join(a.ctx, target.key(), func(ctx context.Context, l *login) error {
		return a.runLogin(ctx, target, start, l)
	}, a.touch)
	l.want(start)
	a.touch()
	return l
}

// CancelLogin ends the login under way at a proxy, for everybody who takes part
// in it.
func (a *Agent) CancelLogin(_ context.Context, proxy string) error {
	target, err := a.loginTarget(proxy)
	if err != nil {
		return err
	}
	if !a.logins.cancel(target.key()) {
		return &ipc.Error{Code: ipc.CodeNotFound, Message: "no login is under way at " + target.proxy, Hint: "berth login " + target.proxy}
	}
	return nil
}

// loginTarget is a proxy to log in to or out of.
type loginTarget struct {
	proxy, home string
	profile     *certwatch.Profile // nil: no profile yet
}

func (t loginTarget) key() loginKey { return loginKey{home: t.home, proxy: t.proxy} }

// loginTarget finds what a front end means by a proxy: an address, a host, a
// cluster's name, or nothing for the current profile.
func (a *Agent) loginTarget(proxy string) (loginTarget, error) {
	if strings.HasPrefix(proxy, "-") || strings.ContainsFunc(proxy, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/@\?#"'`, r) }) {
		return loginTarget{}, &ipc.Error{Code: ipc.CodeInvalid, Message: fmt.Sprintf("%q is no proxy's address", proxy), Hint: "use host:port"}
	}
	var p *certwatch.Profile
	if proxy == "" {
		p = a.sessions.Current().Profile
	} else {
		p = a.sessions.Find(proxy).Profile
	}
	homes, err := homePaths(a.current())
	switch {
	case err != nil:
		return loginTarget{}, err
	case p != nil:
		return loginTarget{proxy: p.ProxyAddr, home: p.Home, profile: p}, nil
	case proxy != "":
		return loginTarget{proxy: proxy, home: homes[0]}, nil
	case len(a.current().Profiles) == 1:
		return loginTarget{proxy: a.current().Profiles[0].Proxy, home: homes[0]}, nil
	default:
		return loginTarget{}, &ipc.Error{Code: ipc.CodeInvalid, Message: "there is no current profile", Hint: "name the proxy: berth login host:port"}
	}
}

// runLogin is the login itself: it finds out what the proxy wants, runs tsh
// and waits until its session has been read.
func (a *Agent) runLogin(ctx context.Context, target loginTarget, start ipc.LoginStart, l *login) error {
	cfg, note, err := a.tshLogin(ctx, target, start)
	if err != nil {
		return err
	}
	l.browser = a.current().BrowserFor(target.proxy)
	if (start.Remember || start.TOTPSeed != "") && !cfg.Terminal {
		return errNoPassword
	}
	if note != "" {
		a.log.Warn("tsh may not be right for this cluster", "profile", target.proxy, "note", note)
		l.prompt(target.proxy, tsh.Prompt{Kind: state.LoginInfo, Text: note}, nil)
	}
	typist := a.newTypist(ctx, target, cfg, l)
	cfg.Ask = func(p tsh.Prompt, answer func(string)) { typist.ask(ctx, p, answer) }
	a.log.Info("login started", "profile", target.proxy, "user", cfg.User, "home", target.home)
	err = a.unlessLoggedIn(ctx, target, func(ctx context.Context) error {
		err := a.stagedLogin(ctx, target, cfg, l)
		typist.proved = err == nil
		return err
	})
	typist.waiting.Wait()
	if err != nil {
		err = typist.failed(ctx, err)
		a.log.Info("login failed", "profile", target.proxy, "err", err)
		return err
	}
	a.log.Info("logged in", "profile", target.proxy)
	if err := a.awaitSession(ctx, target); err != nil {
		return err
	}
	typist.succeeded(ctx)
	return nil
}

// tshLogin is what tsh is run with, and what the person should know of it.
func (a *Agent) tshLogin(ctx context.Context, target loginTarget, start ipc.LoginStart) (cfg tsh.LoginConfig, note string, err error) {
	path, err := tsh.Find(tsh.Options{ConfigPath: a.current().TSHPath()})
	if err != nil {
		return cfg, "", err
	}
	set, err := a.current().ProxyTrust(target.proxy)
	if err != nil {
		return cfg, "", err
	}
	fromConfig, _ := a.current().Profile(target.proxy)
	cfg = tsh.LoginConfig{
		Path: path, Proxy: target.proxy, Auth: connector(start.Auth, fromConfig.Auth, target.profile), TTL: start.TTL,
		Insecure: set.Insecure, CAFile: set.CAFile, Terminal: true, Logger: a.log,
	}
	user := start.User
	if user == "" && target.profile != nil {
		user = target.profile.User
	}
	if target.profile != nil {
		cfg.MFAMode = target.profile.MFAMode
	}
	ping, err := pingProxy(ctx, target.proxy, cfg.Auth, set)
	if err != nil {
		// tsh meets the same trouble, and says what it is.
		a.log.Debug("proxy not asked how to log in", "profile", target.proxy, "err", err)
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

// Logout has tsh end the session at a proxy.
func (a *Agent) Logout(ctx context.Context, proxy string) (string, error) {
	target, err := a.loginTarget(proxy)
	if err != nil {
		return "", err
	}
	if target.profile == nil {
		return "", &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile is at %s", target.proxy), Hint: `see "berth status"`}
	}
	path, err := tsh.Find(tsh.Options{ConfigPath: a.current().TSHPath()})
	if err != nil {
		told := &ipc.Error{Code: ipc.CodeFailed, Message: fmt.Sprintf("cannot log out of %s: %v", target.proxy, err)}
		if missing, ok := errors.AsType[*tsh.NotFoundError](err); ok {
			told.Hint = missing.Hint()
		}
		return "", told
	}
	args := []string{"logout", "--proxy=" + target.proxy, "--user=" + target.profile.User}
	if _, err := tsh.Command(ctx, path, target.home, args...).Output(); err != nil {
		return "", err
	}
	a.log.Info("logged out", "profile", target.proxy)
	// certwatch takes a moment to believe that a session has gone.
	a.homes.Refresh()
	a.sessions.Moved.Until(ctx, logoutGrace, func() bool { return !a.sessions.Find(target.proxy).Valid(time.Now()) })
	return target.proxy, nil
}
