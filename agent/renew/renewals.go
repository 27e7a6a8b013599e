package renew

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/certwatch"
	"berth/internal/browser"
	"berth/internal/survive"
)

// Config says what renewals look at and act through.
type Config struct {
	Config   func() *config.Config
	Sessions *sessions.Sessions
	Logins   *login.Logins
	Held     func() map[certwatch.ProfileID]bool // the profiles whose login would release clients
	WokeAt   func() time.Time                    // when the machine last woke; zero: it did not
	Away     func() bool                         // whether the person is not at the machine
	// Unattended reports whether a login of the profile would need no person.
	Unattended func(*certwatch.Profile) bool
	// Service reports that systemd's user manager runs the agent, and is to open pages.
	Service  bool
	OnChange func() // what the snapshot says of renewals has changed
	// Publish publishes a snapshot now: a caller that has its answer finds in the
	// next snapshot what it asked for.
	Publish func()
	Logger  *slog.Logger
}

// Renewals remembers each profile's session and its end. What
// to do is for decide; this does it.
type Renewals struct {
	cfg        Config
	ctx        context.Context // the agent's
	unattended sync.WaitGroup  // logins that no person asked for

	mu sync.Mutex // guards by and the episodes in it
	by map[certwatch.ProfileID]*episode
}

// NewRenewals returns Renewals whose unattended logins end with ctx.
func NewRenewals(ctx context.Context, cfg Config) *Renewals {
	return &Renewals{cfg: cfg, ctx: ctx, by: make(map[certwatch.ProfileID]*episode)}
}

// Wait returns when no unattended login runs; their context must be over.
func (rs *Renewals) Wait() { rs.unattended.Wait() }

// episode is one session's end, from its first warning on. A reissue, which
// keeps the end, does not begin a new one.
type episode struct {
	until    time.Time
	heard    nearness
	last     attempt
	running  bool // an unattended login
	decision decision
	problem  *state.Problem
	// renewedAt is when an unattended login brought this session.
	renewedAt time.Time
}

