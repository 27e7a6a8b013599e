//go:build unix

package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/ipc/client"
	"berth/agent/secrets"
	"berth/agent/secrets/secretstest"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

const mfaSeed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

// mfaEnv runs an agent at a cluster that asks for a second factor for each
// session, with a tunnel pg to the database pg.
func mfaEnv(t *testing.T, u simcluster.User, more ...string) (e *env, k *secretstest.Keychain, port int) {
	t.Helper()
	u.Name, u.Password = "alice", "alice-password"
	e, k = newEnv(t, simcluster.Config{
		Users: []simcluster.User{u}, Roles: []simcluster.Role{{Name: "access", RequireSessionMFA: true}},
		Databases: []simcluster.Database{{Name: "pg", Protocol: "postgres"}, {Name: "pg2", Protocol: "postgres"}},
	}), &secretstest.Keychain{}
	e.withTSH()
	e.Login()
	item, port := e.pgTunnel("pg")
	e.config(append([]string{item}, more...)...)
	e.startOptions(func(o *Options) { o.keychain = k }, func(*Agent) {})
	return e, k, port
}

// codeFor is a code of mfaSeed that is good for a few seconds at least.
func codeFor(t *testing.T) string {
	t.Helper()
	seed, err := secrets.ParseSeed(mfaSeed)
	if err != nil {
		t.Fatal(err)
	}
	code, err := seed.Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return code.Reveal()
}

func (e *env) awaitCodeNeeded(name string) {
	e.t.Helper()
	if tun := e.AwaitState(name, state.TunnelWaitingForLogin); tun.Problem == nil || tun.Problem.Code != state.CodeMFARequired {
		e.t.Fatalf("tunnel %s waits for want of %+v, not of a code", name, tun.Problem)
	}
}

// connectingUntil has clients come until a snapshot is as wanted, and returns the
// last one and their number: a client is refused that comes before another try is due.
func (e *env) connectingUntil(port int, what string, ok func(state.Snapshot) bool) (held <-chan error, clients int) {
	e.t.Helper()
	c := e.Client()
	testwait.Eventually(e.t, what, func() bool {
		select {
		case <-held:
			held = nil
		default:
		}
		if held == nil {
			held = e.connecting(port)
			clients++
		}
		s, err := c.Snapshot(e.t.Context())
		return err == nil && ok(s)
	})
	return held, clients
}

func (e *env) mustArrive(done <-chan error) {
	e.t.Helper()
	select {
	case err := <-done:
		if err != nil {
			e.t.Fatalf("the held client: %v", err)
		}
	case <-time.After(wait):
		e.t.Fatal("the client is still held")
	}
}

// TestSessionCodeIsAskedFor: a client is held, one code serves every tunnel to
// its database, and the tunnel that no client waits for is left alone.
func TestSessionCodeIsAskedFor(t *testing.T) {
	t.Parallel()
	const other = "name: other, kind: db, cluster: sim.test, resource: pg2, db_user: alice, db_name: app"
	const again = "name: again, kind: db, cluster: sim.test, resource: pg, db_user: bob, db_name: else"
	e, _, port := mfaEnv(t, simcluster.User{TOTP: mfaSeed}, other, again)
	for _, name := range []string{"pg", "other", "again"} {
		e.awaitCodeNeeded(name)
	}
	held := e.connecting(port)
	e.Await("a notice that asks for the code", func(s state.Snapshot) bool {
		return len(s.Notices) > 0 && s.Notices[0].Title == "One-time code for sim.test" && s.Notices[0].Actions[0].Label == "Enter the code"
	})
	p := e.sit(t.Context(), client.LoginStart{}, "000000", codeFor(t))
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	want := []state.LoginKind{state.LoginOTP, state.LoginSettled, state.LoginOTP, state.LoginSettled, state.LoginDone}
	if diff := cmp.Diff(want, p.saw()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	e.mustArrive(held)
	e.AwaitState("again", state.TunnelReady)
	e.awaitCodeNeeded("other")
	tun := e.AwaitState("pg", state.TunnelReady)
	if end := *e.profile().ValidUntil; tun.Engine != state.EngineNative || !tun.CertValidUntil.Equal(end) {
		t.Errorf("tunnel %+v; want a cert that ends with the session, %v", tun, end)
	}
	// The cert of the session before goes on serving after a renewal.
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.mustArrive(e.connecting(port))
	e.AwaitState("pg", state.TunnelReady)
	e.noSecretsTold("000000", mfaSeed)
}

// TestCodeGoesOnAfterLogin: the login that releases a held client goes on to
// ask for the code that the client needs then.
func TestCodeGoesOnAfterLogin(t *testing.T) {
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{TOTP: mfaSeed})
	e.awaitCodeNeeded("pg")
	e.Login(simcluster.WithTTL(-time.Minute))
	e.Await("the end of the session", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileExpired && s.Tunnels[0].Problem.Code == state.CodeLoginNeeded
	})
	held := e.connecting(port)
	e.Await("a held client", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 })
	if err := e.sit(t.Context(), client.LoginStart{}, "alice-password", codeFor(t)).result(t); err != nil {
		t.Fatal(err)
	}
	e.mustArrive(held)
}

