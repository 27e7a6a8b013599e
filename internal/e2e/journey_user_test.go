//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// TestAnotherUsersSession: bob logs in over alice's valid session. Tunnels go on as
// bob and say so; one that is for alice waits for her, and so do its clients.
func TestAnotherUsersSession(t *testing.T) {
	alice, bob := newPerson(t, roleDB), newPerson(t, roleDB)
	bob.tshHome = alice.tshHome
	alice.login()
	alice.startAgent()
	alice.addTunnel("anyone")
	alice.addTunnel("hers", "--user", alice.name)
	for _, name := range []string{"anyone", "hers"} {
		alice.awaitReady(name)
	}
	link, hers := alice.berth("tunnel", "url", "anyone"), alice.berth("tunnel", "url", "hers")
	watch := alice.watch()
	changed := time.Now()
	bob.takeOver(t)

	as := watch.await(changed, 20*time.Second, "hers", "waiting for its user", func(tun state.Tunnel) bool {
		return tun.State == state.TunnelWaitingForLogin && tun.Problem != nil && strings.Contains(tun.Problem.Text, bob.name)
	})
	t.Logf("%s after bob's login the tunnel for alice waits: %s", as.Sub(changed).Round(time.Millisecond), alice.tunnel("hers").Problem.Text)
	watch.await(as, 20*time.Second, "anyone", "ready", ready)
	if got, err := query(t.Context(), link, "select current_user::text"); err != nil || got != "app" {
		t.Errorf("as bob the tunnel answers %q, %v", got, err)
	}
	if p := alice.snapshot().Profiles[0]; p.User != bob.name || p.PreviousUser != alice.name {
		t.Errorf("the profile is %s's, before %s's; want %s's and %s's", p.User, p.PreviousUser, bob.name, alice.name)
	}
	words := fmt.Sprintf("now run as %s, before: %s", bob.name, alice.name)
	if why := alice.berth("tunnel", "why", "anyone"); !strings.Contains(why, bob.name) || !strings.Contains(why, alice.name) {
		t.Errorf("berth tunnel why does not name the change (%s):\n%s", words, why)
	}
	status := alice.berth("status")
	t.Logf("status: %s", status)
	for line := range strings.Lines(status) {
		if strings.Contains(line, alice.name) && !strings.Contains(line, "hers") && !strings.Contains(line, "→") {
			t.Errorf("bob's status names alice: %s", line)
		}
	}
	if tail := fileTail(lab.teleport.dir+".log", 400); !strings.Contains(tail, "user:"+bob.name) {
		t.Errorf("Teleport's audit log names no session of %s", bob.name)
	}

	held := sendOff(t.Context(), hers, "select current_user::text")
	mustHang(t, held, time.Second)
	back := time.Now()
	alice.takeOver(t)
	through := arrive(t, held, 20*time.Second, "app")
	t.Logf("alice's client was served %s after her login began", through.Sub(back).Round(time.Millisecond))
	watch.await(back, 20*time.Second, "hers", "ready", ready)
}

// takeOver logs in with "tsh login --user" where another's session is valid. tsh only
// changes the profile then, the first time.
func (p *person) takeOver(t *testing.T) {
	t.Helper()
	args := []string{"login", "--proxy=" + p.at.addr(), "--user=" + p.name, "--auth=local"}
	for range 2 {
		screen, code, err := p.shell().onTerminal(t.Context(), p.tshHome, passwordPrompt, p.password, args...)
		if _, there := os.Stat(filepath.Join(p.tshHome, "keys", "127.0.0.1", p.name+"-x509.pem")); there == nil {
			return
		}
		t.Logf("tsh login --user=%s, exit code %d, %v: %s", p.name, code, err, strings.TrimSpace(screen))
	}
	t.Fatalf("tsh has not logged %s in", p.name)
}
