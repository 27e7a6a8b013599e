package requests

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/login"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/wake"
)

// heldFor is the profile that assumes wait for a login of.
var heldFor = &certwatch.Profile{Home: "/home/tsh", Name: "tele.test", ProxyAddr: "tele.test:443", User: "alice"}

// fakeLogins has a login under way at its one proxy until a moment.
type fakeLogins struct{ until time.Time }

func (f *fakeLogins) Target(string) (login.Target, error) {
	return login.Target{Proxy: "tele.test:443", Home: "/home/tsh"}, nil
}

func (f *fakeLogins) Of(login.Key) *login.Login {
	if time.Now().Before(f.until) {
		return new(login.Login)
	}
	return nil
}

// noTunnels are Tunnels of which none has a request's roles.
type noTunnels struct{}

func (noTunnels) Grant(string, state.Request) error { return nil }
func (noTunnels) Ungrant(string, string) error      { return nil }
func (noTunnels) GrantLost(string, string)          {}
func (noTunnels) Outside(state.Request) []string    { return nil }
func (noTunnels) Word(err error, _ string) error    { return err }

type heldTest struct {
	*Requests
	sessions *sessions.Sessions
	logins   *fakeLogins
}

func newHeldTest(t *testing.T) *heldTest {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := memory.Load(filepath.Join(t.TempDir(), "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	h := &heldTest{sessions: sessions.New(log), logins: &fakeLogins{}}
	h.Requests = New(Config{
		Config: func() *config.Config { return &config.Config{} }, Sessions: h.sessions, Memory: store,
		Tunnels: noTunnels{}, Logins: h.logins, Refresh: func() {}, OnChange: func() {}, Publish: func() {}, Logger: log,
	})
	return h
}

// logIn lets a session be read that berth has no key for: enough to end a wait.
func (h *heldTest) logIn() {
	h.sessions.Update(&certwatch.View{Profiles: []*certwatch.Profile{{
		Home: "/home/tsh", Name: "tele.test", ProxyAddr: "tele.test:443", User: "alice",
		Session: &certwatch.Session{ValidUntil: time.Now().Add(time.Hour)},
	}}})
}

// assume assumes a request that no cluster lists, and returns the answer and how
// long it took.
func (h *heldTest) assume(t *testing.T, hold time.Duration) (*ipc.Error, time.Duration) {
	t.Helper()
	began := time.Now()
	_, err := h.AssumeRequest(t.Context(), ipc.Assume{ID: "0a1b2c3d", Hold: &hold})
	answer, ok := errors.AsType[*ipc.Error](err)
	if !ok {
		t.Fatalf("AssumeRequest: %v, want an *ipc.Error", err)
	}
	return answer, time.Since(began)
}

func TestHeldAssumeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldTest(t)
		answer, took := h.assume(t, time.Minute)
		if answer.Code != ipc.CodeLoginNeeded || !strings.Contains(answer.Message, "within 60 s") || took != time.Minute {
			t.Errorf("after %v: %v %q, want a login to be needed after a minute", took, answer.Code, answer.Message)
		}
		if answer, took = h.assume(t, 0); answer.Code != ipc.CodeLoginNeeded || took != 0 {
			t.Errorf("without a hold: %v after %v", answer, took)
		}
		if held := h.Held(heldFor); len(held) != 0 {
			t.Errorf("%q is held when all have their answers", held)
		}
	})
}

// A session that is read wakes a held assume, which then looks for its request.
func TestHeldAssumeGoesOnAfterALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldTest(t)
		go func() {
			wake.Sleep(t.Context(), 20*time.Second)
			if held := h.Held(heldFor); len(held) != 1 || held[0] != "0a1b2c3d" {
				t.Errorf("held is %q, want the request", held)
			}
			h.logIn()
		}()
		answer, took := h.assume(t, time.Minute)
		if answer.Code != ipc.CodeNotFound || took != 20*time.Second+lookupWait {
			t.Errorf("after %v: %v %q, want the request looked for as soon as there is a session", took, answer.Code, answer.Message)
		}
	})
}

// A login that is under way when the time is up is waited for.
func TestHeldAssumeWaitsForALoginUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeldTest(t)
		h.logins.until = time.Now().Add(2 * time.Minute)
		go func() {
			wake.Sleep(t.Context(), 2*time.Minute)
			h.logIn()
		}()
		if answer, took := h.assume(t, time.Minute); answer.Code != ipc.CodeNotFound || took != 2*time.Minute+lookupWait {
			t.Errorf("after %v: %v %q, want what follows the login", took, answer.Code, answer.Message)
		}
	})
}