// TestStoredSeedAnswersSessions: nothing is asked, and a seed that turns out to
// be wrong is tried once.
func TestStoredSeedAnswersSessions(t *testing.T) {
	t.Parallel()
	e, k, port := mfaEnv(t, simcluster.User{TOTP: mfaSeed})
	e.awaitCodeNeeded("pg")
	if err := e.sit(t.Context(), client.LoginStart{Remember: true, TOTPSeed: mfaSeed}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.mustArrive(e.connecting(port))
	if e.profile().Login.InProgress {
		t.Error("a login is said to be under way")
	}
	e.noSecretsTold(mfaSeed)

	key := secrets.Key{Proxy: e.Sim.ProxyAddr(), User: "alice", Kind: secrets.TOTP}
	if err := k.Set(t.Context(), key, secrets.NewSecret(strings.Repeat("A", 32))); err != nil {
		t.Fatal(err)
	}
	minted := e.Sim.Counters().RPCs["GenerateUserCerts"]
	if err := e.Client().RestartTunnel(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	e.awaitCodeNeeded("pg")
	held := e.connecting(port)
	e.Await("a notice that asks for the code", func(s state.Snapshot) bool {
		return len(s.Notices) > 0 && s.Notices[0].Title == "One-time code for sim.test"
	})
	if n := e.Sim.Counters().RPCs["GenerateUserCerts"] - minted; n != 1 {
		t.Errorf("%d codes of a wrong seed were tried, want 1", n)
	}
	seed, err := secrets.ParseSeed(mfaSeed)
	if err != nil {
		t.Fatal(err)
	}
	next, _, err := seed.CodeAt(time.Now().Add(30 * time.Second)) // the present one has been used
	if err != nil {
		t.Fatal(err)
	}
	if err := e.sit(t.Context(), client.LoginStart{}, next.Reveal()).result(t); err != nil {
		t.Fatal(err)
	}
	e.mustArrive(held)
}

// TestLoginAfterSessionCode: a login and a session take no code of a stored seed twice;
// the login would fail, and what is stored would be forgotten.
func TestLoginAfterSessionCode(t *testing.T) {
	testneeds.Time(t, "it waits for the codes of the next minute")
	t.Parallel()
	e, _, _ := mfaEnv(t, simcluster.User{TOTP: mfaSeed, LoginTOTP: true})
	e.awaitCodeNeeded("pg")
	if err := e.sit(t.Context(), client.LoginStart{Remember: true, TOTPSeed: mfaSeed}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.AwaitState("pg", state.TunnelReady)
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}).result(t); err != nil {
		t.Errorf("a login after a session's code: %v", err)
	}
	if stored := e.profile().Stored; len(stored) != 2 {
		t.Errorf("afterwards %v is stored, want the password and the seed", stored)
	}
}

// TestSecurityKeyThroughTSH: tsh runs when a client comes, its prompt is passed
// on, and a key that is not touched causes no restarts.
func TestSecurityKeyThroughTSH(t *testing.T) {
	testneeds.Time(t, "a key that is not touched is waited for")
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{SecurityKey: true})
	e.awaitCodeNeeded("pg")
	if n := e.Sim.Counters().RPCs["GenerateUserCerts"]; n != 0 {
		t.Errorf("tsh was run %d times before a client came", n)
	}
	held := e.connecting(port)
	e.Await("a notice to touch the key", func(s state.Snapshot) bool {
		return len(s.Notices) > 0 && s.Notices[0].Kind == state.NoticeTap && s.Tunnels[0].Problem.Code == state.CodeTapNeeded
	})
	select { // untouched
	case err := <-held:
		if err == nil || !strings.Contains(err.Error(), "second factor") {
			t.Errorf("the client of a key that is not touched: %v", err)
		}
	case <-time.After(wait):
		t.Fatal("the client is held although the key was not touched")
	}
	e.AwaitState("pg", state.TunnelError)
	tried := e.Sim.Counters().RPCs["GenerateUserCerts"]
	testwait.Never(t, "a run of tsh although no client came", func() bool { return e.Sim.Counters().RPCs["GenerateUserCerts"] != tried })
	held, clients := e.connectingUntil(port, "the prompt again", func(s state.Snapshot) bool {
		return s.Tunnels[0].Problem != nil && s.Tunnels[0].Problem.Code == state.CodeTapNeeded
	})
	if n := e.Sim.Counters().RPCs["GenerateUserCerts"] - tried; n > clients {
		t.Errorf("tsh was run %d times for %d clients", n, clients)
	}
	e.Sim.TouchKey()
	e.mustArrive(held)
	if tun := e.AwaitState("pg", state.TunnelReady); tun.Engine != state.EngineTSH || tun.Problem != nil {
		t.Errorf("tunnel %+v; want it carried by tsh", tun)
	}
}

