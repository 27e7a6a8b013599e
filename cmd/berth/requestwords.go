package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/internal/when"
)

// shortID is enough of an id to name a request, most of the time.
func shortID(id string) string { return id[:min(8, len(id))] }

func shortIDs(ids []string) []string {
	short := make([]string, len(ids))
	for i, id := range ids {
		short[i] = shortID(id)
	}
	return short
}

// rolesOf names what a request asks for: roles, and the resources they are for.
func rolesOf(r state.Request) string {
	what := strings.Join(r.Roles, ", ")
	if len(r.Resources) > 0 {
		what = strings.TrimPrefix(what+" on "+strings.Join(r.Resources, ", "), " on ")
	}
	return what
}

// requestState says how a request is, in a few words.
func requestState(r state.Request, now time.Time) string {
	switch {
	case r.Assumed:
		return "assumed"
	case len(r.Tunnels) > 0:
		return "assumed for " + strings.Join(r.Tunnels, ", ")
	case r.State == state.RequestApproved && r.AssumeFrom != nil && now.Before(*r.AssumeFrom):
		return "approved from " + when.ClockSeconds(*r.AssumeFrom, now)
	case r.State == state.RequestPending && r.Progress != "":
		return "pending: " + r.Progress
	default:
		return words(r.State)
	}
}

// requestEnd is when a request, or its access, ends.
func requestEnd(r state.Request, now time.Time) string {
	end := r.ExpiresAt
	if r.State == state.RequestApproved && r.AccessUntil != nil {
		end = *r.AccessUntil
	}
	if end.IsZero() || r.State == state.RequestDenied || r.State == state.RequestPromoted {
		return "-"
	}
	return when.ClockSeconds(end, now)
}

func (a *app) printRequests(list []state.Request, now time.Time) error {
	if len(list) == 0 {
		return a.sentences("There is no access request. \"berth request create\" makes one.")
	}
	rows := make([][]string, 0, len(list))
	for _, r := range list {
		rows = append(rows, []string{
			shortID(r.ID), r.User, rolesOf(r), requestState(r, now), requestEnd(r, now), cmp.Or(r.Reason, "-"),
		})
	}
	return a.table([]string{"ID", "USER", "ASKS FOR", "STATE", "UNTIL", "REASON"}, rows, nil, "REASON", "UNTIL")
}

// printAskedOfYou names the access requests that wait for a person: to be
// assumed, or to be decided.
func (a *app) printAskedOfYou(list []state.Request, now time.Time) {
	for _, r := range list {
		switch {
		case r.Assumable && len(r.Tunnels) == 0:
			_ = a.sentences("", fmt.Sprintf("Access to %s is approved until %s.", a.apart(plain.Line(rolesOf(r))), requestEnd(r, now)),
				"  → berth request assume "+shell.Quote(plain.Line(shortID(r.ID))))
		case r.Reviewable:
			_ = a.sentences("", fmt.Sprintf("%s asks for %s.", a.apart(plain.Line(r.User)), a.apart(plain.Line(rolesOf(r)))),
				"  → berth request show "+shell.Quote(plain.Line(shortID(r.ID))))
		}
	}
}

func (a *app) printRequest(r state.Request, now time.Time) error {
	line := func(name, value string) {
		if value != "" {
			a.labelled("", name, plain.Line(value))
		}
	}
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return when.ClockSeconds(*t, now)
	}
	line("id", r.ID)
	line("user", r.User)
	line("cluster", r.Cluster)
	line("roles", strings.Join(r.Roles, ", "))
	line("resources", strings.Join(r.Resources, ", "))
	line("reason", r.Reason)
	line("state", requestState(r, now))
	line("because", r.ResolveReason)
	line("access list", r.PromotedTo)
	line("created", when.ClockSeconds(r.CreatedAt, now))
	if r.State == state.RequestPending {
		line("lapses", when.ClockSeconds(r.ExpiresAt, now))
	}
	line("from", at(r.AssumeFrom))
	line("until", at(r.AccessUntil))
	line("reviewers", strings.Join(r.SuggestedReviewers, ", "))
	for _, rev := range r.Reviews {
		text := words(rev.State) + " by " + rev.Author + " at " + when.ClockSeconds(rev.At, now)
		if rev.Reason != "" {
			text += ": " + rev.Reason
		}
		line("review", text)
	}
	if next := nextStep(r, now); next != "" {
		return a.sentences("", "→ "+plain.Line(next))
	}
	return nil
}

