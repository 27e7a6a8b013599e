package tray

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/notify"
	"berth/notify/prompt"
)

// act does what a pressed button of a notification says.
func (f *front) act(ctx context.Context, p press) {
	a, ok := actionOf(p.key)
	if !ok || p.key == notify.DefaultKey { // a text without buttons
		f.Logger.Warn("a button means nothing", "notification", p.id)
		return
	}
	f.Logger.Debug("pressed", "notification", p.id, "verb", a.Verb)
	if f.lacksAgent(p.id, a) {
		return
	}
	f.notes.settle(p.id)
	if a.Confirm {
		f.confirmed(ctx, p.id, a)
		return
	}
	f.do(ctx, p.id, a)
}

// lacksAgent says so where a button is about what only an agent knows, and none answers.
// The notification then comes back with the agent.
func (f *front) lacksAgent(id string, a state.NoticeAction) bool {
	if !f.env.Away || slices.Contains([]state.Verb{verbReport, verbCopyLink, verbStartAgent, state.VerbDismiss}, a.Verb) {
		return false
	}
	f.notes.again(id)
	f.tellAway()
	return true
}

// confirmed asks for a confirmation before it acts.
func (f *front) confirmed(ctx context.Context, id string, a state.NoticeAction) {
	key := Action{Do: doTell, Title: id, Text: keyOf(a)}
	question := f.question(a)
	f.beside(ctx, key, func(ctx context.Context) func() {
		yes, err := f.confirm(ctx, question, commandFor(a))
		return func() {
			switch {
			case err != nil && ctx.Err() == nil:
				f.notes.again(id)
				f.tell("Nothing was done", sentence(err))
			case yes:
				if !f.lacksAgent(id, a) {
					f.do(ctx, id, a)
				}
			default:
				f.notes.again(id) // not decided: it may be shown again
			}
		}
	})
}

// do makes the call that a verb names. The agent looks at the true state again
// before it does anything.
func (f *front) do(ctx context.Context, id string, a state.NoticeAction) {
	switch a.Verb {
	case state.VerbLogin:
		f.start(ctx, Action{Do: doLogin, Proxy: a.Proxy, User: a.User})
	case state.VerbRenew:
		f.start(ctx, Action{Do: doRenew, Proxy: a.Proxy, User: a.User})
	case state.VerbSnooze:
		f.start(ctx, Action{Do: doSnooze, Proxy: a.Proxy, User: a.User})
	case state.VerbRestart:
		f.start(ctx, Action{Do: doRestart, Tunnel: a.Tunnel})
	case state.VerbAssume:
		f.start(ctx, Action{Do: doAssume, Request: a.Request, Tunnel: a.Tunnel})
	case state.VerbDrop:
		f.start(ctx, Action{Do: doDrop, Request: a.Request, Tunnel: a.Tunnel})
	case state.VerbApprove, state.VerbDeny:
		// Whatever is to be confirmed was confirmed.
		f.decide(ctx, a.Request, a.Verb == state.VerbApprove)
	case verbReport:
		f.start(ctx, Action{Do: doOpenReport})
	case verbCopyLink:
		f.start(ctx, Action{Do: doCopy, Text: requestLink(state.Request{ID: a.Request}).String()})
	case verbStartAgent:
		f.start(ctx, Action{Do: doStartAgent})
	case state.VerbDetails:
		f.details(ctx, id, a)
		f.dismiss(ctx, id)
	case state.VerbDismiss:
		f.dismiss(ctx, id)
	default:
		f.Logger.Error("[unexpected] a notification's button does nothing that is known", "verb", a.Verb)
		f.tell("Nothing was done", fmt.Sprintf("The agent is newer than the tray, which does not know how to %s: restart the tray.", words(a.Verb)))
	}
}

// dismiss closes a notice in every front end, through the agent.
func (f *front) dismiss(ctx context.Context, id string) {
	f.notes.settle(id)
	if !slices.ContainsFunc(f.snapshot.Notices, func(n state.Notice) bool { return n.ID == id }) {
		return // the tray's own, or over
	}
	f.beside(ctx, Action{Do: doTell, Title: id}, func(ctx context.Context) func() {
		if err := f.Agent.DismissNotice(ctx, id); err != nil && ctx.Err() == nil {
			f.Logger.Warn("notice not dismissed", "notice", id, "err", err)
		}
		return nil
	})
}

// details tells more about what a notice is about.
func (f *front) details(ctx context.Context, id string, a state.NoticeAction) {
	switch {
	case a.Tunnel != "":
		t, ok := f.tunnel(a.Tunnel)
		if !ok || t.Problem == nil {
			f.tell(plain.Short(a.Tunnel, maxName), "Nothing is wrong with it any more.")
			return
		}
		f.tellProblem(ctx, PageTunnel+url.PathEscape(t.Name), plain.Short(t.Name, maxName)+": ", *t.Problem)
	case a.Request != "":
		f.tellRequest(ctx, a.Request)
	default:
		if p, ok := f.problemOf(id); ok {
			f.tellProblem(ctx, PageHome, "", p)
			return
		}
		p, ok := f.profile(a.Proxy, a.User)
		if !ok {
			f.tell("Nothing is wrong any more", "The tray's menu shows how things are.")
			return
		}
		f.tell(profileLabel(p, time.Now()), "Choose Log in or Renew now under it in the tray's menu.")
	}
}

// problemOf returns the problem that a notice is about; false means that it is about none,
// or that the problem is over.
func (f *front) problemOf(notice string) (state.Problem, bool) {
	n := slices.IndexFunc(f.snapshot.Notices, func(n state.Notice) bool { return n.ID == notice })
	if n < 0 {
		return state.Problem{}, false
	}
	i := slices.IndexFunc(f.snapshot.Problems, func(p state.Problem) bool {
		return p.Title == f.snapshot.Notices[n].Title && p.Text == f.snapshot.Notices[n].Body
	})
	if i < 0 {
		return state.Problem{}, false
	}
	return f.snapshot.Problems[i], true
}

// question returns the confirmation of an action that needs one.
func (f *front) question(a state.NoticeAction) prompt.Question {
	verb := capital(words(a.Verb))
	q := prompt.Question{Title: verb + "?", OK: verb}
	switch {
	case a.Request != "":
		r, ok := f.request(a.Request)
		if !ok {
			q.Text = verb + " this access request?"
			return q
		}
		who, what := plain.Short(r.User, maxName), plain.Short(asked(r), maxLabel)
		q.Title = fmt.Sprintf("%s %s for %s?", verb, what, who)
		q.Text = fmt.Sprintf("%s the request of %s for %s?", verb, who, what)
		if reason := plain.Short(r.Reason, maxTold/4); reason != "" {
			q.Text += "\nReason: “" + reason + "”"
		}
	case a.Tunnel != "":
		q.Text = fmt.Sprintf("%s %s?", verb, plain.Short(a.Tunnel, maxName))
	default:
		q.Text = fmt.Sprintf("%s at %s?", verb, plain.Short(hostOf(a.Proxy), maxName))
	}
	return q
}

// commandFor is the command that does the same as an action.
func commandFor(a state.NoticeAction) string {
	switch {
	case a.Request != "":
		return fmt.Sprintf("berth request %s %s", a.Verb, a.Request)
	case a.Tunnel != "":
		return fmt.Sprintf("berth tunnel %s %s", a.Verb, a.Tunnel)
	default:
		return fmt.Sprintf("berth %s %s", a.Verb, hostOf(a.Proxy))
	}
}

func capital(s string) string {
	if s == "" {
		return ""
	}
	return asSentence(s)[:len(s)]
}
