// Package renew decides what is done about a session that nears its end.
//
// It promises to be pure: [Decide] looks at nothing but its Input, so what
// berth does at any moment, after any sleep and with any clock, can be asked
// in a test. Acting on the Decision, and finding out what is in the Input, is
// its caller's.
package renew

import (
	"time"

	"berth/agent/state"
)

// Action says what to do now.
type Action int

// The actions.
const (
	Wait  Action = iota // nothing; look again at Decision.At, or when the Input changes
	Warn                // tell the person, at Decision.Level
	Login               // start a login
	Stop                // nothing, and nothing will be due for this session
)

// String returns the action's name.
func (a Action) String() string { return [...]string{"wait", "warn", "login", "stop"}[a] }

// Level is how near the end of a session is.
type Level int

// The levels.
const (
	None  Level = iota // not near
	Soon               // the first warning, or the moment a login is started unattended
	Last               // the last warning
	Ended              // it has expired
)

// String returns the level as a snapshot has it; none is empty.
func (l Level) String() string { return [...]string{"", "soon", "last", "ended"}[l] }

const (
	// lastWarning is how long before the end the last warning comes.
	lastWarning = 5 * time.Minute
	// wakeQuiet is how long after a wake-up no warning is shown: the
	// network is not there yet, and neither is the person.
	wakeQuiet = 10 * time.Second
	// stale is how long after its end a session is still worth a word.
	stale = 24 * time.Hour
	// retryFirst is the pause after a login that failed for no reason of the
	// person's; it doubles up to retryMax.
	retryFirst = time.Minute
	retryMax   = 15 * time.Minute
)

// Outcome is how a login that was started unattended has ended.
type Outcome int

// The outcomes. After those below Failed nothing is started unattended any more
// until there is another session.
const (
	NotTried    Outcome = iota
	Failed              // something was away; worth another try
	Dismissed           // the person cancelled it, or let it run out
	Refused             // a secret was wrong, or the identity provider said no
	NeedsPerson         // it asked for something that only a person can give
)

// Attempt is the last login that was started unattended for a session.
type Attempt struct {
	At      time.Time
	Outcome Outcome
	Count   int // of attempts that Failed in a row
}

// Input is all that a decision rests on. All times are of the wall clock.
type Input struct {
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
	WokeAt  time.Time // zero means never

	Heard Level   // the highest warning the person has snoozed
	Last  Attempt // for this session
}

// Decision says what to do, and why.
type Decision struct {
	Action Action
	Level  Level     // of a Warn
	At     time.Time // when something is due next at the latest; zero means that only a change helps
	Why    string    // in a few words, for the log
}

// Decide says what to do about a session.
func Decide(in Input) Decision {
	switch {
	case in.ValidUntil.IsZero():
		return Decision{Action: Stop, Why: "no session"}
	case in.Mode == state.RenewOff:
		return Decision{Action: Stop, Why: "renewing is off"}
	case in.Now.After(in.ValidUntil.Add(stale)):
		return Decision{Action: Stop, Why: "it ended long ago"}
	}
	soon, last := times(in.ValidFrom, in.ValidUntil, in.Before)
	level, next := levelAt(in.Now, soon, last, in.ValidUntil)
	quietUntil := in.WokeAt.Add(wakeQuiet)
	switch {
	case in.Running:
		return Decision{Action: Wait, At: next, Why: "a login is under way"}
	case level == None:
		return Decision{Action: Wait, At: next, Why: "not near its end"}
	case !in.WokeAt.IsZero() && in.Now.Before(quietUntil) && !in.Now.Before(in.WokeAt):
		return Decision{Action: Wait, At: quietUntil, Why: "just woken"}
	}
	if in.Mode == state.RenewAuto {
		if d, ok := unattended(in, level, next); ok {
			return d
		}
	}
	switch {
	case in.Heard >= level:
		return Decision{Action: Wait, At: next, Why: "snoozed"}
	case in.Quiet:
		return Decision{Action: Wait, At: next, Why: "quiet hours"}
	}
	return Decision{Action: Warn, Level: level, At: next, Why: "it " + map[Level]string{Soon: "ends soon", Last: "is about to end", Ended: "has ended"}[level]}
}

// unattended decides about an unattended login; false means that the person is
// warned instead.
func unattended(in Input, level Level, next time.Time) (Decision, bool) {
	switch {
	case in.Last.Outcome > Failed:
		return Decision{}, false // once is enough
	case in.Silent:
		// It opens nothing and needs no person, at any hour.
	case level == Ended && !in.Waiting:
		return Decision{}, false // no client waits for it: no page opens by itself
	case in.Away && level == Soon:
		return Decision{Action: Wait, At: next, Why: "the user is away"}, true
	case in.Away, in.Quiet:
		return Decision{}, false
	}
	if in.Last.Outcome == Failed {
		if again := in.Last.At.Add(backoff(in.Last.Count)); in.Now.Before(again) && !in.Now.Before(in.Last.At) {
			if level > Soon {
				return Decision{}, false // time runs out: better said than hoped
			}
			return Decision{Action: Wait, At: again, Why: "tried just now"}, true
		}
	}
	return Decision{Action: Login, At: next, Why: "it ends soon"}, true
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
func levelAt(now, soon, last, until time.Time) (Level, time.Time) {
	switch {
	case now.Before(soon):
		return None, soon
	case now.Before(last):
		return Soon, last
	case now.Before(until):
		return Last, until
	default:
		return Ended, time.Time{}
	}
}
