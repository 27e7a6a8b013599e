// Package renew decides what is done about a session that nears its end.
//
// It promises to be pure: decide looks at nothing but its input, so what
// berth does at any moment, after any sleep and with any clock, can be asked
// in a test. Acting on the decision, and finding out what is in the input, is
// its caller's.
package renew

import (
	"time"

	"berth/agent/state"
)

// action says what to do now.
type action int

// The actions.
const (
	actWait  action = iota // nothing; look again at decision.At, or when the input changes
	actWarn                // tell the person, at decision.Level
	actLogin               // start a login
	actStop                // nothing, and nothing will be due for this session
)

// String returns the action's name.
func (a action) String() string { return [...]string{"wait", "warn", "login", "stop"}[a] }

// nearness is how near the end of a session is.
type nearness int

// The levels.
const (
	levelNone  nearness = iota // not near
	levelSoon                  // the first warning, or the moment a login is started unattended
	levelLast                  // the last warning
	levelEnded                 // it has expired
)

// String returns the level as a snapshot has it; none is empty.
func (l nearness) String() string { return [...]string{"", "soon", "last", "ended"}[l] }

const (
	// lastWarning is how long before the end the last warning comes.
	lastWarning = 5 * time.Minute
	// wakeQuiet is how long after a wake-up no warning is shown: the
	// network is not there yet, and neither is the person.
	wakeQuiet = 10 * time.Second
	// stale is how long after its end a session is still worth a word, and a login that
	// no client waits for.
	stale = 24 * time.Hour
	// longLogin is longer than a login takes that asks a person: what takes longer waits
	// for its access request, for up to an hour, and silences no warning.
	longLogin = 5 * time.Minute
	// retryFirst is the pause after a login that failed for no reason of the
	// person's; it doubles up to retryMax.
	retryFirst = time.Minute
	retryMax   = 15 * time.Minute
)

// outcome is how a login that was started unattended has ended.
type outcome int

// The outcomes. After those below loginFailed nothing is started unattended any more
// until there is another session.
const (
	notTried         outcome = iota
	loginFailed              // something was away; worth another try
	loginDismissed           // the person cancelled it, or let it run out
	loginRefused             // a secret was wrong, or the identity provider said no
	loginNeedsPerson         // it asked for something that only a person can give
)

// attempt is the last login that was started unattended for a session.
type attempt struct {
	At      time.Time
	Outcome outcome
	Count   int // of attempts that failed in a row
}

// input is all that a decision rests on. All times are of the wall clock.
type input struct {
	Now       time.Time
	ValidFrom time.Time
	// ValidUntil is the session's end; zero means that there is no session.
	ValidUntil time.Time

	Mode   state.RenewMode
	Before time.Duration // of the first warning, or of the login, to the end

	Quiet   bool      // these are quiet hours
	Away    bool      // the screen is locked or the person idle, as far as the OS reports
	Silent  bool      // a login needs no person: what it asks for is stored
	Waiting bool      // clients are held for a login
	Running bool      // a login is under way, whoever started it
	Long    bool      // it takes so long that it may bring no session in time: longLogin
	WokeAt  time.Time // zero means never

	Heard nearness // the highest warning the person has snoozed
	Last  attempt  // for this session
}

// decision says what to do, and why.
type decision struct {
	Action action
	Level  nearness  // of a warning
	At     time.Time // when something is due next at the latest; zero means that only a change helps
	Why    string    // in a few words, for the log
}

// decide says what to do about a session.
func decide(in input) decision {
	old := in.Now.After(in.ValidUntil.Add(stale))
	longOver := decision{Action: actStop, Why: "it ended long ago"}
	switch {
	case in.ValidUntil.IsZero():
		return decision{Action: actStop, Why: "no session"}
	case in.Mode == state.RenewOff:
		return decision{Action: actStop, Why: "renewing is off"}
	case old && (in.Mode != state.RenewAuto || !in.Waiting):
		return longOver
	}
	soon, last := times(in.ValidFrom, in.ValidUntil, in.Before)
	level, next := levelAt(in.Now, soon, last, in.ValidUntil)
	quietUntil := in.WokeAt.Add(wakeQuiet)
	switch {
	case in.Running && !in.Long:
		return decision{Action: actWait, At: next, Why: "a login is under way"}
	case level == levelNone:
		return decision{Action: actWait, At: next, Why: "not near its end"}
	case !in.WokeAt.IsZero() && in.Now.Before(quietUntil) && !in.Now.Before(in.WokeAt):
		return decision{Action: actWait, At: quietUntil, Why: "just woken"}
	}
	if in.Mode == state.RenewAuto && !in.Running {
		if d, ok := unattended(in, level, next); ok {
			return d
		}
	}
	switch {
	case old: // a waiting client is worth a login at any time, but has a notice of its own
		return longOver
	case in.Heard >= level:
		return decision{Action: actWait, At: next, Why: "snoozed"}
	case in.Quiet:
		return decision{Action: actWait, At: next, Why: "quiet hours"}
	}
	return decision{Action: actWarn, Level: level, At: next, Why: "it " + map[nearness]string{levelSoon: "ends soon", levelLast: "is about to end", levelEnded: "has ended"}[level]}
}

// unattended decides about an unattended login; false means that the person is
// warned instead.
func unattended(in input, level nearness, next time.Time) (decision, bool) {
	switch {
	case in.Last.Outcome > loginFailed:
		return decision{}, false // once is enough
	case in.Silent:
		// It opens nothing and needs no person, at any hour.
	case level == levelEnded && !in.Waiting:
		return decision{}, false // no client waits for it: no page opens by itself
	case in.Away && level == levelSoon:
		return decision{Action: actWait, At: next, Why: "the user is away"}, true
	case in.Away, in.Quiet:
		return decision{}, false
	}
	if in.Last.Outcome == loginFailed {
		if again := in.Last.At.Add(backoff(in.Last.Count)); in.Now.Before(again) && !in.Now.Before(in.Last.At) {
			if level > levelSoon {
				return decision{}, false // time runs out: better said than hoped
			}
			return decision{Action: actWait, At: again, Why: "tried just now"}, true
		}
	}
	return decision{Action: actLogin, At: next, Why: "it ends soon"}, true
}

func backoff(count int) time.Duration {
	d := retryFirst
	for range count - 1 {
		if d *= 2; d >= retryMax {
			return retryMax
		}
	}
	return d
}

// times are when a session's end is first near, and when nearly there. A
// session too short for its usual warnings gets them closer to the end: the
// first never comes before half of it is over.
func times(from, until time.Time, before time.Duration) (soon, last time.Time) {
	lead := before
	if half := until.Sub(from) / 2; !from.IsZero() && half > 0 {
		lead = min(lead, half)
	}
	return until.Add(-lead), until.Add(-min(lastWarning, lead/3))
}

// levelAt is the level at now, and when the next one begins.
func levelAt(now, soon, last, until time.Time) (nearness, time.Time) {
	switch {
	case now.Before(soon):
		return levelNone, soon
	case now.Before(last):
		return levelSoon, last
	case now.Before(until):
		return levelLast, until
	default:
		return levelEnded, time.Time{}
	}
}
