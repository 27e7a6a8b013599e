package tray

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/survive"
	"berth/notify"
	"berth/notify/prompt"
)

// beside does what takes time beside run, unless the same is under way. What
// work returns is called by run.
func (f *front) beside(ctx context.Context, a Action, work func(ctx context.Context) func()) {
	if f.running[a] {
		f.Logger.Debug("it is under way", "action", a.Do)
		return
	}
	f.running[a] = true
	f.parts.Go(func() {
		var done func()
		err := survive.Do(f.Logger, string(a.Do), func() error {
			done = work(ctx)
			return nil
		})
		if err != nil {
			done = func() { f.tell("That did not work", sentence(err)) }
		}
		f.results <- func() {
			delete(f.running, a)
			if done != nil {
				done()
			}
		}
	})
}

// try runs work beside run, and shows a notification if it fails.
func (f *front) try(ctx context.Context, a Action, failed string, work func(ctx context.Context) error) {
	f.beside(ctx, a, func(ctx context.Context) func() {
		err := work(ctx)
		return func() { f.answerFailure(ctx, a, failed, err) }
	})
}

// answerFailure shows a notification if an action failed, except by the person's wish.
func (f *front) answerFailure(ctx context.Context, a Action, title string, err error) {
	if err == nil || ctx.Err() != nil || errors.Is(err, prompt.ErrCanceled) {
		return
	}
	f.Logger.Warn("an action failed", "action", a.Do, "err", err)
	f.tell(title, sentence(err))
}

// start does what a line of the menu says, if that is still so.
func (f *front) start(ctx context.Context, a Action) {
	f.Logger.Debug("clicked", "action", a.Do, "tunnel", a.Tunnel, "proxy", a.Proxy)
	if f.env.Away && slices.Contains(ofAgent, a.Do) { // it has gone since the line was drawn
		f.tellAway()
		return
	}
	switch a.Do {
	case doStartAgent:
		f.startAgent(ctx, a)
	case doLogin, doRenew, doCancelLogin, doOpenLogin, doSnooze, doLogout:
		f.startSession(ctx, a)
	case doLoginAt:
		f.loginAt(ctx, a)
	case doGetTSH:
		f.showText(ctx, "berth needs tsh", aboutTSH)
	case doStart, doStop, doRestart, doWhy, doPort, doRemove:
		f.startTunnel(ctx, a)
	case doApprove, doDeny, doAssume, doDrop:
		f.startRequest(ctx, a)
	case doRequest:
		f.tellRequest(ctx, a.Request)
	case doAskAccess:
		f.askAccess(ctx, a)
	case doCopy:
		f.try(ctx, a, "Nothing was copied", func(ctx context.Context) error { return f.Copy(ctx, a.Text) })
	case doAdd:
		f.add(ctx, a)
	case doListAgain:
		f.ask(ctx)
		f.draw()
	case doTell:
		f.tell(a.Title, a.Text)
	case doProblem:
		f.startProblem(ctx, a)
	case doOpenWindow:
		f.try(ctx, a, "The window was not opened", func(ctx context.Context) error { return f.OpenWindow(ctx, a.Text) })
	case doDocs:
		f.report(ctx, PageHelp, "How berth works", f.Docs)
	case doDiagnostics:
		f.diagnose(ctx, a)
	case doSetting:
		f.setting(ctx, a)
	case doOpenConfig:
		f.open(ctx, a, f.ConfigFile)
	case doOpenLogs:
		f.open(ctx, a, f.LogFile)
	case doDoctor:
		f.examine(ctx, a)
	case doOpenReport:
		f.open(ctx, a, f.ReportFile)
	case doAbout:
		f.report(ctx, PageAbout, "berth "+f.Version, f.about())
	default:
		f.Logger.Error("[unexpected] a line of the menu does nothing that is known", "action", a.Do)
	}
}

func (f *front) about() string {
	agent := f.snapshot.Agent
	text := "Databases and Kubernetes clusters on local addresses that never change."
	if f.env.Away {
		return fmt.Sprintf("%s\n%s on %s, no agent.", text, runtime.Version(), runtime.GOOS)
	}
	if agent.Version != f.Version {
		text += fmt.Sprintf("\nThe agent is version %s: restart whichever is older.", agent.Version)
	}
	return fmt.Sprintf("%s\n%s on %s, agent %d.", text, runtime.Version(), runtime.GOOS, agent.PID)
}

// open shows a file or a page. Where that fails, the person gets its path, on
// the clipboard too.
func (f *front) open(ctx context.Context, a Action, path string) {
	f.beside(ctx, a, func(ctx context.Context) func() {
		err := f.Open(ctx, path)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		f.Logger.Warn("not opened", "path", path, "err", err)
		text := sentence(err) + "\n" + path
		if f.Copy(ctx, path) == nil {
			text = sentence(err) + " Copied:\n" + path
		}
		return func() { f.tell("Open it yourself", text) }
	})
}

