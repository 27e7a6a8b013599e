//go:build unix

package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
)

// withTSH has the config that is written next name a fake tsh: this test binary
// by that name.
func (e *env) withTSH() {
	e.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		e.t.Fatal(err)
	}
	e.tsh = filepath.Join(e.t.TempDir(), "tsh")
	if err := os.Symlink(exe, e.tsh); err != nil {
		e.t.Fatal(err)
	}
}

// person is a front end with a user.
type person struct {
	mu     sync.Mutex
	kinds  []state.LoginKind
	events chan client.LoginEvent // those that are not info, as they come
	done   chan error
}

// sit lets a person log in, who gives the answers in order.
func (e *env) sit(ctx context.Context, start client.LoginStart, answers ...string) *person {
	e.t.Helper()
	p := &person{events: make(chan client.LoginEvent, 100), done: make(chan error, 1)}
	c := e.Client()
	go func() {
		p.done <- c.Login(ctx, start, func(ev client.LoginEvent, answer func(string)) error {
			if ev.Kind == state.LoginInfo {
				return nil
			}
			p.mu.Lock()
			p.kinds = append(p.kinds, ev.Kind)
			p.mu.Unlock()
			p.events <- ev
			if ev.Kind.Typed() && len(answers) > 0 {
				answer(answers[0])
				answers = answers[1:]
			}
			return nil
		})
	}()
	return p
}

func (p *person) next(t *testing.T) client.LoginEvent {
	t.Helper()
	select {
	case ev := <-p.events:
		return ev
	case err := <-p.done:
		t.Fatalf("the login ended: %v", err)
	case <-time.After(wait):
		t.Fatal("nothing is asked")
	}
	return client.LoginEvent{}
}

func (p *person) result(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(wait):
		t.Fatal("the login does not end")
		return nil
	}
}

func (p *person) saw() []state.LoginKind {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kinds
}

func loginEnv(t *testing.T, cfg simcluster.Config) (e *env, start client.LoginStart) {
	t.Helper()
	e = newEnv(t, cfg)
	e.withTSH()
	item, _ := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	return e, client.LoginStart{Proxy: e.Sim.ProxyAddr(), User: "alice"}
}

func TestLoginWakesTheTunnels(t *testing.T) {
	t.Parallel()
	e, start := loginEnv(t, simcluster.Config{Users: []simcluster.User{{Name: "alice", Password: "hunter2-secret", OTP: "123456"}}})
	p := e.sit(t.Context(), start, "hunter2-secret", "123456")
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	want := []state.LoginKind{state.LoginPassword, state.LoginSettled, state.LoginOTP, state.LoginSettled, state.LoginDone}
	if diff := cmp.Diff(want, p.saw()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	e.AwaitState("pg", state.TunnelReady)
	if log := e.Log.String(); strings.Contains(log, "hunter2") || strings.Contains(log, "123456") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	again := e.sit(t.Context(), client.LoginStart{})
	if err := again.result(t); err != nil || len(again.saw()) != 1 || e.Sim.Counters().Logins != 1 {
		t.Errorf("a second login: %v, steps %v, %d logins at the cluster", err, again.saw(), e.Sim.Counters().Logins)
	}
	if proxy, err := e.Client().Logout(t.Context(), "", ""); err != nil || proxy != e.Sim.ProxyAddr() {
		t.Errorf("Logout = %q, %v", proxy, err)
	}
	for _, p := range e.Snapshot().Profiles {
		if p.State == state.ProfileValid {
			t.Error("right after the logout the profile is valid still")
		}
	}
	e.AwaitState("pg", state.TunnelWaitingForLogin)
}

func TestLoginIsJoined(t *testing.T) {
	t.Parallel()
	e, start := loginEnv(t, simcluster.Config{})
	first := e.sit(t.Context(), start)
	if ev := first.next(t); ev.Kind != state.LoginPassword {
		t.Fatalf("asked %+v", ev)
	}
	second := e.sit(t.Context(), start, "alice-password")
	for _, p := range []*person{first, second} {
		if err := p.result(t); err != nil {
			t.Error(err)
		}
	}
	want := []state.LoginKind{state.LoginPassword, state.LoginSettled, state.LoginDone}
	for _, p := range []*person{first, second} {
		if diff := cmp.Diff(want, p.saw()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	}
	if n := e.Sim.Counters().Logins; n != 1 {
		t.Errorf("%d logins at the cluster, want one", n)
	}
}

func TestLoginEndsWithItsLastPerson(t *testing.T) {
	t.Parallel()
	e, start := loginEnv(t, simcluster.Config{})
	leaving, cancel := context.WithCancel(t.Context())
	first := e.sit(leaving, start)
	first.next(t)
	second := e.sit(t.Context(), start)
	second.next(t)
	cancel()
	if err := first.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left got %v", err)
	}
	select {
	case err := <-second.done:
		t.Fatalf("the other one's login ended: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	third, cancelThird := context.WithCancel(t.Context())
	p := e.sit(third, start, "wrong")
	if err := p.result(t); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("a wrong password gives %v", err)
	}
	if err := second.result(t); err == nil {
		t.Error("the other one was not told")
	}
	cancelThird()
	last := e.sit(t.Context(), start, "alice-password") // nothing is left behind
	if err := last.result(t); err != nil {
		t.Error(err)
	}
}

func TestLoginByHandMeanwhile(t *testing.T) {
	t.Parallel()
	e, start := loginEnv(t, simcluster.Config{})
	p := e.sit(t.Context(), start)
	p.next(t)
	e.Login()
	if err := p.result(t); err != nil {
		t.Errorf("somebody logged in by hand, and berth says %v", err)
	}
	e.AwaitState("pg", state.TunnelReady)
}

func TestLoginIsInTheSnapshot(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Connectors: okta})
	e.withTSH()
	e.Login(simcluster.WithTTL(-time.Hour), viaOkta)
	item, _ := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	p := e.sit(t.Context(), client.LoginStart{})
	ev := p.next(t)
	if ev.Kind != state.LoginURL || !strings.HasPrefix(ev.URL, "http://127.0.0.1:") || ev.Proxy != e.Sim.ProxyAddr() || ev.Deadline == nil {
		t.Fatalf("asked %+v, want a loopback URL", ev)
	}
	e.Await("the login in the snapshot", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && s.Profiles[0].Login == state.Login{InProgress: true, URL: ev.URL, Asks: "url"}
	})
	e.browse(ev.URL, "user=alice")
	if err := p.result(t); err != nil {
		t.Error(err)
	}
	e.Await("the login to be over", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && s.Profiles[0].Login == state.Login{} && s.Profiles[0].State == state.ProfileValid
	})
}