// nextStep suggests what this user can do about a request now; empty means
// nothing.
func nextStep(r state.Request, now time.Time) string {
	id := shortID(r.ID)
	switch {
	case r.Assumed || len(r.Tunnels) > 0:
		return shell.Quote("berth", "request", "drop", id)
	case r.Assumable:
		return shell.Quote("berth", "request", "assume", id)
	case r.Reviewable:
		return shell.Quote("berth", "request", "approve", id) + ", or deny"
	case !r.Mine:
		return ""
	case r.State == state.RequestPending:
		return "berth request watch"
	case r.State == state.RequestApproved && r.AssumeFrom != nil && now.Before(*r.AssumeFrom):
		return shell.Quote("berth", "request", "assume", id) + ", from " + when.ClockSeconds(*r.AssumeFrom, now) + " on"
	case r.State == state.RequestPromoted:
		return "berth login " + r.Profile + " --renew"
	default: // denied, or over
		return shell.Quote(r.AskAgain()...)
	}
}

func (a *app) printCreated(r state.Request, now time.Time) error {
	roles := a.apart(plain.Line(rolesOf(r)))
	lines := []string{fmt.Sprintf("access request %s for %s: %s", plain.Line(r.ID), roles, plain.Line(requestState(r, now)))}
	if r.ResolveReason != "" {
		lines = append(lines, "because: "+plain.Line(r.ResolveReason))
	}
	if next := nextStep(r, now); next != "" {
		lines = append(lines, "→ "+plain.Line(next))
	}
	return a.sentences(lines...)
}

func decidedLine(r state.Request, verb string) string {
	who := fmt.Sprintf("%s's request for %s", r.User, rolesOf(r))
	switch {
	case r.State == state.RequestPending:
		return fmt.Sprintf("your review of %s counts; it is still pending: %s", who, r.Progress)
	case verb == "approve" && r.State == state.RequestApproved, verb == "deny" && r.State == state.RequestDenied:
		return fmt.Sprintf("%s is %s", who, words(r.State))
	default:
		return fmt.Sprintf("your review is in, and %s is %s", who, words(r.State))
	}
}

func assumedLine(got client.Assumed, tunnel string, now time.Time) string {
	line := "assumed " + rolesOf(got.Request)
	if tunnel != "" {
		line += " for tunnel " + tunnel + " alone"
	}
	switch {
	case got.SessionUntil != nil:
		line += "; the session ends at " + when.ClockSeconds(*got.SessionUntil, now)
	case got.Request.AccessUntil != nil:
		line += ", until " + when.ClockSeconds(*got.Request.AccessUntil, now)
	}
	return line
}

// requestEventWords say what happened.
var requestEventWords = map[state.RequestEventKind]string{
	state.RequestEventCreated:     "was made",
	state.RequestEventReviewAsked: "waits for your review",
	state.RequestEventReviewed:    "got a review",
	state.RequestEventApproved:    "was approved",
	state.RequestEventDenied:      "was denied",
	state.RequestEventPromoted:    "was answered with a membership in an access list",
	state.RequestEventAssumable:   "can be assumed now",
	state.RequestEventAssumed:     "was assumed",
	state.RequestEventDropped:     "was dropped",
	state.RequestEventEndsSoon:    "ends soon",
	state.RequestEventExpired:     "expired",
	state.RequestEventDeleted:     "was taken away",
}

func requestEventLine(ev state.RequestEvent, now time.Time) string {
	r := ev.Request
	line := fmt.Sprintf("%s  %s  %s's request for %s %s", when.ClockSeconds(ev.At, now), shortID(r.ID), r.User, rolesOf(r),
		cmp.Or(requestEventWords[ev.Kind], words(ev.Kind)))
	switch {
	case ev.Kind == state.RequestEventReviewed && r.Progress != "":
		line += ": " + r.Progress
	case (ev.Kind == state.RequestEventApproved || ev.Kind == state.RequestEventDenied) && r.ResolveReason != "":
		line += ": " + r.ResolveReason
	case (ev.Kind == state.RequestEventCreated || ev.Kind == state.RequestEventReviewAsked) && r.Reason != "":
		line += ": " + r.Reason
	case ev.Kind == state.RequestEventEndsSoon && r.AccessUntil != nil:
		line += ", at " + when.ClockSeconds(*r.AccessUntil, now)
	}
	return line
}