// TestSecurityKeyWithoutHold: a client that is not held is refused, and starts the tsh
// that asks for the key, for those to come.
func TestSecurityKeyWithoutHold(t *testing.T) {
	t.Parallel()
	port := simworld.FreePort(t)
	e, _, _ := mfaEnv(t, simcluster.User{SecurityKey: true, TouchWait: wait},
		fmt.Sprintf("name: now, kind: db, cluster: sim.test, resource: pg2, db_user: alice, db_name: app, port: %d, hold: 0s", port))
	e.awaitCodeNeeded("now")
	if err := <-e.connecting(port); err == nil || !strings.Contains(err.Error(), "security key needed") {
		t.Errorf("the client before the key was touched: %v", err)
	}
	e.Await("a notice to touch the key", func(s state.Snapshot) bool {
		return len(s.Notices) > 0 && s.Notices[0].Kind == state.NoticeTap
	})
	e.Sim.TouchKey()
	e.AwaitState("now", state.TunnelReady)
	e.mustArrive(e.connecting(port))
}

// TestPINFarAway: tsh listens long before it asks for the PIN, so the client is let
// through to it already. It is asked for all the same.
func TestPINFarAway(t *testing.T) {
	testneeds.Time(t, "tsh asks late")
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{SecurityKey: true, SecurityKeyPIN: "12 34"})
	held := e.letThrough(port)
	e.Await("a notice that asks for the PIN", asksPIN)
	e.Sim.TouchKey()
	if err := e.sit(t.Context(), client.LoginStart{}, "12 34").result(t); err != nil {
		t.Fatal(err)
	}
	e.mustArrive(held)
	e.AwaitState("pg", state.TunnelReady)
}

// TestTapFarAway: the same for a touch. If the key is not touched, the client gets the reason.
func TestTapFarAway(t *testing.T) {
	testneeds.Time(t, "a key that is not touched is waited for")
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{SecurityKey: true})
	held := e.letThrough(port)
	e.Await("a notice to touch the key", func(s state.Snapshot) bool {
		return len(s.Notices) > 0 && s.Notices[0].Kind == state.NoticeTap
	})
	if err := <-held; err == nil || !strings.Contains(err.Error(), "second factor") {
		t.Errorf("the client of a key that is not touched: %v", err)
	}
}

