package state

import (
	"time"
)

// RequestState is an access request's state as the auth service says it.
type RequestState string

// The states of an access request.
const (
	RequestPending  RequestState = "pending"
	RequestApproved RequestState = "approved"
	RequestDenied   RequestState = "denied"
	RequestPromoted RequestState = "promoted" // made a member of an access list instead
	RequestExpired  RequestState = "expired"  // its time is up
)

// Request is an access request. All text in it is cleaned: it can be printed
// as it is, but other people wrote it.
type Request struct {
	ID            string       `json:"id"`
	Profile       string       `json:"profile"` // host:port of the proxy
	Cluster       string       `json:"cluster"` // the root cluster, where requests live
	User          string       `json:"user"`
	Roles         []string     `json:"roles"`
	Resources     []string     `json:"resources"` // as /CLUSTER/KIND/NAME
	Reason        string       `json:"reason"`
	ResolveReason string       `json:"resolve_reason"` // of who decided it
	State         RequestState `json:"state"`
	CreatedAt     time.Time    `json:"created_at"`
	// ExpiresAt is when the request lapses: undecided, or, once approved,
	// together with the access.
	ExpiresAt    time.Time  `json:"expires_at"`
	AccessUntil  *time.Time `json:"access_until"`  // the end of the access if it is approved; null when the server does not say
	SessionUntil *time.Time `json:"session_until"` // when a cert with these roles would end, as of the request's creation; null when the server does not say
	AssumeFrom   *time.Time `json:"assume_from"`   // before which the roles cannot be taken; null means at once
	PromotedTo   string     `json:"promoted_to"`   // the access list's title
	// Approvals counts those that the nearest way to approval has, of
	// ApprovalsNeeded; Progress says it in words: "1 of 2 approvals, needs
	// security".
	Approvals          int      `json:"approvals"`
	ApprovalsNeeded    int      `json:"approvals_needed"`
	Progress           string   `json:"progress"`
	Reviews            []Review `json:"reviews"`
	SuggestedReviewers []string `json:"suggested_reviewers"`
	Mine               bool     `json:"mine"`
	Reviewable         bool     `json:"reviewable"` // you may be asked to decide it, and have not
	Assumable          bool     `json:"assumable"`  // yours, approved by the server, and its time has come
	Assumed            bool     `json:"assumed"`    // the session has its roles
	Tunnels            []string `json:"tunnels"`    // those that alone have its roles
}

// AskAgain returns the program and the arguments that ask for the same once
// more. A role's or a resource's name may be anything: whoever writes them as a
// line for a shell quotes them.
func (r Request) AskAgain() []string {
	flag, values := "--role", r.Roles
	if len(r.Resources) > 0 { // whose roles are the cluster's choice
		flag, values = "--resource", r.Resources
	}
	argv := []string{"berth", "request", "create"}
	for _, v := range values {
		argv = append(argv, flag, v)
	}
	return argv
}

// Review is one reviewer's decision on an access request.
type Review struct {
	Author string       `json:"author"`
	State  RequestState `json:"state"`
	Reason string       `json:"reason"`
	At     time.Time    `json:"at"`
}

// RequestEvent is something that happened to an access request and that a
// person may want to know.
type RequestEvent struct {
	Kind    RequestEventKind `json:"kind"`
	At      time.Time        `json:"at"`
	Request Request          `json:"request"` // as it is now, or was last
}

// RequestEventKind says what happened to a request.
type RequestEventKind string

// The kinds of events of access requests.
const (
	RequestEventCreated     RequestEventKind = "created"      // the user's own, made with any program
	RequestEventReviewAsked RequestEventKind = "review_asked" // another user's that this user may review
	RequestEventReviewed    RequestEventKind = "reviewed"     // a review that did not decide it
	RequestEventApproved    RequestEventKind = "approved"
	RequestEventDenied      RequestEventKind = "denied"
	RequestEventPromoted    RequestEventKind = "promoted"
	RequestEventAssumable   RequestEventKind = "assumable" // approved before, and now its time has come
	RequestEventAssumed     RequestEventKind = "assumed"
	RequestEventDropped     RequestEventKind = "dropped"
	RequestEventEndsSoon    RequestEventKind = "ends_soon" // assumed, and less than RequestEndsSoon is left
	RequestEventExpired     RequestEventKind = "expired"
	RequestEventDeleted     RequestEventKind = "deleted" // taken away before its time
)

// RequestEndsSoon is how long before its end assumed access gets a notice.
const RequestEndsSoon = 10 * time.Minute