func TestLoginWithoutTSH(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.config()
	raw, err := os.ReadFile(e.Paths.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.Paths.Config, append(raw, "tsh: {path: /nonexistent/tsh}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	e.start()
	var told *client.Error
	err = e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr()}).result(t)
	if !errors.As(err, &told) || !strings.Contains(told.Message, "/nonexistent/tsh") || told.Hint == "" {
		t.Errorf("Login = %+v, want one that names the missing tsh", err)
	}
}

func TestLoginTargetsThatAreNone(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.config()
	e.start()
	for _, proxy := range []string{"--insecure", "a b", "https://p", "u@p", "p\n"} {
		var told *client.Error
		err := e.sit(t.Context(), client.LoginStart{Proxy: proxy}).result(t)
		if !errors.As(err, &told) || told.Code != ipc.CodeInvalid {
			t.Errorf("Login(%q) = %v, want it refused", proxy, err)
		}
	}
}

func TestOldTSH(t *testing.T) {
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	t.Setenv("BERTH_FAKE_TSH_VERSION", "13.1.0")
	e.config()
	e.start()
	err := e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr(), User: "alice"}).result(t)
	if err == nil || !strings.Contains(err.Error(), "tsh 13.1.0 is too old") {
		t.Errorf("Login = %v, want the old tsh named", err)
	}
}

func TestNewTSH(t *testing.T) {
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	t.Setenv("BERTH_FAKE_TSH_VERSION", "99.1.0")
	e.config()
	e.start()
	var told []string
	err := e.Client().Login(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr(), User: "alice"}, func(ev client.LoginEvent, answer func(string)) error {
		if told = append(told, ev.Text); ev.Kind == state.LoginPassword {
			answer("alice-password")
		}
		return nil
	})
	if err != nil || !strings.Contains(told[0], "tsh 99.1.0 is newer than the cluster") {
		t.Errorf("Login = %v, told %q", err, told)
	}
}

// browse does what a browser and a person do: it opens the login page and
// follows the link that matches.
func (e *env) browse(login, link string) {
	e.t.Helper()
	raw, err := os.ReadFile(e.CAFile())
	if err != nil {
		e.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	get := func(address string) (page string, at *url.URL) {
		req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, address, nil)
		if err != nil {
			e.t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			e.t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			e.t.Fatal(err)
		}
		return string(body), resp.Request.URL
	}
	page, at := get(login)
	m := regexp.MustCompile(`href="([^"]*` + link + `[^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		e.t.Fatalf("no link %s in %s", link, page)
	}
	next, err := at.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
	if err != nil {
		e.t.Fatal(err)
	}
	get(next.String())
}