// letThrough has a client connect while tsh is slow to ask for the key, and waits
// until berth has let it through to tsh.
func (e *env) letThrough(port int) (held <-chan error) {
	e.t.Helper()
	e.awaitCodeNeeded("pg")
	e.Sim.Faults().RPCDelay("CreateAuthenticateChallenge", wait)
	held = e.connecting(port)
	e.Await("the client to be let through", func(s state.Snapshot) bool {
		return s.Tunnels[0].State == state.TunnelReady && s.Tunnels[0].Connections == 1 && s.Tunnels[0].Waiting == 0
	})
	e.Sim.Faults().RPCDelay("CreateAuthenticateChallenge", 0)
	return held
}

// asksPIN reports whether the tunnel's tsh wants a PIN and a notification asks for it.
func asksPIN(s state.Snapshot) bool {
	asks := slices.ContainsFunc(s.Notices, func(n state.Notice) bool { // a wrong one may have its own still
		return n.Title == "PIN of your security key for sim.test" && n.Actions[0].Label == "Enter the PIN"
	})
	return asks && s.Tunnels[0].Problem != nil && s.Tunnels[0].Problem.Code == state.CodePINNeeded
}

// TestSecurityKeyWithPIN: the PIN is asked for like a code, and never answered from a
// stored seed.
func TestSecurityKeyWithPIN(t *testing.T) {
	testneeds.Time(t, "what a wrong PIN ends is waited for")
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{SecurityKey: true, SecurityKeyPIN: "  12 34"})
	e.awaitCodeNeeded("pg")
	for _, pin := range []string{"0 wrong 0", "  12 34"} {
		held, _ := e.connectingUntil(port, "a notice that asks for the PIN", asksPIN)
		e.Sim.TouchKey()
		p := e.sit(t.Context(), client.LoginStart{}, pin)
		if err := p.result(t); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]state.LoginKind{state.LoginPIN, state.LoginSettled, state.LoginDone}, p.saw()); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		if pin == "0 wrong 0" {
			if err := <-held; err == nil || !strings.Contains(err.Error(), "second factor") {
				t.Errorf("the client after a wrong PIN: %v", err)
			}
			e.AwaitState("pg", state.TunnelError)
			continue
		}
		e.mustArrive(held)
	}
	e.AwaitState("pg", state.TunnelReady)
	e.noSecretsTold("0 wrong 0", "12 34")
}

// TestNewSessionWhilePINIsAsked: a client that waits in tsh for a PIN is not left there
// when a new session has tsh replaced; the next one is asked anew.
func TestNewSessionWhilePINIsAsked(t *testing.T) {
	testneeds.Time(t, "the proxy is far away")
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{SecurityKey: true, SecurityKeyPIN: "12 34"})
	held := e.letThrough(port)
	e.Await("a notice that asks for the PIN", asksPIN)
	e.Login()
	select {
	case err := <-held:
		if err == nil || !strings.Contains(err.Error(), "tunnel pg: session changed") {
			t.Errorf("the client that waited hears %v", err)
		}
	case <-time.After(wait):
		t.Fatal("the client still waits in the tsh that was replaced")
	}
	e.Await("the PIN no longer to be asked for", func(s state.Snapshot) bool { return !asksPIN(s) })
	held, _ = e.connectingUntil(port, "another notice that asks for the PIN", asksPIN)
	e.Sim.TouchKey()
	if err := e.sit(t.Context(), client.LoginStart{}, "12 34").result(t); err != nil {
		t.Fatal(err)
	}
	e.mustArrive(held)
}

// TestNoSecondFactor: one sentence, and no tsh.
func TestNoSecondFactor(t *testing.T) {
	t.Parallel()
	e, _, port := mfaEnv(t, simcluster.User{})
	tun := e.AwaitState("pg", state.TunnelError)
	if tun.Problem.Code != state.CodeMFARequired || tun.Problem.Action != "tsh mfa add" {
		t.Errorf("problem %+v", tun.Problem)
	}
	if err := <-e.connecting(port); err == nil || !strings.Contains(err.Error(), "no second factor") {
		t.Errorf("a client is refused with %v", err)
	}
}
