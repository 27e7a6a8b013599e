package tray

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/notify"
	"berth/notify/prompt"
)

// tries is how often a person may mistype what a login asks for.
const tries = 3

// login logs in at a proxy, or takes part in a login that runs there already:
// pages open in the browser, secrets are asked for in a window, and go to the
// agent alone. A wrong one is asked for again.
func (f *front) login(ctx context.Context, start client.LoginStart) {
	proxy := start.Proxy
	if p, ok := f.profile(proxy, ""); ok { // named, so that it is one login wherever it was clicked
		start.User = cmp.Or(start.User, p.User)
	}
	l := newLogin(f.Config, f.snapshot, start)
	l.unopened = func(err error, _ context.CancelCauseFunc) {
		f.tell("The login page was not opened", sentence(err)+" Choose \"Open the login page\" in the tray's menu, or run berth login.")
	}
	if !l.known {
		l.tap = func(wanted bool) { f.tellTap(l.place, wanted) }
	}
	f.held[proxy] = heldAt(f.snapshot, proxy)
	a := Action{Do: doLogin, Proxy: proxy, User: start.User}
	f.beside(ctx, a, func(ctx context.Context) func() {
		err := l.run(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, prompt.ErrCanceled):
			return nil
		case err != nil:
			f.Logger.Warn("not logged in", "profile", proxy, "err", err)
			return func() { f.tell("Not logged in", sentence(err), ownLogin(start)) }
		}
		if l.done.Kind != state.LoginDone {
			return nil // another front end's login, which is told there
		}
		return func() { f.tellLoggedIn(l.done) }
	})
}

// LogIn logs in at a proxy with the tray's dialogs, where no tray need be shown: of cfg
// it uses Logger, Agent, Prompter and Browse. A page that cannot be opened is an error.
// said is how the login ended, in the agent's words.
func LogIn(ctx context.Context, cfg Config, s state.Snapshot, proxy string) (said string, err error) {
	l := newLogin(cfg, s, client.LoginStart{Proxy: proxy})
	l.unopened = func(err error, leave context.CancelCauseFunc) { leave(err) }
	err = l.run(ctx)
	return l.done.Text, err
}

// ownLogin is a button that tries a login again.
func ownLogin(start client.LoginStart) notify.Action {
	return notify.Action{Key: keyOf(state.NoticeAction{Verb: state.VerbLogin, Proxy: start.Proxy, User: start.User}), Label: "Log in"}
}

// tellLoggedIn says quietly that a login has succeeded, and what went on.
func (f *front) tellLoggedIn(done client.LoginEvent) {
	title := "Logged in"
	if done.Deadline != nil {
		title += until(done.Deadline, time.Now())
	}
	if n := f.held[done.Proxy]; n > 0 {
		title += ": " + plural(n, "client went on", "clients went on")
	}
	delete(f.held, done.Proxy)
	f.notes.tell(context.Background(), notify.Notification{
		ID: "login", Title: title, Body: plain.Short(asSentence(done.Text), maxTold), Group: "login", Urgency: notify.UrgencyLow,
	})
}

// tapID is the notification that asks for a touch of the security key.
const tapID = "tap"

// tellTap asks for a touch of the security key, or withdraws that.
func (f *front) tellTap(place string, wanted bool) {
	if !wanted {
		f.notes.withdraw(tapID)
		return
	}
	f.notes.tell(context.Background(), notify.Notification{
		ID: tapID, Title: "Touch your security key", Body: "The login to " + plain.Short(place, maxLabel) + " waits for it.",
		Group: string(state.NoticeTap), Urgency: notify.UrgencyCritical,
	})
}

// countHeld notes how many clients each login under way would release.
func (f *front) countHeld() {
	for _, p := range f.snapshot.Profiles {
		if p.Login.InProgress {
			f.held[p.Proxy] = heldAt(f.snapshot, p.Proxy)
		}
	}
}

// heldAt counts the clients that wait for a login at a proxy: none helps those that wait
// for a PIN.
func heldAt(s state.Snapshot, proxy string) (n int64) {
	for _, t := range s.Tunnels {
		if t.Profile == proxy && waitsFor(t) != wantsPIN {
			n += t.Waiting
		}
	}
	return n
}

