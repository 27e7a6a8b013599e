package requests

import (
	"strings"

	"berth/agent/ipc"
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

func assumeHint(why string, r state.Request) string {
	switch why {
	case "pending":
		return "berth request watch" + strings.Replace(askWhom(r), ": ", ", or ask ", 1)
	case "denied", "expired":
		return shell.Quote(r.AskAgain()...)
	case "promoted":
		return sessions.LoginCommand(r.Profile, "") + " --renew"
	default:
		return shell.Quote("berth", "request", "show", r.ID)
	}
}

// errNoSession is the answer while there is no valid session at all.
func errNoSession() error {
	return &ipc.Error{Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand("", "")}
}
