//go:build web && linux

package webtest

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/agent/state"
	"berth/internal/simcluster"
)

// copied presses a button that copies, and returns what it copied.
func (tab *tab) copied(button string) string {
	tab.t.Helper()
	tab.do(chromedp.Evaluate[chromedp.Void](`navigator.clipboard.writeText = async (text) => { window.copied = text }; delete window.copied`))
	tab.press(button)
	tab.until("something copied", `window.copied !== undefined`)
	return get(tab, chromedp.Evaluate[string](`window.copied`))
}

// follow clicks a link, and returns the tab that its page opens in.
func (from *tab) follow(selector string) *tab {
	from.t.Helper()
	from.until("a link "+selector, `document.querySelector(%q) !== null`, selector)
	opened := chromedp.WaitNewTarget(from.ctx, func(info *target.Info) bool { return info.Type == "page" })
	from.click(selector)
	select {
	case id := <-opened:
		ctx, closeIt := chromedp.NewContext(from.ctx, chromedp.WithTargetID(id))
		return &tab{t: from.t, ctx: ctx, close: closeIt}
	case <-from.ctx.Done():
		from.t.Fatalf("the link %s opens no tab", selector)
		return nil
	}
}

// A new user names the proxy, logs in on a page of the identity provider's, and takes the
// doctor's remedy for a tunnel that they had stopped.
func TestWindowWebLogin(t *testing.T) {
	t.Parallel()
	cfg := company()
	cfg.Connectors = []simcluster.Connector{{Name: "corp", Type: simcluster.GitHub}}
	w := newWorld(t, cfg, nil)
	tab := newTab(t, chromedp.IgnoreCertErrors) // the cluster's CA is its own
	tab.do(chromedp.Navigate(w.link()))
	tab.fill("Proxy", w.Sim.ProxyAddr())
	tab.press("Log in…")
	tab.press("Log in")
	provider := tab.follow(`dialog a[href^="http://127.0.0.1:"]`)
	provider.sees("Log in to example.com as")
	provider.press("alice")
	provider.sees("Login successful")
	provider.close() // the window is in front again
	tab.sees("Logged in at")
	w.become("a session of alice's", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid && s.Profiles[0].User == "alice"
	})

	spec := `{"spec":{"name":"prod","kind":"db","cluster":"example.com","resource":"pg-prod"}}`
	if _, err := w.agent.CallJSON(t.Context(), "AddTunnel", []byte(spec)); err != nil {
		t.Fatal(err)
	}
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	if _, err := w.agent.CallJSON(t.Context(), "StopTunnel", []byte(`{"name":"prod"}`)); err != nil {
		t.Fatal(err)
	}
	tab.hit("5")
	tab.sees("prod was stopped by you")
	tab.press("Start")
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	tab.until("a report without it", `!document.body.innerText.includes("was stopped by you")`)
	tab.hit("1")
	tab.press("prod")
	if link := tab.copied("Copy link"); !strings.HasPrefix(link, "berth://") || !strings.Contains(link, "pg-prod") {
		t.Errorf("the tunnel's link is %q", link)
	}
}

// A recording is found, its link copied, and it plays in a page that can reach nothing.
func TestWindowRecording(t *testing.T) {
	t.Parallel()
	const id = "7d3f1f9e-1a5e-4c64-9f0e-0c7a1d6f2b11"
	w := newWorld(t, company(), func(w *world) {
		w.Sim.Record(simcluster.PrintedSession(id, "alice", time.Now().Add(-time.Hour), 100*time.Millisecond,
			"$ make tea\r\n", "the kettle is on\r\n", "tea is ready\r\n"))
		w.Login()
	})
	tab := w.window()
	tab.hit("4")
	tab.sees("sim-host")
	if link := tab.copied("Copy link to sim-host"); !strings.HasPrefix(link, "berth://") || !strings.Contains(link, id) {
		t.Errorf("the recording's link is %q", link)
	}
	player := tab.follow("a[data-row]")
	player.until("the recording", `document.querySelector(".page[data-done=true]") !== null`)
	player.click("#play")
	player.until("its last line", `[...document.querySelectorAll(".terminal .row")].some((r) => r.textContent.includes("tea is ready"))`)
	if origin := get(player, chromedp.Evaluate[string]("self.origin")); origin != "null" {
		t.Errorf("the player is a page of %s: it is not sandboxed", origin)
	}
}

// The keyboard alone is enough, and what it works on keeps the focus: a button that is at
// work, and one whose dialog was left.
func TestWindowKeyboard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, company(), func(w *world) { w.Login() }, tunnel(t, "prod", "pg-prod"))
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	tab := w.window()
	focused := func(text string) {
		t.Helper()
		tab.until("the focus on "+text, `document.activeElement?.innerText.trim() === %q && document.activeElement.ariaDisabled !== "true"`, text)
	}
	tab.sees("1, all ready")
	tab.hit("j")
	focused("prod")
	tab.hit(kb.Enter)
	tab.sees("What happened")
	focused("prod") // the heading of its page
	for _, button := range []string{"Copy link", "Change…", "Stop"} {
		tab.hit(kb.Tab)
		focused(button)
	}
	tab.hit(kb.Enter)
	focused("Start")
	w.become("a stopped tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelStopped) })
	tab.hit(kb.Enter)
	focused("Stop")
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	tab.do(chromedp.Focus(chromedp.CSS("main .head button:nth-of-type(2)")))
	focused("Change…")
	tab.hit(kb.Enter)
	tab.until("a dialog", `document.activeElement?.closest("dialog") !== null`)
	tab.hit(kb.Escape)
	focused("Change…")
}
