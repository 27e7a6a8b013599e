//go:build unix

package agent

import (
	"slices"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

// A renewal puts another session in the place of the one that an assume is for.
func TestAssumeDuringARenewal(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.withTSH()
	e.Login()
	tun, port := e.pgTunnel("pg")
	e.config(tun)
	e.start()
	e.AwaitState("pg", state.TunnelReady)
	e.awaitWatch()
	id := e.approved("dba")
	answered := make(chan struct{})
	renewal := make(chan error, 1)
	c := e.Client()
	asked := make(chan struct{})
	go func() {
		renewal <- c.Login(t.Context(), client.LoginStart{Renew: true}, func(ev client.LoginEvent, answer func(string)) error {
			if ev.Kind == state.LoginPassword {
				close(asked)
				go func() { <-answered; answer("alice-password") }()
			}
			return nil
		})
	}()
	<-asked
	assumed := make(chan error, 1)
	go func() {
		_, err := c.AssumeRequest(t.Context(), client.Assume{ID: id, AcceptEarlierEnd: true})
		assumed <- err
	}()
	select {
	case err := <-assumed:
		t.Fatalf("assumed while the renewal was under way: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	close(answered)
	if err := <-renewal; err != nil {
		t.Errorf("renewal: %v", err)
	}
	if err := <-assumed; err != nil {
		t.Errorf("assume: %v", err)
	}
	e.newRoles(port, "access,dba")
	if roles := e.rolesIn(); !slices.Equal(roles, []string{"access", "dba"}) {
		t.Errorf("the home has the roles %q", roles)
	}
}
