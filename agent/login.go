package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
)

// loginGrace is how long a login that has succeeded waits for its session to
// be read back, so that what the caller does next finds it.
const loginGrace = 3 * time.Second

// errLoginLeft is why a login ends that nobody takes part in any more.
var errLoginLeft = errors.New("login cancelled")

// logins are the logins under way: one for each profile.
type logins struct {
	wg sync.WaitGroup // one for each login

	mu sync.Mutex // guards by
	by map[loginKey]*login
}

// wait returns when no login runs; their context must be over.
func (ls *logins) wait() { ls.wg.Wait() }

// loginKey names what a login is for.
type loginKey struct{ home, proxy string }

// login is one run of "tsh login" and everybody who takes part in it.
type login struct {
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when tsh is gone

	mu      sync.Mutex // guards everything below
	people  int
	steps   []loginStep
	url     string
	over    bool
	err     error
	changed chan struct{} // closed and replaced at every change of the above
}

// loginStep is an event that people who join late get too, unless it has been
// settled.
type loginStep struct {
	event   ipc.LoginEvent
	answer  func(string) // nil: asks for nothing
	settled bool
}

// join returns the login of key, started with run when there is none.
func (ls *logins) join(ctx context.Context, key loginKey, run func(context.Context, *login) error, done func()) *login {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	before := ls.by[key]
	if before != nil && before.enter() {
		return before
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l := &login{cancel: cancel, people: 1, ended: make(chan struct{}), changed: make(chan struct{})}
	if ls.by == nil {
		ls.by = make(map[loginKey]*login)
	}
	ls.by[key] = l
	ls.wg.Go(func() {
		defer close(l.ended)
		if before != nil {
			<-before.ended // everybody has left it, and its tsh is about to end
		}
		err := run(ctx, l)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		cancel(nil)
		ls.mu.Lock()
		if ls.by[key] == l {
			delete(ls.by, key)
		}
		ls.mu.Unlock()
		l.finish(err)
		done()
	})
	return l
}

// state is the login of key as a snapshot has it.
func (ls *logins) state(key loginKey) state.Login {
	ls.mu.Lock()
	l := ls.by[key]
	ls.mu.Unlock()
	if l == nil {
		return state.Login{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return state.Login{InProgress: true, URL: l.url}
}

// enter counts one more who takes part; false means that it is too late.
func (l *login) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.people == 0 {
		return false
	}
	l.people++
	return true
}

// leave counts one less; the last one's leaving ends the login.
func (l *login) leave() {
	l.mu.Lock()
	l.people--
	last := l.people == 0
	l.mu.Unlock()
	if last {
		l.cancel(errLoginLeft)
	}
}

func (l *login) changedLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *login) finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.err = true, err
	l.changedLocked()
}

// prompt takes what tsh asks. What it asked before is settled then.
func (l *login) prompt(proxy string, p tsh.Prompt, answer func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Kind != tsh.PromptInfo {
		for i := range l.steps {
			l.settleLocked(i)
		}
	}
	if p.Kind != tsh.PromptPassword && p.Kind != tsh.PromptOTP {
		answer = nil
	}
	l.steps = append(l.steps, loginStep{answer: answer, event: ipc.LoginEvent{
		ID: int64(len(l.steps) + 1), Kind: ipc.LoginKind(p.Kind), Text: p.Text, URL: p.URL, Proxy: proxy, Deadline: utc(p.Deadline),
	}})
	l.url = p.URL
	l.changedLocked()
}

// settleLocked says that a step wants no answer any more.
func (l *login) settleLocked(i int) {
	if s := &l.steps[i]; s.answer != nil && !s.settled {
		s.settled = true
		l.steps = append(l.steps, loginStep{event: ipc.LoginEvent{ID: s.event.ID, Kind: ipc.LoginSettled, Proxy: s.event.Proxy}})
	}
}