// loginAt asks for a proxy's address, and logs in there.
func (f *front) loginAt(ctx context.Context, a Action) {
	f.beside(ctx, a, func(ctx context.Context) func() {
		answer, err := f.Prompter.Text(ctx, prompt.Question{
			Title: "Log in to Teleport", OK: "Log in",
			Text: "The address of your Teleport cluster, such as teleport.example.com.\nIt is what you open in the browser.",
		})
		switch {
		case ctx.Err() != nil, errors.Is(err, prompt.ErrCanceled):
			return nil
		case err != nil:
			return func() { f.tell("Not logged in", sentence(err)) }
		}
		if proxy := proxyOf(answer); proxy != "" {
			return func() { f.login(ctx, client.LoginStart{Proxy: proxy}) }
		}
		return nil
	})
}

// proxyOf is the proxy's address in what a person typed or pasted, which may be
// the address of a page.
func proxyOf(typed string) string {
	typed = strings.TrimSpace(typed)
	if u, err := url.Parse(typed); err == nil && u.Host != "" {
		return u.Host
	}
	host, _, _ := strings.Cut(typed, "/")
	return host
}

// whoWaits says which programs wait for a login at a proxy; empty when none
// does.
func whoWaits(s state.Snapshot, proxy string) string {
	var clients int64
	var who, where string
	for _, t := range s.Tunnels {
		if t.Profile != proxy || t.Waiting == 0 || waitsFor(t) == wantsPIN {
			continue
		}
		clients += t.Waiting
		if who == "" {
			who, where = cmp.Or(plain.Short(t.WaitingClient, maxName), "A client"), plain.Short(t.Name, maxName)
		}
	}
	if clients == 0 {
		return ""
	}
	text := fmt.Sprintf("%s waits for %s", who, where)
	if clients > 1 {
		text += ", and " + plural(clients-1, "more client", "more clients")
	}
	return text + "."
}

// login is the tray's part in one login.
type login struct {
	Config
	// unopened is called when the login's page was not opened; leave ends the login.
	unopened func(err error, leave context.CancelCauseFunc)
	// tap shows that the security key is to be touched, and withdraws that; nil where a
	// notice of the agent's does, or nothing can.
	tap         func(wanted bool)
	start       client.LoginStart
	known       bool   // there is a profile, which the agent's notices are about
	place, user string // what the dialogs name
	waits       string // who waits for the login; may be empty
	done        client.LoginEvent

	parts sync.WaitGroup
	mu    sync.Mutex // guards what follows
	// asking closes the dialog of a prompt.
	asking map[int64]context.CancelFunc
	note   string // what was wrong the last time
	typed  bool   // a person has typed something this time
	// next is what the next prompt for a password is answered with: the dialog
	// that it was typed in asked for another login than the one under way.
	next    string
	restart bool
}

func newLogin(cfg Config, s state.Snapshot, start client.LoginStart) *login {
	l := &login{Config: cfg, start: start, asking: make(map[int64]context.CancelFunc)}
	l.place, l.user, l.waits = hostOf(start.Proxy), start.User, whoWaits(s, start.Proxy)
	if i := slices.IndexFunc(s.Profiles, func(p state.Profile) bool { return config.SameProxy(p.Proxy, start.Proxy) }); i >= 0 {
		l.known = true
		l.place, l.user = cmp.Or(s.Profiles[i].Cluster, l.place), cmp.Or(l.user, s.Profiles[i].User)
	}
	return l
}

// run logs in, and once more when a person has mistyped.
func (l *login) run(ctx context.Context) error {
	for wrong := 0; ; {
		l.typed = false
		user := l.start.User
		err := l.once(ctx)
		if l.restart {
			l.restart = false
			if err := l.Agent.CancelLogin(ctx, l.start.Proxy, user); err != nil {
				l.Logger.Debug("no login is left to cancel", "profile", l.start.Proxy, "err", err)
			}
			continue
		}
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Code != ipc.CodeWrongSecret {
			return err
		}
		if wrong++; wrong == tries || !l.typed && wrong > 1 {
			return err
		}
		l.note = "Wrong user name, password or code: try again."
	}
}

// errRestart ends a login that another takes the place of.
var errRestart = errors.New("the login begins anew")

