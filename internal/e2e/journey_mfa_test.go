//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/pquerna/otp/totp"

	"berth/agent/state"
	"berth/internal/dbustest"
	"berth/internal/pty/ptytest"
	"berth/internal/simcluster/simkube"
	"berth/internal/testwait"
)

// As roleDB and roleKube, with a second factor for each session.
const roleMFA, roleKubeMFA = "db-mfa", "kube-mfa"

// withSecondFactors lets users of the cluster have second factors, for the
// length of the test, and makes roleMFA.
func withSecondFactors(t *testing.T) {
	t.Helper()
	set := func(ctx context.Context, factor string) error {
		_, err := lab.teleport.tctl(ctx, fmt.Sprintf(`kind: cluster_auth_preference
version: v2
metadata: {name: cluster-auth-preference}
spec: {type: local, second_factor: %q, webauthn: {rp_id: 127.0.0.1}}
`, factor), "create", "-f", "--confirm")
		if err != nil {
			return err
		}
		testwait.Eventually(t, "the auth server's cache to learn of second factors", func() bool {
			var got string
			got, err = lab.teleport.tctl(ctx, "", "get", "cluster_auth_preference", "--format=json")
			return err != nil || strings.Contains(got, fmt.Sprintf(`"second_factor": %q`, factor))
		})
		return err
	}
	if err := set(t.Context(), "optional"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set(context.WithoutCancel(t.Context()), "off"); err != nil {
			t.Error(err)
		}
	})
	role := strings.Replace(fmt.Sprintf(roleTemplate, roleMFA, "'*': '*'", "app, reporter"),
		"forward_agent: true", "forward_agent: true, require_session_mfa: true", 1)
	kube := strings.Replace(kubeRole(roleKubeMFA, "kubernetes_groups: [system:masters]"),
		"max_session_ttl: 12h", "max_session_ttl: 12h, require_session_mfa: true", 1)
	if err := lab.teleport.apply(t.Context(), role+"---\n"+kube); err != nil {
		t.Fatal(err)
	}
}

