//go:build unix

package tsh

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
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

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
)

// loginWorld is a simulated cluster, and the fake tsh to log in to it with.
type loginWorld struct {
	*simcluster.Cluster
	cfg    LoginConfig
	log    bytes.Buffer
	mu     sync.Mutex
	kinds  []state.LoginKind
	noted  string // the folder of the fake's notes
	caFile string
}

func newLoginWorld(t *testing.T, part string, cfg simcluster.Config) *loginWorld {
	t.Helper()
	sim := simworld.Start(t, cfg)
	program := useFake(t, part)
	w := &loginWorld{Cluster: sim, noted: filepath.Dir(program), caFile: filepath.Join(t.TempDir(), "ca.pem")}
	if err := sim.WriteWebCA(w.caFile); err != nil {
		t.Fatal(err)
	}
	w.cfg = LoginConfig{
		Path: program, Home: filepath.Join(t.TempDir(), "home"), Proxy: sim.ProxyAddr(), User: "alice",
		CAFile: w.caFile, Terminal: true, Logger: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return w
}

// answering logs in with answers to the kinds of prompts that have one.
func (w *loginWorld) answering(ctx context.Context, answers map[state.LoginKind]string) error {
	w.cfg.Ask = func(p Prompt, answer func(string)) {
		w.mu.Lock()
		w.kinds = append(w.kinds, p.Kind)
		w.mu.Unlock()
		if text, ok := answers[p.Kind]; ok {
			answer(text)
			answer("the second answer is not typed")
		}
	}
	return Login(ctx, w.cfg)
}

func (w *loginWorld) loggedIn(t *testing.T) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(w.cfg.Home, "current-profile"))
	return err == nil
}

func TestLoginWithAPassword(t *testing.T) {
	t.Parallel()
	otp := []simcluster.User{{Name: "alice", Password: "hunter2-secret", OTP: "123456"}}
	plain := []simcluster.User{{Name: "alice", Password: "hunter2-secret"}}
	for name, tt := range map[string]struct {
		users   []simcluster.User
		answers map[state.LoginKind]string
		change  func(*loginWorld)
		want    error
		asked   []state.LoginKind
	}{
		"password": {users: plain, answers: map[state.LoginKind]string{state.LoginPassword: "hunter2-secret"}, asked: []state.LoginKind{state.LoginPassword}},
		"wrong_password": {
			users: plain, answers: map[state.LoginKind]string{state.LoginPassword: "hunter2-wrong"}, want: ErrBadLogin, asked: []state.LoginKind{state.LoginPassword},
		},
		"one_time_code": {
			users: otp, answers: map[state.LoginKind]string{state.LoginPassword: "hunter2-secret", state.LoginOTP: "123456"},
			asked: []state.LoginKind{state.LoginPassword, state.LoginOTP},
		},
		"wrong_code": {
			users: otp, answers: map[state.LoginKind]string{state.LoginPassword: "hunter2-secret", state.LoginOTP: "000000"}, want: ErrBadLogin,
			asked: []state.LoginKind{state.LoginPassword, state.LoginOTP},
		},
		"unknown_connector": {users: plain, change: func(w *loginWorld) { w.cfg.Auth = "nope" }, want: ErrUnknownConnector},
		"proxy_down":        {users: plain, change: func(w *loginWorld) { w.cfg.Proxy = "127.0.0.1:1" }, want: ErrProxyUnreachable},
		"untrusted":         {users: plain, change: func(w *loginWorld) { w.cfg.CAFile = "" }, want: ErrProxyUntrusted},
		"insecure": {
			users: plain, change: func(w *loginWorld) { w.cfg.CAFile, w.cfg.Insecure = "", true },
			answers: map[state.LoginKind]string{state.LoginPassword: "hunter2-secret"}, asked: []state.LoginKind{state.LoginPassword},
		},
		"no_terminal": {users: plain, change: func(w *loginWorld) { w.cfg.Terminal = false }, want: ErrNoTerminal},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLoginWorld(t, "login", simcluster.Config{Users: tt.users})
			if tt.change != nil {
				tt.change(w)
			}
			err := w.answering(t.Context(), tt.answers)
			if !errors.Is(err, tt.want) {
				t.Errorf("Login = %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(tt.asked, w.prompts()); diff != "" {
				t.Errorf("prompts (-want +got):\n%s", diff)
			}
			if errors.Is(err, ErrNoTerminal) && len(w.kinds) > 0 {
				t.Errorf("the second line of an error was shown apart: %v", w.kinds)
			}
			if w.loggedIn(t) != (tt.want == nil) {
				t.Errorf("a profile was written: %v", w.loggedIn(t))
			}
			seen := w.log.String() + readNote(t, w.noted, "args") + readNote(t, w.noted, "env")
			if err != nil {
				seen += err.Error()
			}
			if strings.Contains(seen, "hunter2") || strings.Contains(seen, "123456") {
				t.Errorf("a secret is in the log, the arguments, the environment or the error:\n%s", seen)
			}
		})
	}
}

