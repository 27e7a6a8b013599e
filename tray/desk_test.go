package tray

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/notify"
	"berth/notify/prompt"
)

// fakeAgent says what the test says and notes what it is asked for.
type fakeAgent struct {
	updates chan update
	login   func(ctx context.Context, show func(client.LoginEvent, func(string)) error) error
	assume  error
	list    func() []client.Resource // nil means a list that never changes

	mu      sync.Mutex
	calls   []string
	fail    error
	tunnels []state.Tunnel   // of the newest snapshot
	changed state.TunnelSpec // what a tunnel was last changed to
}

func (a *fakeAgent) call(format string, args ...any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
	return a.fail
}

// asked returns what the agent was asked for since the last time.
func (a *fakeAgent) asked() string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := strings.Join(a.calls, "; ")
	a.calls = nil
	return calls
}

func (a *fakeAgent) Follow(ctx context.Context) iter.Seq2[state.Snapshot, error] {
	return func(yield func(state.Snapshot, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case u := <-a.updates:
				if !yield(u.snapshot, u.err) {
					return
				}
			}
		}
	}
}

func (a *fakeAgent) Resources(context.Context, client.ResourceQuery) ([]client.Resource, []string, error) {
	if a.list != nil {
		return a.list(), nil, nil
	}
	return []client.Resource{{Name: "orders db", Kind: state.KindDB, Protocol: "mysql", Cluster: "example.com"}}, nil, nil
}

func (a *fakeAgent) Tunnel(_ context.Context, n string) (state.Tunnel, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.tunnels, func(t state.Tunnel) bool { return t.Name == n })
	if i < 0 {
		return state.Tunnel{}, ipc.UnknownTunnel(n)
	}
	return a.tunnels[i], nil
}

func (a *fakeAgent) AddTunnel(_ context.Context, s state.TunnelSpec) (state.TunnelSpec, error) {
	s.Port = 15001
	return s, a.call("add %s %s", s.Name, s.Resource)
}
func (a *fakeAgent) StartTunnel(_ context.Context, n string) error  { return a.call("start %s", n) }
func (a *fakeAgent) StopTunnel(_ context.Context, n string) error   { return a.call("stop %s", n) }
func (a *fakeAgent) RemoveTunnel(_ context.Context, n string) error { return a.call("remove %s", n) }
func (a *fakeAgent) ChangeTunnel(_ context.Context, n string, s state.TunnelSpec) (state.TunnelSpec, error) {
	a.mu.Lock()
	a.changed = s
	a.mu.Unlock()
	return s, a.call("change %s port=%d", n, s.Port)
}

func (a *fakeAgent) RequestAbilities(context.Context, string, []string) (client.RequestAbilities, error) {
	return client.RequestAbilities{Roles: []string{"dba", "ops"}}, nil
}

func (a *fakeAgent) CreateRequest(_ context.Context, n client.NewRequest) (state.Request, error) {
	return state.Request{ID: "5e1f0c2a-0000-4000-8000-000000000001"}, a.call("request %s %v %q", n.Profile, n.Roles, n.Reason)
}
func (a *fakeAgent) RestartTunnel(_ context.Context, n string) error { return a.call("restart %s", n) }

func (a *fakeAgent) Login(ctx context.Context, s client.LoginStart, show func(client.LoginEvent, func(string)) error) error {
	remember := ""
	if s.Remember {
		remember = " remember"
	}
	err := a.call("login %s renew=%v%s", whose(s.Proxy, s.User), s.Renew, remember)
	if a.login != nil {
		return a.login(ctx, show)
	}
	return err
}

// whose is a session as the calls name it.
func whose(proxy, user string) string {
	if user == "" {
		return proxy
	}
	return user + "@" + proxy
}

func (a *fakeAgent) CancelLogin(_ context.Context, p, u string) error {
	return a.call("cancel %s", whose(p, u))
}

func (a *fakeAgent) Logout(_ context.Context, p, u string) (string, error) {
	return p, a.call("logout %s", whose(p, u))
}

