package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/renew"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
	"berth/internal/browser"
)

// renewals is what the agent remembers of each profile's session and its end.
// What to do is for package renew to decide; this does it.
type renewals struct {
	mu sync.Mutex // guards by
	by map[certwatch.ProfileID]*episode
}

// episode is one session's end, from its first warning on. A reissue, which
// keeps the end, does not begin a new one.
type episode struct {
	until    time.Time
	heard    renew.Level
	last     renew.Attempt
	running  bool // a login that nobody asked for
	decision renew.Decision
	problem  *state.Problem
	// renewedAt is when an unasked login brought this session.
	renewedAt time.Time
}

// decideRenewals looks at every profile's session and acts: it starts logins
// and notes what the person is to be told. It is called ahead of every
// snapshot, so what the snapshot says is what was decided.
func (a *Agent) decideRenewals(now time.Time) {
	view := a.sessions.View()
	cfg := a.current()
	held := a.heldClients()
	a.renewals.mu.Lock()
	defer a.renewals.mu.Unlock()
	fresh := make(map[certwatch.ProfileID]*episode, len(view.Profiles))
	for _, p := range view.Profiles {
		e := a.renewals.by[p.ID()]
		var until time.Time
		if p.Session != nil {
			until = p.Session.ValidUntil
		}
		if e == nil || !e.until.Equal(until) {
			e = &episode{until: until, running: e != nil && e.running}
		}
		fresh[p.ID()] = e
		before := e.decision
		e.decision = renew.Decide(a.renewInput(p, e, cfg, held[p.ProxyAddr], now))
		if e.decision.Action != before.Action || e.decision.Level != before.Level {
			a.log.Info("renewal", "profile", p.ProxyAddr, "action", e.decision.Action.String(), "warning", e.decision.Level.String(),
				"why", e.decision.Why)
		}
		if e.decision.Action == renew.Login && !e.running {
			e.running = true
			a.renewUnasked(p, e)
		}
	}
	a.renewals.by = fresh
}

func (a *Agent) renewInput(p *certwatch.Profile, e *episode, cfg *config.Config, waiting bool, now time.Time) renew.Input {
	set, _ := cfg.Profile(p.ProxyAddr)
	in := renew.Input{
		Now: now, Mode: set.RenewMode(), Before: set.RenewBefore(), Quiet: cfg.Notifications.QuietAt(now),
		Waiting: waiting, WokeAt: a.system.lastWake(), Heard: e.heard, Last: e.last,
		Silent:  a.silent(p),
		Running: a.logins.state(loginKey{home: p.Home, proxy: p.ProxyAddr}).InProgress,
	}
	if p.Session != nil {
		in.ValidFrom, in.ValidUntil = p.Session.ValidFrom, p.Session.ValidUntil
	}
	// The desktop is asked only when the answer counts.
	in.Away = in.Mode == state.RenewAuto && nearEnd(in) && a.away()
	return in
}

// heldClients says at which proxies clients, or assumes, wait for a login.
func (a *Agent) heldClients() map[string]bool {
	held := a.tunnels.Held()
	for _, p := range a.sessions.View().Profiles {
		held[p.ProxyAddr] = held[p.ProxyAddr] || len(a.held.at(p.ProxyAddr)) > 0
	}
	return held
}

// renewal is what a snapshot says of a profile's renewal.
func (a *Agent) renewal(p *certwatch.Profile, cfg *config.Config) state.Renewal {
	set, _ := cfg.Profile(p.ProxyAddr)
	r := state.Renewal{Mode: set.RenewMode()}
	a.renewals.mu.Lock()
	defer a.renewals.mu.Unlock()
	e := a.renewals.by[p.ID()]
	if e == nil {
		return r
	}
	if e.decision.Action == renew.Warn {
		r.Warning = state.RenewalWarning(e.decision.Level.String())
	}
	if e.decision.Action != renew.Stop {
		r.At = state.Instant(e.decision.At)
	}
	r.RenewedAt = state.Instant(e.renewedAt)
	if e.problem != nil {
		r.Problem = new(*e.problem)
	}
	return r
}

