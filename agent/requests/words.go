package requests

import (
	"strings"

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

// noSession is the answer while there is no valid session at all.
func (rs *Requests) noSession() error {
	target := rs.holdTarget("")
	return &ipc.Error{
		Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(target.Proxy, userOf(target)),
	}
}

// userOf is whose login a target's would be; empty while that is not known.
func userOf(target login.Target) string {
	if target.Profile == nil {
		return ""
	}
	return target.Profile.User
}