func (a *fakeAgent) SnoozeRenewal(_ context.Context, p, u string) (client.Snoozed, error) {
	return client.Snoozed{}, a.call("snooze %s", whose(p, u))
}
func (a *fakeAgent) DismissNotice(_ context.Context, id string) error {
	return a.call("dismiss %s", id)
}

func (a *fakeAgent) DecideRequest(_ context.Context, id string, yes bool, _ string) (state.Request, error) {
	return state.Request{}, a.call("decide %s %v", id, yes)
}

func (a *fakeAgent) AssumeRequest(_ context.Context, as client.Assume) (client.Assumed, error) {
	err := a.call("assume %s tunnel=%q accept=%v", as.ID, as.Tunnel, as.AcceptEarlierEnd)
	if a.assume != nil && !as.AcceptEarlierEnd {
		err = a.assume
	}
	return client.Assumed{}, err
}

func (a *fakeAgent) DropRequests(_ context.Context, ids []string, tunnel string) ([]string, error) {
	return ids, a.call("drop %v tunnel=%q", ids, tunnel)
}

// fakeNotifier is a screen with notifications.
type fakeNotifier struct {
	acted  func(id, key string)
	closed func(id string)

	mu    sync.Mutex
	cards map[string]notify.Notification
	shown int
	fail  error
	bare  bool          // it shows no buttons
	gate  chan struct{} // what is shown waits for it to be closed; nil means that nothing waits
}

func (n *fakeNotifier) Show(_ context.Context, c notify.Notification) error {
	if n.gate != nil {
		<-n.gate
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	n.shown++
	n.cards[c.ID] = c
	return nil
}

func (n *fakeNotifier) Close(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cards, id)
}
func (n *fakeNotifier) Capabilities() notify.Capabilities {
	return notify.Capabilities{Server: "gnome-shell", Actions: !n.bare}
}
func (n *fakeNotifier) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// titles are what is on the screen.
func (n *fakeNotifier) titles() string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, c := range n.cards {
		out = append(out, c.Title)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// press presses a button, which takes the notification away.
func (n *fakeNotifier) press(t *testing.T, id, label string) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	card := n.cards[id]
	delete(n.cards, id)
	n.mu.Unlock()
	for _, a := range card.Actions {
		if a.Label == label {
			n.acted(id, a.Key)
			return
		}
	}
	t.Fatalf("notification %q has no button %q: %v", id, label, card.Actions)
}

// fakePrompter answers dialogs.
type fakePrompter struct {
	secret string
	login  prompt.Credentials // beside the secret
	text   string
	err    error
	wait   chan struct{} // nil means that it answers at once

	mu    sync.Mutex
	asked []prompt.Question
}

