package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"berth/agent/install"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
)

// carryTime bounds each call that carries something over from the old session to
// the new one: none of them waits for a person.
const carryTime = 15 * time.Second

// stager makes sessions in homes of their own.
type stager struct {
	sessions *sessions.Sessions
	refresh  func() // has the homes read now
	log      *slog.Logger
}

// login logs in into a home of its own and then puts the session into
// the real one, all at once. So a session that is still valid serves until
// there is a new one, and a failed login changes nothing.
func (s *stager) login(ctx context.Context, target Target, cfg tsh.LoginConfig, l *Login) (err error) {
	stage, err := install.NewStaging(ctx, target.Home)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := stage.Close(); closeErr != nil {
			s.log.Warn("staging home not removed", "home", stage.Dir, "err", closeErr)
		}
	}()
	cfg.Home = stage.Dir
	if err := tsh.Login(ctx, cfg); err != nil {
		return err
	}
	// What the session has now, not what it had when the login began.
	if p := target.session(s.sessions).Profile; p != nil && p.Session != nil {
		s.carryOver(ctx, p, cfg, l)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return install.Login(ctx, install.Config{Staging: stage.Dir, Home: target.Home, Logger: s.log})
}

// carryOver gives the session in cfg's home what the profile's present one
// has: its access requests, as far as they still stand, and its selected leaf.
// What cannot be had is said, and is no reason to go without the session.
func (s *stager) carryOver(ctx context.Context, p *certwatch.Profile, cfg tsh.LoginConfig, l *Login) {
	user := cfg.User
	if user == "" {
		user = p.User // single sign-on: tsh says who it is, and it is the same person
	}
	cfg.User = user
	lost := func(what string, err error) {
		s.log.Warn("not carried over to the new session", "what", what, "profile", p.ProxyAddr, "err", err)
		l.prompt(p.ProxyAddr, tsh.Prompt{Kind: state.LoginInfo, Text: fmt.Sprintf("%s did not come along: %v.", what, err)}, nil)
	}
	for _, id := range p.Session.Identity.ActiveRequests {
		if err := within(ctx, carryTime, func(ctx context.Context) error { return tsh.Assume(ctx, cfg, id) }); err != nil {
			lost("the access request "+id, err)
		}
	}
	if leaf := p.Cluster; leaf != "" && p.RootCluster != "" && leaf != p.RootCluster {
		if err := within(ctx, carryTime, func(ctx context.Context) error { return tsh.SelectCluster(ctx, cfg, leaf) }); err != nil {
			lost("the selected cluster "+leaf, err)
		}
	}
}

func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}

// errLoggedInElsewhere is why a login ends whose session came another way.
var errLoggedInElsewhere = errors.New("logged in by other means")

// unlessLoggedIn runs f until it is done, or until a login by hand makes it
// needless.
func (s *stager) unlessLoggedIn(ctx context.Context, target Target, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			moved := s.sessions.Moved.Changed()
			if target.superseded(target.session(s.sessions)) {
				cancel(errLoggedInElsewhere)
			}
			select {
			case <-moved:
			case <-ctx.Done():
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

// superseded reports whether f is valid and expires later than the session that
// the login began with: a reissue keeps the end.
func (t Target) superseded(f sessions.Session) bool {
	if !f.Valid(time.Now()) {
		return false
	}
	return t.Profile == nil || t.Profile.Session == nil || t.Profile.User != f.Profile.User ||
		f.Profile.Session.ValidUntil.After(t.Profile.Session.ValidUntil)
}

// await has the homes read and returns when the new session is there.
func (s *stager) await(ctx context.Context, target Target) error {
	s.refresh()
	var f sessions.Session
	fresh := func() bool {
		return f.Profile != nil && f.Profile.Session != nil && (target.Profile == nil || target.Profile.Session == nil ||
			f.Profile.Session.Fingerprint != target.Profile.Session.Fingerprint)
	}
	usable := s.sessions.Moved.Until(ctx, loginGrace, func() bool {
		f = target.session(s.sessions)
		now := time.Now()
		return fresh() && f.Valid(now) && !now.Before(f.Profile.Session.ValidFrom)
	})
	switch {
	case usable:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case fresh():
		return wrongClock(target, f.Profile, time.Now())
	default:
		return fmt.Errorf("tsh says that it has logged in, but there is no new session in %s", target.Home)
	}
}

// wrongClock says why a session that was made just now is not valid: it can
// only be a clock.
func wrongClock(target Target, p *certwatch.Profile, now time.Time) error {
	why := "the session has ended already: this machine's clock is ahead"
	if now.Before(p.Session.ValidFrom) {
		why = "the session begins in the future: this machine's clock is behind"
	}
	return &ipc.Error{
		Code: ipc.CodeFailed, Message: fmt.Sprintf("logged in to %s, but %s", target.Proxy, why), Hint: "set this machine's clock",
	}
}

// connector is the one to log in with: what was asked for, else the config's,
// else the one of the last login. A home of its own remembers none.
func connector(asked, configured string, p *certwatch.Profile) string {
	switch {
	case asked != "":
		return asked
	case configured != "":
		return configured
	case p != nil && !strings.HasPrefix(p.AuthConnector, "-"):
		return p.AuthConnector
	default:
		return ""
	}
}
