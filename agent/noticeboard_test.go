//go:build unix

package agent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
	"berth/internal/simcluster"
)

// TestWaitingClientIsTold: a client that waits for a login is named, in the
// tunnel and in a notice, which goes when it hangs up and stays away when it
// was dismissed.
func TestWaitingClientIsTold(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login(simcluster.WithTTL(-1))
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.start()
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	hold := func() (hangUp func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = e.pg(ctx, port) // hangs up in the middle
		}()
		return func() { cancel(); <-done }
	}
	hangUp := hold()
	me := fmt.Sprintf("(pid %d)", os.Getpid())
	s := e.Await("the notice that names the client", func(s state.Snapshot) bool {
		return len(s.Notices) == 1 && strings.Contains(s.Notices[0].Body, me)
	})
	n := s.Notices[0]
	if n.Kind != state.NoticeLoginNeeded || !strings.Contains(n.Body, "waits for tunnel pg") || n.Actions[0].Verb != state.VerbLogin ||
		n.Actions[0].Proxy != e.Sim.ProxyAddr() {
		t.Errorf("got %+v", n)
	}
	if tun := s.Tunnels[0]; tun.WaitingSince == nil || !strings.Contains(tun.WaitingClient, me) {
		t.Errorf("the tunnel says %v %q", tun.WaitingSince, tun.WaitingClient)
	}
	if err := e.Client().DismissNotice(t.Context(), n.ID); err != nil {
		t.Error(err)
	}
	e.Await("silence", func(s state.Snapshot) bool { return len(s.Notices) == 0 })
	hangUp()
	e.Await("no client to wait", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 0 && s.Tunnels[0].WaitingSince == nil })
	again := hold()
	defer again()
	s = e.Await("the next client", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 })
	if len(s.Notices) != 0 {
		t.Errorf("a dismissed notice is back: %+v", s.Notices)
	}
	if err := e.Client().DismissNotice(t.Context(), "nonsense"); err == nil {
		t.Error("a notice that is not there was dismissed")
	}
}

// TestOldApprovalIsNoNews: what was approved before the agent started is listed, and no
// notice comes of it.
func TestOldApprovalIsNoNews(t *testing.T) {
	t.Parallel()
	e := newEnv(t, requestsConfig())
	e.Login()
	item, _ := e.pgTunnel("pg")
	e.config(item)
	approved := func() string {
		return e.Sim.PutAccessRequest(simcluster.AccessRequest{
			User: "alice", Roles: []string{"dba"}, State: types.RequestState_APPROVED, Expires: time.Now().Add(13 * time.Hour),
		})
	}
	approved()
	e.start()
	e.Await("the old request", func(s state.Snapshot) bool { return len(s.Requests) == 1 && s.Requests[0].Assumable })
	e.awaitWatch()
	id := approved()
	s := e.Await("the new one's notice", func(s state.Snapshot) bool { return len(s.Notices) > 0 })
	if len(s.Notices) != 1 || s.Notices[0].Kind != state.NoticeApproved || s.Notices[0].Actions[0].Request != id {
		t.Errorf("notices %+v, want one of the request that was approved meanwhile", s.Notices)
	}
}
