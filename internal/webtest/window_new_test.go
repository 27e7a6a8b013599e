//go:build web && linux

package webtest

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
	"berth/internal/simworld"
)

// A new user's first ten minutes, without a terminal after the installation: they start
// the agent, log in, add a tunnel, copy the URL for DBeaver, get a role and assume it, and
// find out why a port is taken and change it.
func TestWindowNewUser(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	w := &world{t: t, World: simworld.In(t, company(), filepath.Join(dir, "t"), filepath.Join(dir, "b"))}
	w.install()
	t.Cleanup(func() {
		stop := exec.CommandContext(context.Background(), w.berth, "agent", "stop")
		stop.Env = w.environ
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("berth agent stop: %v\n%s", err, out)
		}
	})
	tab := newTab(t)
	tab.do(chromedp.Navigate(w.link()))
	tab.sees("Start the agent")
	tab.pictures("new-1-away")
	tab.press("Start the agent")
	tab.sees("Log in to Teleport")
	w.agent = w.Client()
	tab.pictures("new-2-proxy")
	tab.fill("Proxy", w.Sim.ProxyAddr())
	tab.press("Log in…")
	tab.fill("Teleport user", "alice")
	tab.pictures("new-3-login")
	tab.press("Log in")
	tab.fill("Password", "alice-password")
	tab.press("Continue")
	tab.sees("You have no tunnel yet")
	tab.press("Add a tunnel")
	tab.press("Add pg-prod…")
	tab.pictures("new-4-add")
	tab.choose("Database user", "reader")
	tab.press("Add")
	tab.sees("JDBC, for DBeaver and DataGrip")
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "pg-prod", state.TunnelReady) })
	if jdbc := tab.copied("Copy JDBC, for DBeaver and DataGrip"); !strings.HasPrefix(jdbc, "jdbc:postgresql://127.0.0.1:") {
		t.Errorf("copied %q", jdbc)
	}

	tab.press("Access")
	tab.press("Request access…")
	tab.press("dba")
	tab.fill("Reason", "Incident 42")
	tab.press("Send request")
	tab.sees("0 of 1 approval")
	tab.pictures("new-5-asked")
	id := w.Snapshot().Requests[0].ID
	if err := w.Sim.ResolveAccessRequest(id, types.RequestState_APPROVED, "until tonight"); err != nil {
		t.Fatal(err)
	}
	tab.sees("Approved")
	tab.press("Assume…")
	tab.sees("Your session gets the roles")
	tab.press("Assume")
	w.become("a session with the role", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && slices.Contains(s.Profiles[0].Roles, "dba")
	})
	tab.press("Sessions")
	tab.sees("dba")
	tab.pictures("new-6-assumed")

	port := simworld.FreePort(t)
	startPostgres(t, port)
	tab.press("Tunnels")
	tab.press("pg-prod")
	tab.press("Change…")
	tab.fill("Local port", fmt.Sprint(port))
	tab.press("Change")
	tab.sees("is taken by postgres")
	tab.pictures("new-7-taken")
	tab.press("Change port…")
	tab.fill("Local port", fmt.Sprint(simworld.FreePort(t)))
	tab.press("Change")
	tab.until("a ready tunnel", `document.querySelector("main .head .state")?.innerText.trim() === "Ready"`)
	tab.pictures("new-8-ready")
}