// diagnose copies what those who help want to know.
func (f *front) diagnose(ctx context.Context, a Action) {
	f.try(ctx, a, "Nothing was copied", func(ctx context.Context) error {
		text, err := f.Diagnostics(ctx)
		if err == nil {
			err = f.Copy(ctx, text)
		}
		if err == nil {
			f.tell("Diagnostics copied", "Paste them where you ask for help. Names of proxies and databases are in them, no secrets.")
		}
		return err
	})
}

func (f *front) startProblem(ctx context.Context, a Action) {
	problems := f.snapshot.Problems
	i := slices.IndexFunc(problems, func(p state.Problem) bool { return problemAction(p) == a })
	if i < 0 { // its words have changed
		i = slices.IndexFunc(problems, func(p state.Problem) bool { return string(p.Code) == a.Text })
	}
	if i < 0 {
		f.tell("Nothing is wrong any more", "The tray's menu shows how things are.")
		return
	}
	f.tellProblem(ctx, PageHome, "", problems[i])
}

func (f *front) startAgent(ctx context.Context, a Action) {
	if !f.env.Away || f.env.Starting {
		return
	}
	f.env.Starting = true
	f.startedBy = time.NewTimer(startWait)
	f.draw()
	f.beside(ctx, a, func(ctx context.Context) func() {
		err := f.StartAgent(ctx)
		if err == nil {
			return nil
		}
		f.Logger.Error("agent not started", "err", err)
		return func() {
			if f.startedBy != nil {
				f.startedBy.Stop()
				f.startedBy = nil
			}
			f.env.Starting = false
			f.tell("The agent has not started", sentence(err))
		}
	})
}

// profile returns the profile of a user at a proxy, where an empty user means any.
func (f *front) profile(proxy, user string) (state.Profile, bool) {
	i := slices.IndexFunc(f.snapshot.Profiles, func(p state.Profile) bool {
		return p.Proxy == proxy && (user == "" || p.User == user)
	})
	if i < 0 {
		return state.Profile{}, false
	}
	return f.snapshot.Profiles[i], true
}

func (f *front) startSession(ctx context.Context, a Action) {
	p, ok := f.profile(a.Proxy, a.User)
	if !ok && a.Do != doLogin { // a first login has none yet
		f.tell("Nothing was done", fmt.Sprintf("The profile of %s is gone.", hostOf(a.Proxy)))
		return
	}
	switch a.Do {
	case doLogin:
		f.login(ctx, client.LoginStart{Proxy: a.Proxy, User: a.User})
	case doRenew:
		f.login(ctx, client.LoginStart{Proxy: a.Proxy, User: a.User, Renew: true})
	case doCancelLogin:
		f.try(ctx, a, "The login goes on", func(ctx context.Context) error { return f.Agent.CancelLogin(ctx, a.Proxy, a.User) })
	case doOpenLogin:
		f.try(ctx, a, "The login page was not opened", func(ctx context.Context) error {
			return f.Browse(ctx, p.Login.URL, nil, a.Proxy)
		})
	case doSnooze:
		f.try(ctx, a, "The reminder was not snoozed", func(ctx context.Context) error {
			_, err := f.Agent.SnoozeRenewal(ctx, a.Proxy, a.User)
			return err
		})
	case doLogout:
		f.logout(ctx, a, p)
	default: // start has sorted them
	}
}

// logout asks first: one cannot take it back.
func (f *front) logout(ctx context.Context, a Action, p state.Profile) {
	command := "berth logout " + hostOf(p.Proxy)
	if slices.ContainsFunc(f.snapshot.Profiles, func(o state.Profile) bool { return o.Proxy == p.Proxy && o.Home != p.Home }) {
		command += " --user=" + plain.Short(p.User, maxName)
	}
	f.try(ctx, a, "You are still logged in", func(ctx context.Context) error {
		text := fmt.Sprintf("End the session of %s at %s? Tunnels keep their addresses and wait for the next login.",
			plain.Short(p.User, maxName), plain.Short(hostOf(p.Proxy), maxName))
		yes, err := f.confirm(ctx, prompt.Question{Title: "Log out", Text: text, OK: "Log out"}, command)
		if err != nil || !yes {
			return err
		}
		_, err = f.Agent.Logout(ctx, a.Proxy, a.User)
		return err
	})
}

func (f *front) tunnel(name string) (state.Tunnel, bool) {
	i := slices.IndexFunc(f.snapshot.Tunnels, func(t state.Tunnel) bool { return t.Name == name })
	if i < 0 {
		return state.Tunnel{}, false
	}
	return f.snapshot.Tunnels[i], true
}

