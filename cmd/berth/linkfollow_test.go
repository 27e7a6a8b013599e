package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/link"
	"berth/notify/prompt"
	"berth/tray"
)

// linkDesk is a desktop with a person at it, and an agent, for one link.
type linkDesk struct {
	tray.Prompter // no other dialog is asked for

	says     error // to the first question
	choice   int
	typed    string
	asked    []prompt.Question
	reported []string
	done     []string // what the agent was asked to do
	snapshot state.Snapshot
	window   func(context.Context, string) error // nil: there is none
	refusal  error                               // of the agent's first deed
	login    []client.LoginEvent
	answers  []string

	noBrowser error
}

func (d *linkDesk) Confirm(_ context.Context, q prompt.Question) error {
	d.asked = append(d.asked, q)
	return d.says
}

func (d *linkDesk) Report(_ context.Context, q prompt.Question) error {
	d.reported = append(d.reported, q.Text)
	return prompt.ErrCanceled // it was read
}

func (d *linkDesk) Choose(_ context.Context, q prompt.Question) (int, error) {
	d.asked = append(d.asked, q)
	return d.choice, nil
}

func (d *linkDesk) Login(ctx context.Context, _ prompt.Question) (prompt.Credentials, error) {
	if d.noBrowser != nil { // and no answer, either
		<-ctx.Done()
		return prompt.Credentials{}, ctx.Err()
	}
	if d.typed == "" {
		return prompt.Credentials{}, prompt.ErrCanceled
	}
	return prompt.Credentials{Password: d.typed}, nil
}

func (d *linkDesk) Snapshot(context.Context) (state.Snapshot, error) { return d.snapshot, nil }

func (d *linkDesk) deed(format string, args ...any) error {
	d.done = append(d.done, fmt.Sprintf(format, args...))
	err := d.refusal
	d.refusal = nil
	return err
}

func (d *linkDesk) AddTunnel(_ context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	return spec, d.deed("add %s %s %s %s %s guard=%s", spec.Name, spec.Kind, spec.Cluster, spec.Resource, path.Join(spec.DBUser, spec.DBName), spec.Guard)
}

func (d *linkDesk) AssumeRequest(_ context.Context, a client.Assume) (client.Assumed, error) {
	return client.Assumed{}, d.deed("assume %s %s %v", a.ID, a.Tunnel, a.AcceptEarlierEnd)
}

func (d *linkDesk) DecideRequest(_ context.Context, id string, approve bool, reason string) (state.Request, error) {
	return state.Request{}, d.deed("decide %s %v %q", id, approve, reason)
}

// linkDeskAgent is the agent's side, whose Login is another than that of a dialog.
type linkDeskAgent struct {
	tray.Agent // no other call is made
	desk       *linkDesk
}