// SnoozeRenewal puts aside what is said now about a session's end.
func (a *Agent) SnoozeRenewal(_ context.Context, proxy string) (ipc.Snoozed, error) {
	target, err := a.loginTarget(proxy)
	if err != nil {
		return ipc.Snoozed{}, err
	}
	if target.profile == nil {
		return ipc.Snoozed{}, &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile is at %s", target.proxy), Hint: `see "berth status"`}
	}
	a.decideRenewals(time.Now())
	a.renewals.mu.Lock()
	e := a.renewals.by[target.profile.ID()]
	snoozed := ipc.Snoozed{Proxy: target.proxy}
	if e != nil {
		if e.decision.Action == renew.Warn {
			e.heard = e.decision.Level
		}
		snoozed.Until = state.Instant(e.decision.At)
	}
	a.renewals.mu.Unlock()
	a.touch()
	return snoozed, nil
}

// renewUnasked starts the login of a session near its end, or joins the one
// that runs, and notes how it ends. It is called with renewals.mu held.
func (a *Agent) renewUnasked(p *certwatch.Profile, e *episode) {
	target := loginTarget{proxy: p.ProxyAddr, home: p.Home, profile: p}
	a.unasked.Go(func() {
		shown := false
		l := a.joinLogin(target, ipc.LoginStart{Proxy: p.ProxyAddr, Renew: true})
		err := l.follow(a.ctx, nil, func(ev ipc.LoginEvent) error {
			switch ev.Kind {
			case state.LoginURL:
				shown = true
				return a.openUnasked(ev)
			case state.LoginTap:
				shown = true
			case state.LoginPassword, state.LoginOTP:
				return errNeedsPerson
			case state.LoginInfo, state.LoginSettled, state.LoginDone:
			}
			return nil
		})
		if a.ctx.Err() != nil {
			return
		}
		a.renewals.mu.Lock()
		e.running = false
		if cur := a.renewals.by[p.ID()]; cur != nil {
			cur.running = false // the session has changed meanwhile
			if err == nil {
				cur.renewedAt = time.Now()
			}
		}
		e.noteAttempt(err, shown, p.ProxyAddr, time.Now())
		a.renewals.mu.Unlock()
		a.log.Info("login that nobody asked for", "profile", p.ProxyAddr, "outcome", e.last.Outcome, "err", err)
		a.touch()
	})
}

// errNeedsPerson is why an unasked login is left that asks for something
// nobody has stored.
var errNeedsPerson = errors.New("it asks for something that only you know")

// openUnasked opens a login page on the person's screen. One that cannot be
// opened needs the person.
func (a *Agent) openUnasked(ev ipc.LoginEvent) error {
	if err := browser.Open(a.ctx, ev.URL, ev.Browser, os.Getenv, ev.Proxy); err != nil {
		a.log.Warn("login page not opened", "profile", ev.Proxy, "err", err)
		return errNeedsPerson
	}
	return nil
}

// noteAttempt notes how an unasked login has ended. shown says that there was
// something for the person to do.
func (e *episode) noteAttempt(err error, shown bool, proxy string, now time.Time) {
	outcome := outcomeOf(err, shown)
	count := 1
	if e.last.Outcome == outcome {
		count = e.last.Count + 1
	}
	e.last = renew.Attempt{At: now.Round(0), Outcome: outcome, Count: count}
	if err == nil {
		e.problem = nil
		return
	}
	e.problem = &state.Problem{
		Code: state.CodeRenewFailed, Title: "Not renewed",
		Text:   fmt.Sprintf("The session at %s was to be renewed: %v.", proxy, strings.TrimSuffix(err.Error(), ".")),
		Action: "berth login --renew " + proxy, Since: now.UTC(),
	}
}

func outcomeOf(err error, shown bool) renew.Outcome {
	var missing *tsh.NotFoundError
	var old *oldTSHError
	switch {
	case err == nil:
		return renew.NotTried
	case errors.Is(err, errLoginLeft), errors.Is(err, tsh.ErrLoginTimeout) && shown:
		return renew.Dismissed
	case errors.Is(err, tsh.ErrBadLogin), errors.Is(err, tsh.ErrLoginRefused), errors.Is(err, tsh.ErrUnknownConnector):
		return renew.Refused
	case errors.Is(err, errNeedsPerson), errors.Is(err, tsh.ErrNoTerminal), errors.As(err, &missing), errors.As(err, &old):
		return renew.NeedsPerson
	default:
		return renew.Failed
	}
}