// registerCodes gives the person, who is logged in, one-time codes, and returns
// their seed and what makes the next one.
func (p *person) registerCodes(t *testing.T) (seed string, next func() string) {
	t.Helper()
	w := &world{name: "real", proxyAddr: lab.teleport.addr(), webCAs: lab.webCA.pool(), home: p.tshHome, cluster: "ref.test", user: p.name}
	clt, err := w.dialAuth(t.Context(), p.tshHome)
	if err != nil {
		t.Fatal(err)
	}
	defer clt.Close()
	challenge, err := clt.CreateRegisterChallenge(t.Context(), &proto.CreateRegisterChallengeRequest{
		ExistingMFAResponse: &proto.MFAAuthenticateResponse{}, DeviceType: proto.DeviceType_DEVICE_TYPE_TOTP,
	})
	if err != nil {
		t.Fatal(err)
	}
	seed = challenge.GetTOTP().GetSecret()
	last := ""
	next = func() (code string) {
		testwait.Eventually(t, "another code: each is good once", func() bool {
			var err error
			if code, err = totp.GenerateCode(seed, time.Now()); err != nil {
				t.Fatal(err)
			}
			return code != last
		})
		last = code
		return code
	}
	_, err = clt.AddMFADeviceSync(t.Context(), &proto.AddMFADeviceSyncRequest{
		TokenID: challenge.GetTOTP().GetID(), ContextUser: &proto.ContextUser{}, NewDeviceName: "app",
		NewMFAResponse: &proto.MFARegisterResponse{Response: &proto.MFARegisterResponse_TOTP{TOTP: &proto.TOTPRegisterResponse{
			Code: next(), ID: challenge.GetTOTP().GetID(),
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return seed, next
}

// answer is what is typed when a question appears.
type answer struct {
	question string
	text     func() string
}

// conversation runs a command on a terminal and types the answers, in their
// order, as the questions appear.
func conversation(ctx context.Context, cmd *exec.Cmd, answers ...answer) (screen string, code int, err error) {
	terminal, err := ptytest.Start(cmd, nil)
	if err != nil {
		return "", -1, err
	}
	defer terminal.Close()
	var all, fresh bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, readErr := terminal.Read(buf)
		all.Write(buf[:n])
		fresh.Write(buf[:n])
		if len(answers) > 0 && strings.Contains(fresh.String(), answers[0].question) {
			fresh.Reset()
			if err := echoIsOff(ctx, terminal); err != nil {
				return all.String(), -1, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
			}
			if _, err := terminal.WriteString(answers[0].text() + "\r"); err != nil {
				return all.String(), -1, errors.Join(err, cmd.Wait())
			}
			answers = answers[1:]
		}
		if readErr != nil { // EIO: the other end is closed
			break
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return all.String(), exit.ExitCode(), nil
	}
	if err == nil && len(answers) > 0 {
		err = fmt.Errorf("it did not ask %q", answers[0].question)
	}
	return all.String(), cmd.ProcessState.ExitCode(), err
}

func (p *person) berthLoginWith(t *testing.T, args []string, answers ...answer) (screen string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.berth, append([]string{"login", lab.teleport.addr()}, args...)...)
	cmd.Env = p.berthEnv()
	screen, code, err := conversation(ctx, cmd, answers...)
	if err != nil {
		t.Fatalf("berth login %q: %v\n%s", args, err, screen)
	}
	return screen, code
}

// waitsForCode holds for a tunnel that takes a one-time code.
func waitsForCode(tun state.Tunnel) bool {
	return tun.State == state.TunnelWaitingForLogin && tun.Problem != nil && tun.Problem.Code == state.CodeMFARequired
}

// TestSessionMFA uses databases that want a second factor for each session: a
// client is held, the code is asked for like a login's, and serves every tunnel
// to that database until the session ends.
func TestSessionMFA(t *testing.T) {
	withSecondFactors(t)
	p := newPerson(t, roleMFA)
	p.login()
	t.Run("no_second_factor", func(t *testing.T) {
		p.startAgent()
		p.addTunnel("prod")
		p.addTunnel("reports", "--db-user", "reporter")
		p.watch().await(time.Now(), 20*time.Second, "prod", "without a second factor", func(tun state.Tunnel) bool {
			return tun.State == state.TunnelError && tun.Problem.Title == "No second factor"
		})
		if tun := p.tunnel("prod"); tun.Problem.Action != "tsh mfa add" {
			t.Errorf("the problem of a user without a second factor is %+v", tun.Problem)
		}
	})
	_, next := p.registerCodes(t)
	// What the cluster says of factors is believed for minutes: a new login is
	// the quick way to have it asked again.
	p.berthLoginWith(t, []string{"--renew"},
		answer{passwordPrompt, func() string { return p.password }}, answer{"OTP", next})
	link := p.berth("tunnel", "url", "prod")
	watch := p.watch()
	watch.await(time.Now(), 20*time.Second, "prod", "waiting for a code", waitsForCode)

	held := sendOff(t.Context(), link, "select current_user::text")
	mustHang(t, held, time.Second)
	begin := time.Now()
	screen, code := p.berthLoginWith(t, nil,
		answer{"One-time code for tunnel prod:", func() string { return "000000" }},
		answer{"The next one-time code, for tunnel prod:", next})
	if code != 0 || !strings.Contains(screen, "That code is wrong.") || !strings.Contains(screen, "have their codes") {
		t.Fatalf("berth login exits %d:\n%s", code, screen)
	}
	arrive(t, held, 5*time.Second, "app")
	watch.await(begin, 5*time.Second, "prod", "ready", ready)
	watch.await(begin, 5*time.Second, "reports", "ready with the same code", ready)
	if got, err := query(t.Context(), asUser(link, "reporter"), "select current_user::text"); err != nil || got != "reporter" {
		t.Errorf("another user through the same cert: %q, %v", got, err)
	}
	s := p.snapshot()
	tun, _ := findTunnel(s, "prod")
	if tun.Engine != state.EngineNative || tun.CertValidUntil == nil || s.Profiles[0].ValidUntil.Sub(*tun.CertValidUntil) > 2*time.Second {
		t.Errorf("the tunnel is %+v; want a cert of its own that ends with the session %v", tun, s.Profiles[0].ValidUntil)
	}
	if out := p.berth("login", lab.teleport.addr()); !strings.Contains(out, "is logged in") {
		t.Errorf("berth login with nothing to ask says %q", out)
	}
	if log := p.agent.tail(); strings.Contains(log, "tsh keeps failing") || strings.Contains(log, "not a terminal") {
		t.Errorf("tsh was started:\n%s", log)
	}
}

// TestSessionMFAStoredSeed has the seed of the codes kept in a real keyring: logins and
// tunnels of both kinds ask nothing.
func TestSessionMFAStoredSeed(t *testing.T) {
	withSecondFactors(t)
	bus := dbustest.Start(t)
	bus.StartKeyring(t)
	p := newPerson(t, roleMFA, roleKubeMFA)
	p.more = []string{"DBUS_SESSION_BUS_ADDRESS=" + bus.Address}
	p.login()
	p.startAgent()
	seed, next := p.registerCodes(t)
	next() // the code that registered it is used up
	screen, code := p.berthLoginWith(t, []string{"--remember", "--remember-totp"},
		answer{"Seed that your authenticator", func() string { return seed }},
		answer{passwordPrompt, func() string { return p.password }})
	if code != 0 || !strings.Contains(screen, "The seed of the one-time codes is stored in the keychain.") {
		t.Fatalf("berth login --remember-totp exits %d:\n%s", code, screen)
	}
	p.addTunnel("prod")
	p.berth("tunnel", "add", "kube", "cluster", "--resource", kubeProd)
	begin := time.Now()
	watch := p.watch()
	for _, name := range []string{"prod", "cluster"} { // each takes the code of another half minute
		at := watch.await(begin, 2*time.Minute, name, "ready", ready)
		t.Logf("%s is ready %s after it was added, unasked", name, at.Sub(begin).Round(time.Second))
	}
	if got, err := query(t.Context(), p.berth("tunnel", "url", "prod"), "select current_user::text"); err != nil || got != "app" {
		t.Errorf("the tunnel answers %q, %v", got, err)
	}
	k := p.kubectl(p.berth("exec", "--quiet", "cluster", "--", "sh", "-c", `echo "$KUBECONFIG"`))
	if got := k.Must(t, "get", "pods"); !strings.Contains(got, simkube.PodWeb) {
		t.Errorf("get pods:\n%s", got)
	}
	p.berth("login", "--renew") // no terminal to ask at
	if log := p.agent.tail(); strings.Contains(log, seed) || strings.Contains(log, p.password) {
		t.Error("a secret is in the agent's log")
	}
}

// TestSessionMFAKubernetes: kubectl is held until a code was typed, which serves until the
// session ends.
func TestSessionMFAKubernetes(t *testing.T) {
	withSecondFactors(t)
	p := newPerson(t, roleKubeMFA)
	p.login()
	_, next := p.registerCodes(t)
	p.startAgent()
	p.berth("tunnel", "add", "kube", "cluster", "--resource", kubeProd)
	p.watch().await(time.Time{}, 20*time.Second, "cluster", "waiting for a code", waitsForCode)
	k := p.kubectl(p.berth("exec", "--quiet", "cluster", "--", "sh", "-c", `echo "$KUBECONFIG"`))
	held := k.Start(t, "get", "pods", "-o", "name")
	screen, code := p.berthLoginWith(t, nil, answer{"One-time code for tunnel cluster:", next})
	if code != 0 {
		t.Fatalf("berth login exits %d:\n%s", code, screen)
	}
	held.Await(t, "pod/"+simkube.PodWeb)
	if got := k.Must(t, "get", "pods"); !strings.Contains(got, simkube.PodWeb) {
		t.Errorf("get pods:\n%s", got)
	}
	s := p.snapshot()
	tun, _ := findTunnel(s, "cluster")
	if tun.Engine != state.EngineNative || tun.CertValidUntil == nil || s.Profiles[0].ValidUntil.Sub(*tun.CertValidUntil) > 2*time.Second {
		t.Errorf("the tunnel is %+v; want a cert that ends with the session %v", tun, s.Profiles[0].ValidUntil)
	}
}
