//go:build web && linux

package webtest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"berth/agent/state"
)

// Eight tabs of one window are live at once, though browsers allow a host six
// connections: they share one stream. The tab that reads it is closed, and the others
// go on at once.
func TestWindowEightTabs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, company(), func(w *world) { w.Login() }, tunnel(t, "prod", "pg-prod"))
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	browser := newTab(t)
	var tabs []*tab
	address := w.link()
	for range 8 {
		next := tabOf(browser)
		next.do(chromedp.Navigate(address))
		next.sees("1, all ready")
		tabs = append(tabs, next)
		address, _, _ = strings.Cut(address, "#")
	}
	tabs[0].press("Add…") // what is not the stream has connections left
	tabs[0].sees("Orders and customers")
	tabs[0].hit("1")
	for len(tabs) > 5 {
		leader := slices.IndexFunc(tabs, func(tab *tab) bool {
			return get(tab, chromedp.Evaluate[bool](`navigator.locks.request("me", async () => {
				const { held } = await navigator.locks.query();
				const { clientId } = held.find((l) => l.name === "me");
				return held.some((l) => l.name.startsWith("berth ") && l.clientId === clientId);
			})`, chromedp.EvalAwaitPromise))
		})
		if leader < 0 {
			t.Fatal("no tab reads the stream")
		}
		tabs[leader].close()
		tabs = slices.Delete(tabs, leader, leader+1)
		name, want := "StopTunnel", "Stopped"
		if len(tabs)%2 == 0 {
			name, want = "StartTunnel", "1, all ready"
		}
		if _, err := w.agent.CallJSON(t.Context(), name, []byte(`{"name":"prod"}`)); err != nil {
			t.Fatal(err)
		}
		for _, tab := range tabs {
			tab.sees(want)
		}
	}
	if err := w.open.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for _, tab := range tabs {
		tab.sees("no longer connected")
	}
}
