package state

import "time"

// Notice is one thing to show the user now, whatever they are
// doing. It is state, not an event: a front end shows each ID it has not shown
// yet, replaces what it shows when the words change, and withdraws it when the
// Notice is gone from the snapshot. All deciding is done by the agent: what is
// worth a notice, quiet hours, how many, and when its cause is over.
type Notice struct {
	// ID is the cause: the same trouble has the same ID in every snapshot, and
	// the next trouble another one.
	ID      string         `json:"id"`
	Kind    NoticeKind     `json:"kind"`
	Urgency Urgency        `json:"urgency"`
	Title   string         `json:"title"` // a few words
	Body    string         `json:"body"`  // a sentence or two of plain text, no markup
	Since   time.Time      `json:"since"`
	Actions []NoticeAction `json:"actions"` // the most important one first; the first is also what a click on the text does
}

// NoticeKind says what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeSessionEnding   NoticeKind = "session_ending"   // a session is near its end
	NoticeLoginNeeded     NoticeKind = "login_needed"     // it has ended, and clients may wait
	NoticeRenewed         NoticeKind = "renewed"          // an unattended login renewed it
	NoticeRenewFailed     NoticeKind = "renew_failed"     // an unattended login failed
	NoticeTap             NoticeKind = "tap"              // a login wants the security key touched
	NoticeTunnelBroken    NoticeKind = "tunnel_broken"    // tunnels do not work
	NoticeTunnelRecovered NoticeKind = "tunnel_recovered" // they do again
	NoticeUserChanged     NoticeKind = "user_changed"     // tunnels run as another person now
	NoticePortTaken       NoticeKind = "port_taken"
	NoticeForeign         NoticeKind = "foreign_client" // another user's program was turned away
	NoticeApproved        NoticeKind = "request_approved"
	NoticeDenied          NoticeKind = "request_denied"
	NoticeReview          NoticeKind = "review_asked"
	NoticeAssumedEnding   NoticeKind = "assumed_ending" // assumed roles are near their end
	NoticeMore            NoticeKind = "more"           // how many were held back
)

// Urgency is how much a Notice may disturb.
type Urgency string

// The urgencies.
const (
	UrgencyLow      Urgency = "low"
	UrgencyNormal   Urgency = "normal"
	UrgencyCritical Urgency = "critical" // stays until it is dealt with
)

// NoticeAction is a button of a Notice. Whoever presses it makes the call that
// the verb names; the agent looks at the true state again before it does
// anything.
type NoticeAction struct {
	Verb  Verb   `json:"verb"`
	Label string `json:"label"` // the button's text
	// Proxy, User, Request and Tunnel are what the verb is about; those it does not
	// need are empty. Other homes may have sessions of other users at the proxy.
	Proxy   string `json:"proxy"`
	User    string `json:"user"`
	Request string `json:"request"`
	Tunnel  string `json:"tunnel"`
	// Confirm says that the front end asks for a confirmation before it acts.
	Confirm bool `json:"confirm"`
}

// Verb says what an action does.
type Verb string

// The verbs.
const (
	VerbLogin   Verb = "login"   // log in at Proxy
	VerbRenew   Verb = "renew"   // log in again at Proxy
	VerbSnooze  Verb = "snooze"  // snooze the reminder of Proxy's session
	VerbAssume  Verb = "assume"  // assume Request, for Tunnel alone when it is named
	VerbApprove Verb = "approve" // approve Request
	VerbDeny    Verb = "deny"    // deny Request
	VerbDrop    Verb = "drop"    // drop the assumed Request
	VerbRestart Verb = "restart" // restart Tunnel
	VerbDetails Verb = "details" // show more of Request, Tunnel or Proxy
	VerbDismiss Verb = "dismiss" // nothing more about this
)
