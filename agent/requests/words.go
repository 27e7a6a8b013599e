package requests

import (
	"errors"
	"fmt"
	"strings"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/install"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/internal/shell"
)

func askWhom(r state.Request) string {
	if len(r.SuggestedReviewers) == 0 {
		return ""
	}
	return ": " + strings.Join(r.SuggestedReviewers, ", ")
}

func assumeHint(why string, r state.Request, login string) string {
	switch why {
	case "pending":
		return "berth request watch" + strings.Replace(askWhom(r), ": ", ", or ask ", 1)
	case "denied", "expired":
		return shell.Quote(r.AskAgain()...)
	case "promoted":
		return login + " --renew"
	default:
		return shell.Quote("berth", "request", "show", r.ID)
	}
}

// userOf is whose login a target's would be; empty while that is not known.
func userOf(target login.Target) string {
	if target.Profile == nil {
		return ""
	}
	return target.Profile.User
}

// inWords words what went wrong with a request, but for a cluster that is away; login is
// the command that logs in to the session that it went wrong in.
func inWords(err error, r state.Request, login string) error {
	var (
		known     *ipc.Error
		ambiguous *access.AmbiguousIDError
		noID      *access.UnknownIDError
		gone      *cluster.UnknownRequestError
		not       *cluster.NotAssumableError
		noReview  *cluster.CannotReviewError
		cost      *access.CostError
		denied    *cluster.AccessDeniedError
		expired   *cluster.SessionExpiredError
	)
	fail := func(code ipc.Code, message, hint string) error {
		return &ipc.Error{Code: code, Message: message, Hint: hint}
	}
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, sessions.ErrLoginNeeded), errors.As(err, &expired):
		return fail(ipc.CodeLoginNeeded, "no valid session at "+r.Profile, login)
	case errors.As(err, &ambiguous):
		return fail(ipc.CodeInvalid, ambiguous.Error(), "write more of the id")
	case errors.As(err, &noID):
		return fail(ipc.CodeNotFound, noID.Error(), `see "berth request ls"`)
	case errors.As(err, &gone):
		return fail(ipc.CodeNotFound, fmt.Sprintf("access request %s is not there any more: it expired, or was taken away; nothing was done", access.Clean(r.ID, 200)), `see "berth request ls"`)
	case errors.As(err, &not):
		return fail(ipc.CodeDenied, access.Clean(not.Error(), 1000), assumeHint(not.Why, r, login))
	case errors.As(err, &noReview):
		return fail(ipc.CodeDenied, noReview.Error(), fmt.Sprintf("who may: https://%s/web/requests/%s", r.Profile, r.ID))
	case errors.As(err, &cost):
		return fail(ipc.CodeConfirm, cost.Error(), "assume it all the same with --yes, or for one tunnel with --tunnel NAME")
	case errors.As(err, &denied):
		return fail(ipc.CodeDenied, access.Clean(denied.Error(), 1000), fmt.Sprintf("see %q", strings.TrimSpace("berth request show "+r.ID)))
	case errors.Is(err, install.ErrChanged):
		return fail(ipc.CodeFailed, "a new session came in the meantime", "try again")
	default:
		return fail(ipc.CodeFailed, access.Clean(err.Error(), 1000), "")
	}
}