func (l *login) once(ctx context.Context) error {
	defer l.end()
	if l.tap != nil {
		defer l.tap(false)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := l.Agent.Login(ctx, l.start, func(e client.LoginEvent, answer func(string)) error {
		l.step(ctx, cancel, e, answer)
		return nil
	})
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errRestart):
		return nil
	case errors.Is(cause, prompt.ErrCanceled):
		// Whoever closes the dialog does not want to log in now; others who
		// take part in it may.
		l.Logger.Info("login left", "profile", l.start.Proxy)
		return cause
	case cause != nil && !errors.Is(cause, context.Canceled):
		return cause
	}
	return err
}

// end closes the dialogs that are open.
func (l *login) end() {
	l.mu.Lock()
	for _, cancel := range l.asking {
		cancel()
	}
	l.mu.Unlock()
	l.parts.Wait()
}

// step takes one step of a login.
func (l *login) step(ctx context.Context, leave context.CancelCauseFunc, e client.LoginEvent, answer func(string)) {
	if l.tap != nil && e.Kind != state.LoginInfo {
		l.tap(e.Kind == state.LoginTap)
	}
	switch e.Kind {
	case state.LoginDone:
		l.done = e
	case state.LoginURL:
		l.parts.Go(func() { l.browse(ctx, leave, e) })
	case state.LoginPassword, state.LoginOTP, state.LoginPIN:
		l.ask(ctx, leave, e, answer)
	case state.LoginSettled:
		l.mu.Lock()
		if cancel := l.asking[e.ID]; cancel != nil {
			cancel() // answered elsewhere
		}
		l.mu.Unlock()
	default:
		l.Logger.Debug("login goes on", "step", e.Kind)
	}
}

func (l *login) browse(ctx context.Context, leave context.CancelCauseFunc, e client.LoginEvent) {
	err := l.Browse(ctx, e.URL, e.Browser, e.Proxy)
	if err == nil || ctx.Err() != nil {
		return
	}
	l.Logger.Warn("login page not opened", "profile", e.Proxy, "err", err)
	l.unopened(err, leave)
}

// ask opens a dialog for a secret.
func (l *login) ask(ctx context.Context, leave context.CancelCauseFunc, e client.LoginEvent, answer func(string)) {
	asking, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	l.asking[e.ID] = cancel
	next := ""
	if e.Kind == state.LoginPassword {
		next, l.next = l.next, ""
	}
	question := l.question(e)
	l.mu.Unlock()
	if next != "" {
		answer(next)
		return
	}
	l.parts.Go(func() {
		defer cancel()
		c, err := l.answerOf(asking, e, question)
		if err != nil {
			if asking.Err() == nil {
				leave(err)
			}
			return
		}
		l.mu.Lock()
		l.typed = true
		other := c.User != "" && c.User != l.start.User || c.Remember && !l.start.Remember
		if other {
			l.next, l.restart = c.Password, true
			l.start.User, l.start.Remember = cmp.Or(c.User, l.start.User), c.Remember || l.start.Remember
			l.user = cmp.Or(c.User, l.user)
		}
		l.mu.Unlock()
		if other {
			leave(errRestart)
			return
		}
		answer(c.Password)
	})
}

func (l *login) answerOf(ctx context.Context, e client.LoginEvent, q prompt.Question) (c prompt.Credentials, err error) {
	switch e.Kind {
	case state.LoginPassword:
		return l.Prompter.Login(ctx, q)
	case state.LoginOTP:
		c.Password, err = l.Prompter.Code(ctx, q)
	default:
		c.Password, err = l.Prompter.Password(ctx, q)
	}
	return c, err
}

// question is the dialog for a prompt; l.mu is held.
func (l *login) question(e client.LoginEvent) prompt.Question {
	lines := []string{l.note, l.waits, plain.Short(e.Text, maxTold/4), "Cluster: " + plain.Short(l.place, maxTold/4)}
	return prompt.Question{
		Title: "Log in to " + plain.Short(l.place, maxLabel), OK: "Log in", Initial: plain.Short(l.user, maxName),
		Text: strings.Join(slices.DeleteFunc(lines, func(s string) bool { return s == "" }), "\n"),
	}
}
