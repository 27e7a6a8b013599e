//go:build web && linux

package webtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
)

// Who has sessions at two clusters asks one of them only for what it offers. A new tunnel's
// name looks like no other's.
func TestWindowTwoClusters(t *testing.T) {
	t.Parallel()
	other := simworld.Start(t, simcluster.Config{
		Name: "other.example.com", ProxyHost: "127.0.0.1",
		Roles: []simcluster.Role{{Name: "access", Request: simcluster.RequestRules{Roles: []string{"auditor", "dba"}}}, {Name: "auditor"}, {Name: "dba"}},
		Users: []simcluster.User{{Name: "alice"}},
	})
	w := newWorld(t, company(), func(w *world) {
		w.Login()
		ca := filepath.Join(w.Dir, "other-ca.pem")
		if err := other.WriteWebCA(ca); err != nil {
			t.Fatal(err)
		}
		if err := other.Login(w.Home, "alice"); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(w.Paths.Config)
		if err != nil {
			t.Fatal(err)
		}
		both := strings.Replace(string(text), "profiles:\n", fmt.Sprintf("profiles:\n  - {proxy: %q, ca_file: %q}\n", other.ProxyAddr(), ca), 1)
		if err := os.WriteFile(w.Paths.Config, []byte(both), 0o600); err != nil {
			t.Fatal(err)
		}
	}, tunnel(t, "PG-staging", "orders"))
	w.become("two sessions", func(s state.Snapshot) bool {
		return len(s.Profiles) == 2 && !slices.ContainsFunc(s.Profiles, func(p state.Profile) bool { return p.State != state.ProfileValid })
	})
	tab := w.window()
	tab.do(chromedp.Evaluate[chromedp.Void](`location.hash = "#/access/new"`))
	tab.choose("Cluster", w.Sim.ProxyAddr())
	tab.press("carol")
	tab.press("dba")
	tab.fill("Search resources", "pg-prod")
	tab.press("/example.com/db/pg-prod")
	tab.choose("Cluster", other.ProxyAddr())
	tab.press("auditor")
	tab.fill("Reason", "Incident 42")
	tab.press("Send request")
	tab.sees("Your request is made")
	for _, r := range other.AccessRequests() {
		if !slices.Equal(r.GetRoles(), []string{"auditor"}) || len(r.GetRequestedResourceIDs()) > 0 || len(r.GetSuggestedReviewers()) > 0 {
			t.Errorf("asked for %v and %v, of %v", r.GetRoles(), r.GetRequestedResourceIDs(), r.GetSuggestedReviewers())
		}
	}

	tab.do(chromedp.Evaluate[chromedp.Void](`location.hash = "#/add"`))
	tab.press("Add pg-staging…")
	tab.until("another name", `document.querySelector("dialog[open] input")?.value === "pg-staging-2"`)
	tab.press("Add")
	w.become("a second tunnel", func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Name == "pg-staging-2" })
	})
}