// prompts are the kinds of the prompts, without those that only inform.
func (w *loginWorld) prompts() []state.LoginKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []state.LoginKind
	for _, k := range w.kinds {
		if k != state.LoginInfo {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// browse does what a browser and a person do: it opens the login page and
// follows the link that matches.
func browse(ctx context.Context, caFile, login, link string) error {
	raw, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	get := func(address string) (page string, at *url.URL, err error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return "", nil, err
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return "", nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), resp.Request.URL, err
	}
	page, at, err := get(login)
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`href="([^"]*` + link + `[^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		return errors.New("no such link in " + page)
	}
	next, err := at.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
	if err != nil {
		return err
	}
	_, _, err = get(next.String())
	return err
}

func TestLoginWithABrowser(t *testing.T) {
	for name, tt := range map[string]struct {
		link string
		want error
	}{
		"accepted": {"user=alice", nil},
		"refused":  {"refuse=1", ErrLoginRefused},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLoginWorld(t, "login", simcluster.Config{Connectors: []simcluster.Connector{{Name: "okta", Type: simcluster.OIDC}}})
			w.cfg.Terminal, w.cfg.User = false, ""
			browsed := make(chan error, 1)
			w.cfg.Ask = func(p Prompt, _ func(string)) {
				if p.Kind == state.LoginURL {
					if left := time.Until(p.Deadline); left < 170*time.Second {
						t.Errorf("%v are left for the browser, want 3 min", left)
					}
					go func() { browsed <- browse(t.Context(), w.caFile, p.URL, tt.link) }()
				}
			}
			if err := Login(t.Context(), w.cfg); !errors.Is(err, tt.want) {
				t.Errorf("Login = %v, want %v", err, tt.want)
			}
			if err := <-browsed; err != nil {
				t.Error(err)
			}
			if w.loggedIn(t) != (tt.want == nil) {
				t.Errorf("a profile was written: %v", w.loggedIn(t))
			}
		})
	}
	t.Run("nobody_comes", func(t *testing.T) {
		t.Setenv("BERTH_FAKE_TSH_SSO_TIMEOUT", "50ms")
		w := newLoginWorld(t, "login", simcluster.Config{Connectors: []simcluster.Connector{{Name: "okta", Type: simcluster.OIDC}}})
		if err := w.answering(t.Context(), nil); !errors.Is(err, ErrLoginTimeout) {
			t.Errorf("Login = %v, want %v", err, ErrLoginTimeout)
		}
	})
}

// TestLoginWithABadTSH has a tsh that does not do what it should.
func TestLoginWithABadTSH(t *testing.T) {
	t.Parallel()
	t.Run("missing", func(t *testing.T) {
		w := newLoginWorld(t, "login", simcluster.Config{})
		w.cfg.Path = filepath.Join(t.TempDir(), "tsh")
		var missing *NotFoundError
		if err := w.answering(t.Context(), nil); !errors.As(err, &missing) {
			t.Errorf("Login = %v, want a NotFoundError", err)
		}
	})
	for _, part := range []string{"hangs", "garbage"} {
		t.Run(part, func(t *testing.T) {
			w := newLoginWorld(t, part, simcluster.Config{})
			w.cfg.silent = 300 * time.Millisecond
			if err := w.answering(t.Context(), nil); !errors.Is(err, ErrLoginTimeout) {
				t.Errorf("Login = %v, want %v", err, ErrLoginTimeout)
			}
		})
	}
	t.Run("no_time_to_start", func(t *testing.T) {
		w := newLoginWorld(t, "hangs", simcluster.Config{})
		w.cfg.silent = time.Nanosecond
		if err := w.answering(t.Context(), nil); !errors.Is(err, ErrLoginTimeout) {
			t.Errorf("Login = %v, want %v", err, ErrLoginTimeout)
		}
	})
	t.Run("exits", func(t *testing.T) {
		w := newLoginWorld(t, "exits", simcluster.Config{})
		err := w.answering(t.Context(), nil)
		if !errors.Is(err, errLoginFailed) || !strings.Contains(err.Error(), `database "nope" not found`) {
			t.Errorf("Login = %v, want tsh's own words", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		w := newLoginWorld(t, "asks_unfinished", simcluster.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		w.cfg.Ask = func(p Prompt, _ func(string)) {
			switch p.Kind {
			case state.LoginOTP:
				cancel()
			case state.LoginInfo:
				if p.Text != "Shall I?" {
					t.Errorf("shown: %q", p.Text)
				}
			default:
				t.Errorf("prompt %+v", p)
			}
		}
		if err := Login(ctx, w.cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("Login = %v, want it cancelled", err)
		}
	})
}

// TestLoginThatIsAnAccessRequest has roles that make each login wait for its approval.
func TestLoginThatIsAnAccessRequest(t *testing.T) {
	t.Parallel()
	for part, says := range map[string]string{"waits_for_approval": "not approved", "is_not_approved": "not today"} {
		t.Run(part, func(t *testing.T) {
			w := newLoginWorld(t, part, simcluster.Config{})
			w.cfg.silent, w.cfg.approval = time.Hour, time.Hour
			if part == "waits_for_approval" {
				w.cfg.approval = 300 * time.Millisecond
			}
			shown := make(chan Prompt, 10)
			w.cfg.Ask = func(p Prompt, _ func(string)) { shown <- p }
			err := Login(t.Context(), w.cfg)
			if !errors.Is(err, ErrNotApproved) || !strings.Contains(err.Error(), says) {
				t.Errorf("Login = %v, want %v", err, ErrNotApproved)
			}
			if p := <-shown; p.Kind != state.LoginInfo || !strings.Contains(p.Text, "waits for an access request") {
				t.Errorf("shown: %+v", p)
			}
		})
	}
}

func TestSecretIsNotTypedWhileItWouldShow(t *testing.T) {
	testneeds.Time(t, "it waits for a tsh that never turns its echo off")
	t.Parallel()
	w := newLoginWorld(t, "shows_secrets", simcluster.Config{})
	began := time.Now()
	err := w.answering(t.Context(), map[state.LoginKind]string{state.LoginPassword: "hunter2"})
	if err == nil || !strings.Contains(err.Error(), "would show it") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Login = %v, want a refusal to type", err)
	}
	if took := time.Since(began); took < echoWait {
		t.Errorf("it gave up after %v, before tsh had its %v", took, echoWait)
	}
}

func TestReadPrompt(t *testing.T) {
	const url = "http://127.0.0.1:38281/4a1b"
	for _, tt := range []struct {
		line        string
		urlExpected bool
		want        state.LoginKind
	}{
		{"Enter password for Teleport user alice:", false, state.LoginPassword},
		{"Enter password for Teleport user alice@example.com:", false, state.LoginPassword},
		{"Enter your OTP token:", false, state.LoginOTP},
		{"Enter an OTP code from a device:", false, state.LoginOTP},
		{"Tap any security key", false, state.LoginTap},
		{"Enter your security key PIN:", false, state.LoginPIN},
		{"Tap your security key to complete login", false, state.LoginTap},
		{"Tap any security key or enter a code from a OTP device", false, state.LoginOTP},
		{url, true, state.LoginURL},
		{url, false, state.LoginInfo}, // a URL out of nowhere is shown, not opened
		{"https://evil.example.com", false, state.LoginInfo},
		{"not a URL", true, state.LoginInfo},
		{"ERROR: invalid username or password", false, ""},
		{"WARNING: Ignoring Teleport user (alice) for Single Sign-On (SSO) login.", false, ""},
		{"Please hop on one leg:", false, state.LoginInfo},
	} {
		if got := readPrompt(tt.line, tt.urlExpected); got.Kind != tt.want {
			t.Errorf("readPrompt(%q, %v) = %+v, want kind %q", tt.line, tt.urlExpected, got, tt.want)
		}
	}
}