// answered passes on what somebody typed: the first answer counts.
func (l *login) answered(a ipc.LoginAnswer) {
	if a.Cancel {
		l.cancel(errLoginLeft)
		return
	}
	l.mu.Lock()
	i := slices.IndexFunc(l.steps, func(s loginStep) bool { return s.event.ID == a.ID && s.answer != nil && !s.settled })
	var answer func(string)
	if i >= 0 {
		answer = l.steps[i].answer
		l.settleLocked(i)
		l.changedLocked()
	}
	l.mu.Unlock()
	if answer != nil {
		answer(a.Secret)
	}
}

// follow takes part in the login until it is over or ctx ends.
func (l *login) follow(ctx context.Context, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	defer l.leave()
	for next, joined := 0, true; ; joined = false {
		l.mu.Lock()
		fresh := slices.Clone(l.steps[next:])
		next = len(l.steps)
		over, err, changed := l.over, l.err, l.changed
		l.mu.Unlock()
		for _, s := range fresh {
			if joined && (s.settled || s.event.Kind == ipc.LoginSettled) {
				continue // over before this one came
			}
			if err := show(s.event); err != nil {
				return err
			}
		}
		if over {
			return err
		}
		select {
		case <-changed:
		case a := <-answers:
			l.answered(a)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Login logs in through tsh, or joins the login of the same profile that runs
// already. A session that is still valid is left alone.
func (a *Agent) Login(ctx context.Context, start ipc.LoginStart, answers <-chan ipc.LoginAnswer, show func(ipc.LoginEvent) error) error {
	target, err := a.loginTarget(start.Proxy)
	if err != nil {
		return err
	}
	if f := (found{profile: target.profile}); f.valid(time.Now()) {
		if start.User != "" && start.User != target.profile.User {
			return &ipc.Error{
				Code:    ipc.CodeInvalid,
				Message: fmt.Sprintf("%s is logged in to %s", target.profile.User, target.proxy),
				Hint:    "berth logout " + target.proxy,
			}
		}
		return show(ipc.LoginEvent{
			Kind: ipc.LoginDone, Proxy: target.proxy, Deadline: utc(f.profile.Session.ValidUntil),
			Text: fmt.Sprintf("%s is logged in to %s already", target.profile.User, target.proxy),
		})
	}
	l := a.logins.join(a.ctx, target.key(), func(ctx context.Context, l *login) error {
		return a.runLogin(ctx, target, start, l)
	}, a.touch)
	a.touch()
	if err := l.follow(ctx, answers, show); err != nil {
		return loginFailed(err, target.proxy)
	}
	done := ipc.LoginEvent{Kind: ipc.LoginDone, Proxy: target.proxy, Text: "logged in to " + target.proxy}
	if p := a.profileAt(target.proxy); p != nil && p.Session != nil {
		done.Text = fmt.Sprintf("logged in to %s as %s", target.proxy, p.User)
		done.Deadline = utc(p.Session.ValidUntil)
	}
	return show(done)
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
		p = a.sessions.current().profile
	} else {
		p = a.profileAt(proxy)
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

// profileAt returns the profile of a proxy, given as its address, its host or
// its cluster's name; nil when there is none.
func (a *Agent) profileAt(proxy string) *certwatch.Profile {
	return profileIn(a.sessions.profiles(), proxy)
}

func profileIn(profiles []*certwatch.Profile, proxy string) *certwatch.Profile {
	for _, same := range []func(*certwatch.Profile) bool{
		func(p *certwatch.Profile) bool { return p.ProxyAddr == proxy },
		func(p *certwatch.Profile) bool { return p.Name == proxy || p.ProxyAddr == proxy+":443" },
		func(p *certwatch.Profile) bool { return p.RootCluster == proxy },
	} {
		if i := slices.IndexFunc(profiles, same); i >= 0 {
			return profiles[i]
		}
	}
	return nil
}

// runLogin is the login itself: it finds out what the proxy wants, runs tsh
// and waits until its session has been read.
func (a *Agent) runLogin(ctx context.Context, target loginTarget, start ipc.LoginStart, l *login) error {
	cfg, err := a.tshLogin(ctx, target, start)
	if err != nil {
		return err
	}
	cfg.Ask = func(p tsh.Prompt, answer func(string)) {
		l.prompt(target.proxy, p, answer)
		a.touch()
	}
	a.log.Info("login started", "profile", target.proxy, "user", cfg.User, "home", target.home)
	err = a.unlessLoggedIn(ctx, target, func(ctx context.Context) error { return tsh.Login(ctx, cfg) })
	if err != nil {
		a.log.Info("login failed", "profile", target.proxy, "err", err)
		return err
	}
	a.log.Info("logged in", "profile", target.proxy)
	return a.awaitSession(ctx, target)
}

// errLoggedInElsewhere is why a login is ended whose session came by another
// way.
var errLoggedInElsewhere = errors.New("logged in by other means")

// unlessLoggedIn runs f until it is done or somebody has logged in by hand
// meanwhile, which is as good.
func (a *Agent) unlessLoggedIn(ctx context.Context, target loginTarget, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	wake, unsubscribe := a.homes.Subscribe()
	defer unsubscribe()
	watching.Go(func() {
		for {
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
			if f := (found{profile: profileIn(a.homes.View().Profiles, target.proxy)}); f.valid(time.Now()) {
				cancel(errLoggedInElsewhere)
			}
		}
	})
	err := f(ctx)
	elsewhere := errors.Is(context.Cause(ctx), errLoggedInElsewhere)
	cancel(nil)
	watching.Wait()
	if elsewhere {
		return nil
	}
	return err
}

// awaitSession has the homes read and returns when the new session is there.
func (a *Agent) awaitSession(ctx context.Context, target loginTarget) error {
	for end := time.Now().Add(loginGrace); ; {
		a.homes.Refresh()
		if f := (found{profile: a.profileAt(target.proxy)}); f.valid(time.Now()) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("tsh says that it has logged in, but there is no session in %s", target.home)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// tshLogin is what tsh is run with.
func (a *Agent) tshLogin(ctx context.Context, target loginTarget, start ipc.LoginStart) (tsh.LoginConfig, error) {
	path, err := tsh.Find(tsh.Options{ConfigPath: a.current().TSHPath()})
	if err != nil {
		return tsh.LoginConfig{}, err
	}
	set, err := a.proxySettings(target.proxy)
	if err != nil {
		return tsh.LoginConfig{}, err
	}
	fromConfig, _ := a.current().Profile(target.proxy)
	cfg := tsh.LoginConfig{
		Path: path, Home: target.home, Proxy: target.proxy, Auth: cmp.Or(start.Auth, fromConfig.Auth), TTL: start.TTL,
		Insecure: set.insecure, CAFile: set.caFile, Terminal: true, Logger: a.log,
	}
	user := start.User
	if user == "" && target.profile != nil {
		user = target.profile.User
	}
	ping, err := pingProxy(ctx, target.proxy, cfg.Auth, set)
	if err != nil {
		// tsh meets the same trouble, and says what it is.
		a.log.Debug("proxy not asked how to log in", "profile", target.proxy, "err", err)
		cfg.User = user
		return cfg, nil
	}
	if err := checkTSHVersion(ctx, path, ping.minClient); err != nil {
		return tsh.LoginConfig{}, err
	}
	if cfg.Terminal = !ping.singleSignOn; cfg.Terminal {
		cfg.User = user
	}
	return cfg, nil
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
		return "", loginFailed(err, target.proxy)
	}
	args := []string{"logout", "--proxy=" + target.proxy, "--user=" + target.profile.User}
	if _, err := tsh.Command(ctx, path, target.home, args...).Output(); err != nil {
		return "", err
	}
	a.log.Info("logged out", "profile", target.proxy)
	a.homes.Refresh()
	return target.proxy, nil
}
