//go:build web && linux

package webtest

import (
	"fmt"
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

// Words without an end stay within their rows and cards, on a wide screen, at 200 % zoom
// and on a narrow one, and a page that is long has no less to say to a screen reader.
func TestWindowLongWords(t *testing.T) {
	t.Parallel()
	const recording = "7d3f1f9e-1a5e-4c64-9f0e-0c7a1d6f2b11"
	word := strings.Repeat("Longwordwithoutanyspace", 8)
	resource, name := "pg-"+strings.ToLower(word), strings.ToLower(word[:60])
	cfg := company()
	cfg.Roles = append(cfg.Roles, simcluster.Role{Name: word})
	cfg.Roles[0].Request.Roles = append(cfg.Roles[0].Request.Roles, word)
	cfg.Roles[0].Request.SuggestedReviewers = []string{word}
	cfg.Databases = append(cfg.Databases, simcluster.Database{
		Name: resource, Protocol: "postgres", Description: word, Labels: map[string]string{"env": word, word: "x"},
	})
	w := newWorld(t, cfg, func(w *world) {
		w.Sim.Record(simcluster.PrintedSession(recording, word, time.Now().Add(-time.Hour), time.Millisecond, word))
		w.Login()
	}, tunnel(t, name, resource), tunnel(t, "broken", word))
	w.Sim.PutAccessRequest(simcluster.AccessRequest{User: word, Roles: []string{"admin"}, Reason: word})
	w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{word}, Reason: word})
	w.become("two requests and a broken tunnel", func(s state.Snapshot) bool {
		return len(s.Requests) == 2 && is(s, "broken", state.TunnelError) && is(s, name, state.TunnelReady)
	})
	tab := w.window()
	views := map[string]string{
		"tunnels": "asks for admin", "access": "Wait for your review", "access/new": word[:100], "add": resource, "sessions": "left, until",
		"recordings": "sim-host", "tunnels/" + name: "JDBC", "tunnels/broken": "lists no database", "doctor": "Look again",
	}
	for _, r := range w.Snapshot().Requests {
		views["access/"+r.ID] = "Request of"
	}
	for view, text := range views {
		tab.do(chromedp.Evaluate[chromedp.Void](`location.hash = "#/` + view + `"`))
		tab.sees(text)
		tab.until("all of it", `!document.body.innerText.includes("It takes 10 seconds")`)
		for _, width := range []int64{1280, 640, 360} {
			tab.do(chromedp.EmulateViewport(width, 800))
			tab.fits(fmt.Sprintf("%s, %d wide", view, width))
			tab.picture(fmt.Sprintf("window-long-%.9s-%d", strings.ReplaceAll(view, "/", "-"), width))
		}
		tab.accessible(view)
	}
	tab.do(chromedp.Evaluate[chromedp.Void](`location.hash = "#/tunnels"`))
	tab.press("Approve…")
	tab.fits("a review")
	tab.press("Cancel")
	tab.press("broken")
	tab.sees("What happened")
	tab.press("Request access…")
	tab.sees("Suggested reviewers")
}