func (f *front) startTunnel(ctx context.Context, a Action) {
	t, ok := f.tunnel(a.Tunnel)
	if !ok {
		f.tell("Nothing was done", fmt.Sprintf("The tunnel %s is gone.", plain.Short(a.Tunnel, maxName)))
		return
	}
	name := plain.Short(t.Name, maxName)
	switch a.Do {
	case doStart:
		f.try(ctx, a, name+" was not started", func(ctx context.Context) error { return f.Agent.StartTunnel(ctx, a.Tunnel) })
	case doStop:
		f.try(ctx, a, name+" was not stopped", func(ctx context.Context) error { return f.Agent.StopTunnel(ctx, a.Tunnel) })
	case doRestart:
		f.try(ctx, a, name+" was not restarted", func(ctx context.Context) error { return f.Agent.RestartTunnel(ctx, a.Tunnel) })
	case doWhy:
		if t.Problem == nil {
			f.tell(name, "Nothing is wrong with it.")
			return
		}
		f.tellProblem(ctx, PageTunnel+url.PathEscape(t.Name), name+": ", *t.Problem)
	case doPort:
		f.changePort(ctx, a, t)
	case doRemove:
		f.try(ctx, a, name+" was not removed", func(ctx context.Context) error {
			text := fmt.Sprintf("Remove %s? Whoever connects to %s gets no answer any longer. The config loses the tunnel.", name, t.Address)
			yes, err := f.confirm(ctx, prompt.Question{Title: "Remove " + name, Text: text, OK: "Remove"}, "berth tunnel remove "+name)
			if err != nil || !yes {
				return err
			}
			return f.Agent.RemoveTunnel(ctx, a.Tunnel)
		})
	default: // start has sorted them
	}
}

// changePort asks for a tunnel's next port.
func (f *front) changePort(ctx context.Context, a Action, t state.Tunnel) {
	name := plain.Short(t.Name, maxName)
	f.try(ctx, a, name+" keeps its port", func(ctx context.Context) error {
		text := fmt.Sprintf("Which port shall %s have instead of %d?", name, t.Port)
		if t.Problem != nil && t.Problem.Code == state.CodePortInUse {
			text = plain.Short(t.Problem.Text, maxTold/4) + "\n" + text
		}
		for {
			answer, err := f.Prompter.Text(ctx, prompt.Question{
				Title: "Change the port of " + name, Text: text, OK: "Change", Initial: strconv.Itoa(t.Port + 1),
			})
			if err != nil {
				return err
			}
			port, err := strconv.Atoi(answer)
			if err != nil || port < 1 || port > 65535 {
				text = fmt.Sprintf("%q is no port: it takes a number from 1024 to 65535.", plain.Short(answer, maxName))
				continue
			}
			now, err := f.Agent.Tunnel(ctx, t.Name) // what else was changed while the dialog was open stays
			if err != nil {
				return err
			}
			now.Port = port
			changed, err := f.Agent.ChangeTunnel(ctx, t.Name, now.TunnelSpec)
			if err == nil {
				f.tell(name+" is at a new port", "Connect to "+net.JoinHostPort("127.0.0.1", strconv.Itoa(changed.Port))+" from now on.")
			}
			return err
		}
	})
}

func (f *front) tellProblem(ctx context.Context, page, prefix string, p state.Problem) {
	text := p.Text
	if p.Action != "" {
		text += "\n" + p.Action
	}
	f.report(ctx, page, prefix+p.Title, text)
}

func (f *front) add(ctx context.Context, a Action) {
	spec := state.TunnelSpec{
		Name: freeName(a.Resource, f.snapshot.Tunnels), Kind: a.Kind, Cluster: a.Cluster, Resource: a.Resource, DBUser: a.DBUser,
	}
	f.beside(ctx, a, func(ctx context.Context) func() {
		added, err := f.Agent.AddTunnel(ctx, spec)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			f.Logger.Warn("tunnel not added", "tunnel", spec.Name, "err", err)
			return func() { f.tell("No tunnel to "+plain.Short(a.Resource, maxName), sentence(err)) }
		}
		return func() {
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(added.Port))
			f.tell("Added "+added.Name, fmt.Sprintf("%s is at %s from now on.", plain.Short(a.Resource, maxName), address))
		}
	})
}

// tell answers a person.
func (f *front) tell(title, text string, buttons ...notify.Action) {
	f.notes.tell(context.Background(), notify.Notification{ID: answerID, Title: title, Body: text, Group: "answer", Actions: buttons})
}

// stepError is an error of the program around the tray that knows what to do
// next.
type stepError interface {
	error
	NextStep() string
}

// sentence is an error as a person reads it, with the next step.
func sentence(err error) string {
	text := asSentence(err.Error())
	if e, ok := errors.AsType[*client.Error](err); ok && e.Hint != "" {
		text += " " + asSentence(e.Hint)
	}
	if e, ok := errors.AsType[*prompt.UnavailableError](err); ok && e.Hint != "" {
		text += " " + asSentence(e.Hint)
	}
	if e, ok := errors.AsType[stepError](err); ok && e.NextStep() != "" {
		text += " " + asSentence(e.NextStep())
	}
	return text
}

func asSentence(s string) string {
	s = plain.Short(s, maxTold/2)
	r, size := utf8.DecodeRuneInString(s)
	if s = string(unicode.ToUpper(r)) + s[size:]; !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	return s
}
