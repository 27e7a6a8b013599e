package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/agent/access"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/link"
	"berth/internal/logfile"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/shell"
	"berth/notify/prompt"
	"berth/tray"
)

// linkAgent is what links can have the agent do, once a person has agreed, besides
// a login, which is the tray's.
type linkAgent interface {
	Snapshot(ctx context.Context) (state.Snapshot, error)
	AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error)
	AssumeRequest(ctx context.Context, a client.Assume) (client.Assumed, error)
	DecideRequest(ctx context.Context, id string, approve bool, reason string) (state.Request, error)
}

// linkFollower follows one link.
type linkFollower struct {
	*app
	link  link.Link
	agent linkAgent
	desk  tray.Config // its dialogs, browser, clipboard and window
	show  func(context.Context) error
	known state.Snapshot // what the agent says before anything is asked; empty without an agent
}

// followLink does what a link from outside wants, if a person at the desktop agrees.
func (a *app) followLink(ctx context.Context, raw string) error {
	l, err := link.Parse(raw)
	if err != nil {
		return usageError{err}
	}
	if err := a.policy.Load().Allows(config.FeatureLinks); err != nil {
		return err
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if err := p.MakeDirs(); err != nil {
		return err
	}
	gate, asked := linkGate{folder: p.StateDir}, time.Now()
	leave, err := gate.enter(asked)
	if err != nil {
		return err
	}
	defer leave()
	log, closeLog := logfile.New(filepath.Join(filepath.Dir(p.LogFile), "tray.log"), slog.LevelInfo, nil, nil)
	defer closeLog()
	c := client.Dial(p.Socket)
	defer func() { _ = c.Close() }() // its calls are over
	f := &linkFollower{
		app: a, link: l, agent: c, desk: a.trayConfig(p, c, log),
		show: func(ctx context.Context) error { return a.showBerth(ctx, p) },
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	open, wait := a.windowOpener(serving, p, c, log)
	if a.policy.Load().Allows(config.FeatureWindow) == nil {
		f.desk.OpenWindow = open
	}
	err = f.follow(ctx)
	if _, ok := errors.AsType[*prompt.UnavailableError](err); ok {
		return errors.Join(err, gate.forget(asked)) // no person was asked
	}
	if err != nil {
		return err
	}
	leave() // the next link may ask while this one's window is open
	wait()
	return nil
}

// showBerth has the tray show itself, and starts it where none runs.
func (a *app) showBerth(ctx context.Context, p paths.Paths) error {
	unlock, free, err := lockTray(p)
	if err != nil {
		return err
	}
	if !free {
		return ringBell(ctx, p.TraySocket())
	}
	unlock()
	self, err := ownProgram()
	if err != nil {
		return err
	}
	return startDetached(ctx, self, "tray", "--quiet")
}

// follow asks, then acts. What fails is shown: whoever clicked a link sees no
// terminal.
func (f *linkFollower) follow(ctx context.Context) error {
	f.known, _ = f.agent.Snapshot(ctx) // an agent that does not answer is met again below
	err := f.desk.Prompter.Confirm(ctx, f.question())
	if errors.Is(err, prompt.ErrCanceled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("a link wants to be confirmed: %w", err)
	}
	err = f.act(ctx)
	if err == nil || errors.Is(err, prompt.ErrCanceled) || ctx.Err() != nil {
		return ctx.Err()
	}
	text := "berth could not " + f.link.Wish() + ":\n" + cleanLines(err.Error())
	if hint := hintOf(err); hint != "" {
		text += "\n" + cleanLines(hint)
	}
	f.desk.Logger.Warn("a link was not followed", "verb", f.link.Verb, "err", err)
	if told := f.report(ctx, "berth", text); told != nil {
		return errors.Join(err, told)
	}
	return err
}

// question asks whether to do what the link wants. The words are berth's own: of the
// link's, names alone are in it.
func (f *linkFollower) question() prompt.Question {
	lines := []string{
		"A link from outside, such as one on a web page or in a message, wants berth to " + f.link.Wish() + ".",
		f.caution(), "If you did not click it, ignore it: nothing has happened.",
	}
	return prompt.Question{
		Title:  "A link wants berth to act",
		Text:   strings.Join(slices.DeleteFunc(lines, func(s string) bool { return s == "" }), "\n"),
		OK:     map[link.Verb]string{link.Login: "Log in", link.Add: "Add", link.Assume: "Assume"}[f.link.Verb],
		Cancel: "Ignore",
	}
}

// caution is what a person should know before they agree; empty where that is
// nothing.
func (f *linkFollower) caution() string {
	known := func(p state.Profile) bool { return config.SameProxy(p.Proxy, f.link.Proxy) }
	if f.link.Verb == link.Login && !slices.ContainsFunc(f.known.Profiles, known) {
		return "You have never logged in there from here. A false address could be after your password."
	}
	if f.link.Verb == link.Add {
		return f.through()
	}
	if r, err := access.Find(f.known.Requests, f.link.ID); err == nil && f.link.Verb == link.Assume {
		return fmt.Sprintf("%s asked for %s at %s: %s", plain.Short(r.User, 60), plain.Short(rolesOf(r), 80), r.Profile, plain.Short(r.Reason, 100))
	}
	return ""
}

// through names the proxies over which a new tunnel to the link's cluster could go.
func (f *linkFollower) through() string {
	var proxies []string
	for _, p := range f.known.Profiles {
		if p.Cluster == f.link.Cluster {
			proxies = append(proxies, p.Proxy)
		}
	}
	for _, t := range f.known.Tunnels { // a leaf's, or of a session that selects another cluster
		if t.Cluster == f.link.Cluster && t.Profile != "" {
			proxies = append(proxies, t.Profile)
		}
	}
	if len(proxies) == 0 {
		return "berth knows no proxy of that cluster yet: make sure that it is one of yours."
	}
	slices.Sort(proxies)
	return "It goes through " + strings.Join(slices.Compact(proxies), " or ") + "."
}

// act does what the link wants.
func (f *linkFollower) act(ctx context.Context) error {
	l := f.link
	switch l.Verb {
	case link.Open:
		if f.desk.OpenWindow != nil {
			return f.desk.OpenWindow(ctx, tray.PageHome)
		}
		return f.show(ctx)
	case link.Login:
		return f.logIn(ctx)
	case link.Tunnel:
		return f.showTunnel(ctx)
	case link.Add:
		_, err := f.agent.AddTunnel(ctx, state.TunnelSpec{
			Name: l.Name, Kind: state.Kind(l.Kind), Cluster: l.Cluster, Resource: l.Resource, DBUser: l.User, DBName: l.Database,
		})
		return err
	case link.Request:
		return f.showRequest(ctx)
	case link.Assume:
		return f.assume(ctx)
	case link.Recording:
		line := shell.Quote("berth", "recording", "play", l.ID, "--from", l.At.String())
		return f.report(ctx, "Session recording", "Play it in a terminal:\n"+line)
	}
	return fmt.Errorf("[unexpected] no way to follow a link to %s", l.Verb)
}

// report shows a text that can be copied, or prints it where no dialog can be shown.
func (f *linkFollower) report(ctx context.Context, title, text string) error {
	err := f.desk.Prompter.Report(ctx, prompt.Question{Title: title, Text: text, OK: "Copy", Cancel: "Close"})
	switch {
	case errors.Is(err, prompt.ErrCanceled):
		return nil
	case err != nil:
		return err
	}
	_, command, found := strings.Cut(text, "terminal:\n")
	if !found {
		command = text
	}
	return f.desk.Copy(ctx, command)
}

// printed is what a command would print.
func (f *linkFollower) printed(do func(a *app) error) (string, error) {
	var out bytes.Buffer
	quiet := *f.app
	quiet.out, quiet.color, quiet.terminal = &out, false, false
	err := do(&quiet)
	return out.String(), err
}

// logIn logs in. A session that is there already is left alone, which would look as if
// nothing had happened.
func (f *linkFollower) logIn(ctx context.Context) error {
	said, err := tray.LogIn(ctx, f.desk, f.known, f.link.Proxy) // of the link, it gets the address alone
	valid := func(p state.Profile) bool {
		return config.SameProxy(p.Proxy, f.link.Proxy) && (p.State == state.ProfileValid || p.State == state.ProfileExpiring)
	}
	if err != nil || !slices.ContainsFunc(f.known.Profiles, valid) {
		return err
	}
	return f.report(ctx, "Logged in", plain.Line(said))
}

func (f *linkFollower) showTunnel(ctx context.Context) error {
	s, err := f.agent.Snapshot(ctx)
	if err != nil {
		return err
	}
	list, err := pick(s.Tunnels, f.link.Name)
	if err != nil {
		return err
	}
	if f.desk.OpenWindow != nil {
		return f.desk.OpenWindow(ctx, tray.PageTunnel+f.link.Name)
	}
	s.Problems = problemsFor(s.Problems, f.link.Name)
	text, err := f.printed(func(a *app) error { return a.printTunnel(list[0], s) })
	if err != nil {
		return err
	}
	return f.report(ctx, "Tunnel "+f.link.Name, text)
}

// showRequest shows an access request, and asks for a decision where it waits for
// one of this person's.
func (f *linkFollower) showRequest(ctx context.Context) error {
	var err error
	if f.known, err = f.agent.Snapshot(ctx); err != nil {
		return err
	}
	r, err := access.Find(f.known.Requests, f.link.ID)
	if err != nil {
		return withHint(fmt.Errorf("there is no access request %s that you may see", f.link.ID), `see "berth request ls"`)
	}
	if f.desk.OpenWindow != nil {
		return f.desk.OpenWindow(ctx, tray.PageRequest+r.ID)
	}
	text, err := f.printed(func(a *app) error { return a.printRequest(r, time.Now()) })
	if err != nil {
		return err
	}
	if err := f.report(ctx, "Access request", text); err != nil || !r.Reviewable {
		return err
	}
	choice, err := f.desk.Prompter.Choose(ctx, prompt.Question{
		Title: "Decide an access request", OK: "Decide",
		Text:    fmt.Sprintf("%s asks for %s: %s", plain.Short(r.User, 60), plain.Short(rolesOf(r), 100), plain.Short(r.Reason, 150)),
		Choices: []string{"Leave it", "Approve", "Deny"},
	})
	if err != nil || choice == 0 {
		return err
	}
	_, err = f.agent.DecideRequest(ctx, r.ID, choice == 1, "")
	return err
}

// assume takes a request's roles, after one more question where the session would
// end earlier.
func (f *linkFollower) assume(ctx context.Context) error {
	want := client.Assume{ID: f.link.ID, Tunnel: f.link.Tunnel}
	_, err := f.agent.AssumeRequest(ctx, want)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == ipc.CodeConfirm {
		question := prompt.Question{Title: "Assume it all the same?", Text: plain.Line(e.Message) + ".", OK: "Assume", Cancel: "Leave it"}
		if err := f.desk.Prompter.Confirm(ctx, question); err != nil {
			return err
		}
		want.AcceptEarlierEnd = true
		_, err = f.agent.AssumeRequest(ctx, want)
	}
	return err
}
