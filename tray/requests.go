package tray

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/notify"
	"berth/notify/prompt"
)

// startRequest does what a line of the menu says about an access request, if
// that can still be done.
func (f *front) startRequest(ctx context.Context, a Action) {
	r, ok := f.request(a.Request)
	if !ok {
		f.tell("Nothing was done", "The access request is gone.")
		return
	}
	what := plain.Short(asked(r), maxName)
	switch a.Do {
	case doApprove, doDeny:
		f.review(ctx, a, r)
	case doAssume:
		f.assume(ctx, a, what)
		if p, ok := f.profile(r.Profile, r.User); ok && (p.State == state.ProfileExpired || p.State == state.ProfileLoggedOut) {
			f.login(ctx, client.LoginStart{Proxy: r.Profile, User: r.User}) // the agent holds the assume until then
		}
	case doDrop:
		f.try(ctx, a, what+" was not dropped", func(ctx context.Context) error {
			_, err := f.Agent.DropRequests(ctx, []string{a.Request}, a.Tunnel)
			return err
		})
	default: // start has sorted them
	}
}

// review asks first, with all that the menu had no room for.
func (f *front) review(ctx context.Context, a Action, r state.Request) {
	verb := state.VerbDeny
	if a.Do == doApprove {
		verb = state.VerbApprove
	}
	action := state.NoticeAction{Verb: verb, Request: r.ID}
	question, command := f.question(action), commandFor(action)
	f.beside(ctx, a, func(ctx context.Context) func() {
		yes, err := f.confirm(ctx, question, command)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return func() { f.tell("Nothing was decided", sentence(err)) }
		case !yes:
			return nil
		}
		return func() { f.decide(ctx, r.ID, verb == state.VerbApprove) }
	})
}

// decide tells the agent of a decision, which looks whether there is still
// one to be made.
func (f *front) decide(ctx context.Context, id string, approve bool) {
	do := doDeny
	if approve {
		do = doApprove
	}
	f.try(ctx, Action{Do: do, Request: id, Title: "decided"}, "Nothing was decided", func(ctx context.Context) error {
		_, err := f.Agent.DecideRequest(ctx, id, approve, "")
		return err
	})
}

// assume takes a request's roles, and asks when that costs something.
func (f *front) assume(ctx context.Context, a Action, what string) {
	f.try(ctx, a, what+" was not assumed", func(ctx context.Context) error {
		_, err := f.Agent.AssumeRequest(ctx, client.Assume{ID: a.Request, Tunnel: a.Tunnel})
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Code != ipc.CodeConfirm {
			return err
		}
		why := asSentence(strings.ReplaceAll(e.Message, "access request "+a.Request, what))
		yes, err := f.confirm(ctx, prompt.Question{
			Title: "Assume " + what + "?", Text: fmt.Sprintf("%s Assume %s all the same?", why, what), OK: "Assume",
		}, "berth request assume "+plain.Short(a.Request, maxName))
		if err != nil || !yes {
			return err
		}
		_, err = f.Agent.AssumeRequest(ctx, client.Assume{ID: a.Request, Tunnel: a.Tunnel, AcceptEarlierEnd: true})
		return err
	})
}

func (f *front) request(id string) (state.Request, bool) {
	for _, r := range f.snapshot.Requests {
		if r.ID == id {
			return r, true
		}
	}
	return state.Request{}, false
}

// tellRequest tells all about a request: in the window, or in a notification
// with what can be done about it.
func (f *front) tellRequest(ctx context.Context, id string) {
	r, ok := f.request(id)
	if !ok {
		f.tell("Access request", "It is gone.")
		return
	}
	f.inWindow(ctx, PageRequest+url.PathEscape(r.ID), func() {
		title, text := requestDetails(r, time.Now())
		f.tell(title, text, requestButtons(r)...)
	})
}

// requestButtons are what can be done about a request.
func requestButtons(r state.Request) []notify.Action {
	button := func(verb state.Verb, label string, confirm bool) notify.Action {
		return notify.Action{Key: keyOf(state.NoticeAction{Verb: verb, Request: r.ID, Confirm: confirm}), Label: label}
	}
	switch {
	case requestRank(r) == 1:
		return []notify.Action{button(state.VerbApprove, "Approve…", true), button(state.VerbDeny, "Deny…", true)}
	case r.Assumable && !r.Assumed:
		return []notify.Action{button(state.VerbAssume, "Assume", false)}
	case r.Assumed:
		return []notify.Action{button(state.VerbDrop, "Drop", false)}
	default:
		return nil
	}
}

// askAccess asks for roles, in the window or in dialogs.
func (f *front) askAccess(ctx context.Context, a Action) {
	i := slices.IndexFunc(f.snapshot.Profiles, loggedIn)
	if i < 0 {
		f.tell("Nothing was requested", "Log in first.")
		return
	}
	proxy, known := f.snapshot.Profiles[i].Proxy, f.snapshot
	f.inWindow(ctx, PageAsk, func() { f.askHere(ctx, a, proxy, known) })
}

// askHere asks for roles without the window.
func (f *front) askHere(ctx context.Context, a Action, proxy string, known state.Snapshot) {
	f.try(ctx, a, "Nothing was requested", func(ctx context.Context) error {
		can, err := f.Agent.RequestAbilities(ctx, proxy, nil)
		switch {
		case err != nil:
			return err
		case len(can.Roles) == 0:
			return errors.New("your roles let you request no others; for a resource there is \"berth request create --resource\"")
		}
		chosen, err := f.Prompter.Choose(ctx, prompt.Question{
			Title: "Request access", Text: "Which role do you need?", OK: "Next", Choices: can.Roles,
		})
		if err != nil {
			return err
		}
		role := can.Roles[chosen]
		reason, err := f.Prompter.Text(ctx, prompt.Question{
			Title: "Request " + plain.Short(role, maxName), OK: "Request",
			Text: cmp.Or(plain.Short(can.Prompt, maxTold/4), "Why do you need "+plain.Short(role, maxName)+"?"),
		})
		if err != nil {
			return err
		}
		made, err := f.Agent.CreateRequest(ctx, client.NewRequest{Profile: proxy, Roles: []string{role}, Reason: reason})
		if err == nil {
			f.tell("Requested "+plain.Short(role, maxName), "berth notifies you when it is decided.", createdButtons(known, made)...)
		}
		return err
	})
}

// createdButtons are for a request just made; its link is for a reviewer.
func createdButtons(s state.Snapshot, r state.Request) []notify.Action {
	buttons := []notify.Action{{Key: keyOf(state.NoticeAction{Verb: state.VerbDetails, Request: r.ID}), Label: "Details"}}
	if offersLink(s, requestLink(r)) {
		buttons = append(buttons, notify.Action{Key: keyOf(state.NoticeAction{Verb: verbCopyLink, Request: r.ID}), Label: "Copy link"})
	}
	return buttons
}
