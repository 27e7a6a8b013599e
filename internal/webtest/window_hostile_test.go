//go:build web && linux

package webtest

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"berth/agent/state"
	"berth/internal/simcluster"
)

// hostile is what others may write.
const hostile = `<img src=x onerror="document.title='broken'"> & "quotes" </script><script>document.title='broken'</script>`

// Others' names, labels, reasons and reviews are text in every view.
func TestWindowHostile(t *testing.T) {
	t.Parallel()
	const rightToLeft = "\u202e" + hostile
	cfg := company()
	cfg.Roles = append(cfg.Roles, simcluster.Role{Name: hostile})
	cfg.Roles[0].Request.Roles = append(cfg.Roles[0].Request.Roles, hostile)
	cfg.Roles[0].Request.SuggestedReviewers = []string{hostile}
	cfg.Databases = append(cfg.Databases, simcluster.Database{
		Name: "pg-hostile", Protocol: "postgres", Description: rightToLeft, Labels: map[string]string{"env": hostile},
	})
	w := newWorld(t, cfg, func(w *world) {
		const id = "7d3f1f9e-1a5e-4c64-9f0e-0c7a1d6f2b11"
		w.Sim.Record(simcluster.PrintedSession(id, hostile, time.Now().Add(-time.Hour), time.Millisecond, hostile))
		w.Login()
	}, tunnel(t, "prod", "pg-prod"))
	w.Sim.PutAccessRequest(simcluster.AccessRequest{User: hostile, Roles: []string{"admin"}, Reason: rightToLeft})
	w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{hostile}, Reason: hostile})
	w.become("two requests and a tunnel", func(s state.Snapshot) bool {
		return len(s.Requests) == 2 && is(s, "prod", state.TunnelReady)
	})
	tab := w.window()
	tab.do(chromedp.Evaluate[chromedp.Void](`globalThis.violated = []; addEventListener("securitypolicyviolation", (e) => violated.push(e.violatedDirective))`))
	views := map[string]string{
		"tunnels": "asks for admin", "access": "Wait for your review", "access/new": "dba", "add": "Orders and customers",
		"sessions": "left, until", "recordings": "sim-host", "tunnels/prod": "JDBC", "log": "newest first", "settings": "Quiet hours",
	}
	for _, r := range w.Snapshot().Requests {
		views["access/"+r.ID] = "Request of"
	}
	for view, text := range views {
		tab.do(chromedp.Evaluate[chromedp.Void](`location.hash = "#/` + view + `"`))
		tab.sees(text)
		broken := get(tab, chromedp.Evaluate[[]string](`[...document.querySelectorAll("img, iframe, script:not([src])")].map((e) => e.outerHTML).concat(violated)`))
		if title := get(tab, chromedp.Title()); strings.Contains(title, "broken") || len(broken) > 0 {
			t.Errorf("%s: the title is %q, the page has %q", view, title, broken)
		}
		if strings.HasPrefix(view, "access/") || view == "add" {
			tab.sees("<img src=x onerror=")
		}
	}
	tab.do(chromedp.Evaluate[chromedp.Void](`location.hash = "#/tunnels"`))
	tab.press("Approve…")
	tab.sees("’s request?")
	tab.pictures("hostile")
}