func (a linkDeskAgent) Login(ctx context.Context, start client.LoginStart, show func(client.LoginEvent, func(string)) error) error {
	d := a.desk
	if err := d.deed("login %s alone=%v", start.Proxy, start == client.LoginStart{Proxy: start.Proxy}); err != nil {
		return err
	}
	answered := make(chan string, 1)
	for _, e := range d.login {
		if err := show(e, func(text string) { answered <- text }); err != nil {
			return err
		}
		if e.Kind.Typed() {
			select {
			case text := <-answered:
				d.answers = append(d.answers, text)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// followed follows a link with the person and agent of d.
func (d *linkDesk) followed(t *testing.T, raw string) error {
	t.Helper()
	l, err := link.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	a, _, _ := testApp()
	f := &linkFollower{
		app: a, link: l, agent: d, desk: tray.Config{
			Prompter: d, Agent: linkDeskAgent{desk: d}, Logger: slog.New(slog.DiscardHandler),
			OpenWindow: d.window, Browse: func(_ context.Context, url string, _ []string, proxy string) error {
				return cmp.Or(d.noBrowser, d.deed("browse %s for %s", url, proxy))
			},
		},
		show: func(context.Context) error { return d.deed("open") },
	}
	return f.follow(t.Context())
}

func linkSnapshot() state.Snapshot {
	return state.Snapshot{
		Profiles: []state.Profile{{Proxy: "teleport.example.com:443", Cluster: "example.com"}},
		Tunnels: []state.Tunnel{{
			TunnelSpec: state.TunnelSpec{Name: "prod-pg", Kind: state.KindDB, Cluster: "leaf.example.com", Resource: "pg"}, Profile: "teleport.example.com:443",
		}},
		Requests: []state.Request{
			{ID: "5e1f0c2a-1", User: "bob", Roles: []string{"dba"}, Reason: "an incident", State: state.RequestPending, Reviewable: true},
			{ID: "7c1f0c2a-2", Profile: "teleport.example.com:443", User: "alice", Roles: []string{"dba"}, State: state.RequestApproved, Mine: true, Assumable: true},
		},
	}
}

// Each link asks first, in words that name what it wants, and does that alone.
func TestFollowLink(t *testing.T) {
	for raw, want := range map[string]struct {
		asks string
		done string // by the agent; empty when something is shown
		says string // what is shown
	}{
		"berth://open":                                               {asks: "wants berth to show itself", done: "open"},
		"berth://login/teleport.example.com":                         {asks: "log in to Teleport at teleport.example.com", done: "login teleport.example.com alone=true"},
		"berth://tunnel/prod-pg":                                     {asks: `show the tunnel "prod-pg"`, says: "prod-pg · "},
		"berth://add?cluster=c&kind=db&resource=r&user=u":            {asks: `add a tunnel "r" to the database "r" of the cluster "c" as the user "u"`, done: "add r db c r u guard="},
		"berth://add?cluster=c&database=d&kind=db&resource=r&user=u": {asks: `as the user "u" in its database "d"`, done: "add r db c r u/d guard="},
		"berth://request/7c1f":                                       {asks: "show the access request 7c1f", says: "7c1f0c2a-2"},
		"berth://assume/7c1f?tunnel=prod-pg":                         {asks: "alice asked for dba at teleport.example.com:443", done: "assume 7c1f prod-pg false"},
		"berth://recording/5e1f0c2a?t=90":                            {asks: "show the session recording 5e1f0c2a", says: "berth recording play 5e1f0c2a --from 1m30s"},
	} {
		d := &linkDesk{says: prompt.ErrCanceled, snapshot: linkSnapshot()}
		if err := d.followed(t, raw); err != nil || len(d.done)+len(d.reported) > 0 || len(d.asked) != 1 {
			t.Errorf("%s, refused: %v, did %q, showed %q, asked %d questions", raw, err, d.done, d.reported, len(d.asked))
		}
		if q := d.asked[0]; !strings.Contains(q.Text, want.asks) || !strings.Contains(q.Text, "from outside") || q.Cancel != "Ignore" {
			t.Errorf("%s asks %+v", raw, q)
		}
		d = &linkDesk{snapshot: linkSnapshot()}
		if err := d.followed(t, raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if want.done != "" && (len(d.done) != 1 || !strings.HasPrefix(d.done[0], want.done)) || want.done == "" && len(d.done) > 0 {
			t.Errorf("%s did %q", raw, d.done)
		}
		if shown := strings.Join(d.reported, "\n"); !strings.Contains(shown, want.says) || want.says == "" && shown != "" {
			t.Errorf("%s showed %q", raw, shown)
		}
	}
}

// Before a tunnel is added, a person reads which proxy it would go through.
func TestLinkAddNamesTheProxy(t *testing.T) {
	for cluster, want := range map[string]string{
		"example.com":      "It goes through teleport.example.com:443.",
		"leaf.example.com": "It goes through teleport.example.com:443.",
		"evil.example.net": "berth knows no proxy of that cluster yet",
	} {
		d := &linkDesk{says: prompt.ErrCanceled, snapshot: linkSnapshot()}
		if err := d.followed(t, "berth://add?cluster="+cluster+"&kind=db&resource=r"); err != nil || !strings.Contains(d.asked[0].Text, want) {
			t.Errorf("%s: %v, asks %q", cluster, err, d.asked[0].Text)
		}
	}
}

// A login that is not needed says so: a person who agreed to it sees nothing else.
func TestLinkLoginNotNeeded(t *testing.T) {
	d := &linkDesk{
		snapshot: linkSnapshot(),
		login:    []client.LoginEvent{{Kind: state.LoginDone, Text: "alice is logged in already"}},
	}
	d.snapshot.Profiles[0].State = state.ProfileValid
	err := d.followed(t, "berth://login/teleport.example.com")
	if err != nil || len(d.reported) != 1 || d.reported[0] != "alice is logged in already" {
		t.Errorf("%v, shown %q", err, d.reported)
	}
}

// Where there is a window, it shows what a link wants to see.
func TestLinkOpensTheWindow(t *testing.T) {
	for raw, want := range map[string]string{
		"berth://open": "", "berth://tunnel/prod-pg": "tunnels/prod-pg", "berth://request/5e1f": "access/5e1f0c2a-1",
	} {
		d, pages := &linkDesk{snapshot: linkSnapshot()}, []string{}
		d.window = func(_ context.Context, page string) error { pages = append(pages, page); return nil }
		if err := d.followed(t, raw); err != nil || !slices.Equal(pages, []string{want}) || len(d.reported)+len(d.done) > 0 {
			t.Errorf("%s opened %q, %v, and did %q", raw, pages, err, d.done)
		}
	}
}

// A login at a proxy where no one here has a profile is one to think twice about.
func TestLinkToUnknownProxy(t *testing.T) {
	for raw, cautions := range map[string]bool{
		"berth://login/teleport.example.com": false, "berth://login/Teleport.Example.com:443": false, "berth://login/teleport.example.com:3080": true,
		"berth://login/teleport.example.net": true,
	} {
		d := &linkDesk{says: prompt.ErrCanceled, snapshot: linkSnapshot()}
		if err := d.followed(t, raw); err != nil || strings.Contains(d.asked[0].Text, "never logged in there") != cautions {
			t.Errorf("%s asks %+v, %v", raw, d.asked, err)
		}
	}
}

// Nothing of a link reaches a login but the proxy's address: its page is the one that
// tsh's own listener has, and what is typed is the person's.
func TestLinkFeedsNoLogin(t *testing.T) {
	d := &linkDesk{snapshot: linkSnapshot(), typed: "secret", login: []client.LoginEvent{
		{Kind: state.LoginURL, URL: "http://127.0.0.1:1234/x", Proxy: "teleport.example.com:443"}, {Kind: state.LoginPassword, ID: 1},
	}}
	if err := d.followed(t, "berth://login/teleport.example.com"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.answers, []string{"secret"}) || !slices.Contains(d.done, "browse http://127.0.0.1:1234/x for teleport.example.com:443") {
		t.Errorf("the login got %q and did %q", d.answers, d.done)
	}
	// Whoever closes the dialog has logged in to nothing, and is left in peace.
	d = &linkDesk{snapshot: linkSnapshot(), login: []client.LoginEvent{{Kind: state.LoginPassword, ID: 1}}}
	if err := d.followed(t, "berth://login/teleport.example.com"); err != nil || len(d.answers)+len(d.reported) > 0 {
		t.Errorf("after a dialog that was closed: %v, answers %q, shown %q", err, d.answers, d.reported)
	}
}

// A login whose page cannot be opened ends, and says why.
func TestLinkLoginWithoutBrowser(t *testing.T) {
	d := &linkDesk{snapshot: linkSnapshot(), noBrowser: errors.New("no browser here"), login: []client.LoginEvent{
		{Kind: state.LoginURL, URL: "http://127.0.0.1:1234/x"}, {Kind: state.LoginPassword, ID: 1}, // which waits
	}}
	err := d.followed(t, "berth://login/teleport.example.com")
	if err == nil || len(d.reported) != 1 || !strings.Contains(d.reported[0], "no browser here") {
		t.Errorf("%v, shown %q", err, d.reported)
	}
}

func TestLinkDecides(t *testing.T) {
	for choice, want := range []string{"", `decide 5e1f0c2a-1 true ""`, `decide 5e1f0c2a-1 false ""`} {
		d := &linkDesk{snapshot: linkSnapshot(), choice: choice}
		if err := d.followed(t, "berth://request/5e1f"); err != nil || strings.Join(d.done, "") != want || len(d.asked) != 2 {
			t.Errorf("choice %d: %v, did %q", choice, err, d.done)
		}
	}
}

func TestLinkAssumesWithEarlierEnd(t *testing.T) {
	d := &linkDesk{snapshot: linkSnapshot(), refusal: &client.Error{Code: ipc.CodeConfirm, Message: "the session ends earlier"}}
	if err := d.followed(t, "berth://assume/7c1f"); err != nil || strings.Join(d.done, "|") != "assume 7c1f  false|assume 7c1f  true" || len(d.asked) != 2 {
		t.Errorf("%v, did %q", err, d.done)
	}
}

// What fails is shown, with its next step.
func TestLinkFails(t *testing.T) {
	d := &linkDesk{snapshot: linkSnapshot(), refusal: &client.Error{Code: ipc.CodeDenied, Message: "not here", Hint: "ask"}}
	err := d.followed(t, "berth://add?cluster=c&kind=db&resource=r")
	if err == nil || len(d.reported) != 1 || !strings.Contains(d.reported[0], `could not add a tunnel "r"`) || !strings.Contains(d.reported[0], "not here\nask") {
		t.Errorf("%v, shown %q", err, d.reported)
	}
	d = &linkDesk{says: &prompt.UnavailableError{Reason: "no desktop"}}
	if err := d.followed(t, "berth://open"); err == nil || len(d.done) > 0 {
		t.Errorf("without dialogs: %v, did %q", err, d.done)
	}
	d = &linkDesk{}
	if err := d.followed(t, "berth://request/5e1f0c2a"); err == nil || len(d.reported) != 1 {
		t.Errorf("a request that is not there: %v, shown %q", err, d.reported)
	}
}

// One link asks at a time, and few within a minute.
func TestLinkGate(t *testing.T) {
	g, now := linkGate{folder: t.TempDir()}, time.Now()
	leave, err := g.enter(now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.enter(now); !errors.Is(err, errLinkAsks) {
		t.Errorf("a second question: %v", err)
	}
	leave()
	for i := range linkBurst {
		leave, err := g.enter(now.Add(time.Duration(i) * time.Second))
		if i < linkBurst-1 && err != nil || i == linkBurst-1 && !errors.Is(err, errLinkFlood) {
			t.Fatalf("question %d: %v", i+2, err)
		}
		if err == nil {
			leave()
		}
	}
	for _, at := range []time.Time{now.Add(linkSpan + time.Second), now.Add(-time.Hour)} { // or the clock was set
		leave, err := g.enter(at)
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	for range 2 * linkBurst { // of links that no person could be asked about
		leave, err := g.enter(now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.forget(now.Add(time.Hour)); err != nil {
			t.Error(err)
		}
		leave()
	}
	if err := os.WriteFile(filepath.Join(g.folder, "links.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if leave, err := g.enter(now); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}

// With links switched off no link asks, and neither does one that is none.
func TestLinkPolicy(t *testing.T) {
	a, _, _ := testApp()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("links: off\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.policy = config.PolicyFile{Path: policy, Trusted: func(*os.File) error { return nil }}
	err := a.followLink(t.Context(), "berth://open")
	if forbidden := (*config.PolicyError)(nil); !errors.As(err, &forbidden) || !strings.Contains(err.Error(), "links: off") {
		t.Errorf("with links off: %v", err)
	}
	err = a.followLink(t.Context(), "berth://login/a.example.com?code=1")
	if refused := (*link.Error)(nil); !errors.As(err, &refused) {
		t.Errorf("a link with a code: %v", err)
	}
}