func (p *fakePrompter) answer(ctx context.Context, q prompt.Question) (string, error) {
	p.mu.Lock()
	p.asked = append(p.asked, q)
	p.mu.Unlock()
	if p.wait != nil {
		select {
		case <-p.wait:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return p.secret, p.err
}

func (p *fakePrompter) Password(ctx context.Context, q prompt.Question) (string, error) {
	return p.answer(ctx, q)
}
func (p *fakePrompter) Code(ctx context.Context, q prompt.Question) (string, error) {
	return p.answer(ctx, q)
}

func (p *fakePrompter) Login(ctx context.Context, q prompt.Question) (prompt.Credentials, error) {
	secret, err := p.answer(ctx, q)
	c := p.login
	c.Password = secret
	return c, err
}

func (p *fakePrompter) Text(ctx context.Context, q prompt.Question) (string, error) {
	_, err := p.answer(ctx, q)
	return p.text, err
}

func (p *fakePrompter) Choose(ctx context.Context, q prompt.Question) (int, error) {
	_, err := p.answer(ctx, q)
	return len(q.Choices) - 1, err
}

func (p *fakePrompter) Report(ctx context.Context, q prompt.Question) error {
	_, err := p.answer(ctx, q)
	return err
}

// titles are those of the dialogs since the last time.
func (p *fakePrompter) titles() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, q := range p.asked {
		out = append(out, q.Title)
	}
	p.asked = nil
	return strings.Join(out, "; ")
}

func (p *fakePrompter) Confirm(ctx context.Context, q prompt.Question) error {
	_, err := p.answer(ctx, q)
	return err
}

// desk is a tray and all around it.
type desk struct {
	*testing.T
	agent    *fakeAgent
	notifier *fakeNotifier
	prompter *fakePrompter
	kit      *fakeKit
	menu     *menu

	mu      sync.Mutex
	copied  string
	opened  string
	starts  int
	files   []string // that were opened
	show    chan struct{}
	noPanel atomic.Bool // nothing shows the icon
	doctor  func() (Checkup, error)
	noTSH   atomic.Bool
	pages   []string // of the window that were opened
}

// onDesk runs a test with a tray whose time is the test's own.
func onDesk(t *testing.T, test func(d *desk), change ...func(*desk, *Config)) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{
			T: t, agent: &fakeAgent{updates: make(chan update)}, prompter: &fakePrompter{}, kit: &fakeKit{},
			notifier: &fakeNotifier{cards: make(map[string]notify.Notification)}, show: make(chan struct{}, 1),
		}
		d.menu = newMenu(d.kit)
		defer d.menu.close()
		cfg := Config{
			Logger: slog.New(slog.DiscardHandler), Agent: d.agent, Prompter: d.prompter, Version: "1.2.3",
			ConfigFile: "/config.yaml", LogFile: "/agent.log", ReportFile: "/doctor.txt", Show: d.show,
			Docs: "All about berth.", HasTSH: func() bool { return !d.noTSH.Load() },
			Doctor:      func(context.Context) (Checkup, error) { return d.doctor() },
			Diagnostics: func(context.Context) (string, error) { return "diagnostics", nil },
			Notifier: func(acted func(id, key string), closed func(id string)) Notifier {
				d.notifier.acted, d.notifier.closed = acted, closed
				return d.notifier
			},
			StartAgent: func(context.Context) error { d.mu.Lock(); defer d.mu.Unlock(); d.starts++; return nil },
			Browse: func(_ context.Context, url string, _ []string, _ string) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.opened = url
				return nil
			},
			Open: func(_ context.Context, path string) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.files = append(d.files, path)
				if path == "/agent.log" {
					return errors.New("no program")
				}
				return nil
			},
			Copy: func(_ context.Context, text string) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.copied = text
				return nil
			},
		}
		for _, c := range change {
			c(d, &cfg)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		f := newFront(cfg, d.menu)
		f.hosted = func() bool { return !d.noPanel.Load() }
		go func() { ended <- f.run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, errQuit) {
				t.Error(err)
			}
		}()
		test(d)
	})
}

// withWindow gives the tray a window.
func withWindow(d *desk, cfg *Config) {
	cfg.OpenWindow = func(_ context.Context, page string) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.pages = append(d.pages, page)
		return nil
	}
}

// withClosedWindow gives the tray a window that does not open.
func withClosedWindow(_ *desk, cfg *Config) {
	cfg.OpenWindow = func(context.Context, string) error { return errors.New("no browser") }
}

// say has the agent say something, and waits until it is drawn.
func (d *desk) say(s state.Snapshot) {
	d.agent.mu.Lock()
	d.agent.tunnels = s.Tunnels
	d.agent.mu.Unlock()
	d.agent.updates <- update{snapshot: s}
	d.pause()
}

func (d *desk) away() {
	d.agent.updates <- update{err: client.ErrNotRunning}
	d.pause()
}

func (d *desk) pause() {
	time.Sleep(drawEvery + settle)
	synctest.Wait()
}

func (d *desk) click(parent, label string) {
	d.Helper()
	e := d.kit.find(d.T, parent, label)
	synctest.Wait()
	select {
	case e.ch <- struct{}{}:
	default:
	}
	synctest.Wait()
}

// waking is a snapshot whose times are those of the bubble.
func waking() state.Snapshot {
	s := busy()
	until := time.Now().Add(7 * time.Hour)
	s.Profiles[0].ValidUntil = &until
	return s
}