// Decide looks at every profile's session and acts: it starts logins
// and notes what the person is to be shown. It is called ahead of every
// snapshot, so what the snapshot says is what was decided.
func (rs *Renewals) Decide(now time.Time) {
	view, cfg, held := rs.cfg.Sessions.View(), rs.cfg.Config(), rs.cfg.Held()
	inputs := make([]input, len(view.Profiles))
	for i, p := range view.Profiles {
		inputs[i] = rs.input(p, cfg, held[p.ID()], now)
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	known := make(map[certwatch.ProfileID]bool, len(view.Profiles))
	for i, p := range view.Profiles {
		e, in := rs.episode(p), inputs[i]
		known[p.ID()] = true
		in.Heard, in.Last = e.heard, e.last
		before := e.decision
		e.decision = decide(in)
		if e.decision.Action != before.Action || e.decision.Level != before.Level {
			rs.cfg.Logger.Info("renewal", "profile", p.ProxyAddr, "action", e.decision.Action.String(), "warning", e.decision.Level.String(),
				"why", e.decision.Why)
		}
		if e.decision.Action == actLogin && !e.running {
			e.running = true
			rs.renewUnattended(p, e)
		}
	}
	maps.DeleteFunc(rs.by, func(id certwatch.ProfileID, _ *episode) bool { return !known[id] })
}

// episode returns that of a profile's session, which may be a new one. It is called with
// renewals.mu held.
func (rs *Renewals) episode(p *certwatch.Profile) *episode {
	var until time.Time
	if p.Session != nil {
		until = p.Session.ValidUntil
	}
	e := rs.by[p.ID()]
	if e == nil || !e.until.Equal(until) {
		e = &episode{until: until, running: e != nil && e.running}
		rs.by[p.ID()] = e
	}
	return e
}

// input is all that decide looks at but for the episode.
func (rs *Renewals) input(p *certwatch.Profile, cfg *config.Config, waiting bool, now time.Time) input {
	set, _ := cfg.Profile(p.ProxyAddr)
	in := input{
		Now: now, Mode: set.RenewMode(), Before: set.RenewBefore(), Quiet: cfg.Notifications.QuietAt(now),
		Waiting: waiting, WokeAt: rs.cfg.WokeAt(),
		Silent: rs.cfg.Unattended(p),
	}
	// A prompt for a tunnel's code brings no session.
	if l := rs.cfg.Logins.Of(login.Key{Home: p.Home, Proxy: p.ProxyAddr}); l != nil {
		in.Running, in.Long = true, now.Round(0).Sub(l.Began()) >= longLogin
	}
	if p.Session != nil {
		in.ValidFrom, in.ValidUntil = p.Session.ValidFrom, p.Session.ValidUntil
	}
	// The desktop is asked only when the answer counts.
	in.Away = in.Mode == state.RenewAuto && nearEnd(in) && rs.cfg.Away()
	return in
}

// State returns the snapshot's part about a profile's renewal.
func (rs *Renewals) State(p *certwatch.Profile) state.Renewal {
	set, _ := rs.cfg.Config().Profile(p.ProxyAddr)
	r := state.Renewal{Mode: set.RenewMode()}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	e := rs.by[p.ID()]
	if e == nil {
		return r
	}
	if e.decision.Action == actWarn {
		r.Warning = state.RenewalWarning(e.decision.Level.String())
	}
	if e.decision.Action != actStop {
		r.At = state.Instant(e.decision.At)
	}
	r.RenewedAt = state.Instant(e.renewedAt)
	if e.problem != nil {
		r.Problem = new(*e.problem)
	}
	return r
}

// Snooze silences the current reminder that a session expires, of a user if one is named.
func (rs *Renewals) Snooze(_ context.Context, proxy, user string) (ipc.Snoozed, error) {
	target, err := rs.cfg.Logins.ProfileOf(proxy, user)
	if err != nil {
		return ipc.Snoozed{}, err
	}
	rs.Decide(time.Now())
	rs.mu.Lock()
	e := rs.by[target.Profile.ID()]
	snoozed := ipc.Snoozed{Proxy: target.Proxy}
	if e != nil {
		if e.decision.Action == actWarn {
			e.heard = e.decision.Level
		}
		snoozed.Until = state.Instant(e.decision.At)
	}
	rs.mu.Unlock()
	rs.cfg.Publish()
	return snoozed, nil
}

// renewUnattended starts the login of a session near its end, or joins the one
// that runs, and notes how it ends. It is called with renewals.mu held.
func (rs *Renewals) renewUnattended(p *certwatch.Profile, e *episode) {
	target := login.Target{Proxy: p.ProxyAddr, Home: p.Home, Profile: p}
	rs.unattended.Go(func() {
		shown := false
		l := rs.cfg.Logins.Join(target, ipc.LoginStart{Proxy: p.ProxyAddr, Renew: true})
		err := survive.Do(rs.cfg.Logger, "log in unattended", func() error {
			return l.Follow(rs.ctx, nil, func(ev ipc.LoginEvent) error {
				switch ev.Kind {
				case state.LoginURL:
					shown = true
					return rs.open(ev)
				case state.LoginTap:
					shown = true
				case state.LoginPassword, state.LoginOTP, state.LoginPIN:
					return errNeedsPerson
				case state.LoginInfo, state.LoginSettled, state.LoginDone:
				}
				return nil
			})
		})
		if rs.ctx.Err() != nil {
			return
		}
		rs.mu.Lock()
		e.running = false
		if now := rs.cfg.Sessions.Of(p.ID()).Profile; now != nil {
			cur := rs.episode(now) // of the session that it brought, of which none may have decided yet
			cur.running = false
			if err == nil {
				cur.renewedAt = time.Now()
			}
		}
		e.noteAttempt(err, shown, p.ProxyAddr, rs.cfg.Sessions.UserAt(p.ProxyAddr, p.User), time.Now())
		outcome := e.last.Outcome
		rs.mu.Unlock()
		rs.cfg.Logger.Info("unattended login", "profile", p.ProxyAddr, "outcome", outcome, "err", err)
		rs.cfg.OnChange()
	})
}

// errNeedsPerson ends an unattended login that asks for something that is not
// stored.
var errNeedsPerson = errors.New("it asks for something that only you know")

// open opens a login page on the person's screen. A page that cannot be opened
// needs the person.
func (rs *Renewals) open(ev ipc.LoginEvent) error {
	open := browser.Open
	if rs.cfg.Service {
		open = browser.OpenFromService
	}
	if err := open(rs.ctx, ev.URL, ev.Browser, os.Getenv, ev.Proxy); err != nil {
		rs.cfg.Logger.Warn("login page not opened", "profile", ev.Proxy, "err", err)
		return errNeedsPerson
	}
	return nil
}

// noteAttempt notes how an unattended login has ended. shown says that there was
// something for the person to do; user is whom a command has to name.
func (e *episode) noteAttempt(err error, shown bool, proxy, user string, now time.Time) {
	outcome := outcomeOf(err, shown)
	count := 1
	if e.last.Outcome == outcome {
		count = e.last.Count + 1
	}
	e.last = attempt{At: now.Round(0), Outcome: outcome, Count: count}
	if err == nil {
		e.problem = nil
		return
	}
	e.problem = &state.Problem{
		Code: state.CodeRenewFailed, Title: "Not renewed",
		Text:   fmt.Sprintf("The session at %s was to be renewed: %v.", proxy, strings.TrimSuffix(err.Error(), ".")),
		Action: sessions.LoginCommand(proxy, user) + " --renew", Since: now.UTC(),
	}
}

func outcomeOf(err error, shown bool) outcome {
	var missing *tsh.NotFoundError
	var old *login.OldTSHError
	switch {
	case err == nil:
		return notTried
	case errors.Is(err, tsh.ErrNotApproved): // which may be a timeout, too
		return loginNeedsPerson
	case errors.Is(err, login.ErrLeft), errors.Is(err, tsh.ErrLoginTimeout) && shown:
		return loginDismissed
	case errors.Is(err, tsh.ErrBadLogin), errors.Is(err, tsh.ErrLoginRefused), errors.Is(err, tsh.ErrLocked), errors.Is(err, tsh.ErrUnknownConnector):
		return loginRefused
	case errors.Is(err, errNeedsPerson), errors.Is(err, tsh.ErrNoTerminal), errors.As(err, &missing), errors.As(err, &old):
		return loginNeedsPerson
	default:
		return loginFailed
	}
}

// nearEnd reports whether a session is so near its end that a decision may be
// due.
func nearEnd(in input) bool {
	soon, _ := times(in.ValidFrom, in.ValidUntil, in.Before)
	return !in.ValidUntil.IsZero() && !in.Now.Before(soon)
}
