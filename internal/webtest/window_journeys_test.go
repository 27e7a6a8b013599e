//go:build web && linux

package webtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// company is a cluster with some databases and people.
func company() simcluster.Config {
	return simcluster.Config{
		Name: "example.com", SessionTTL: 12 * time.Hour,
		Roles: []simcluster.Role{
			{
				Name: "access", Request: simcluster.RequestRules{Roles: []string{"dba"}, SuggestedReviewers: []string{"carol"}},
				Review: []string{"admin"}, DBUsers: []string{"alice", "reader"}, DBNames: []string{"*"},
			},
			{Name: "lead", Review: []string{"dba"}}, {Name: "dba"}, {Name: "admin"},
		},
		Users: []simcluster.User{
			{Name: "alice", Password: "alice-password"}, {Name: "carol", Password: "carol-password", Roles: []string{"access", "lead"}},
		},
		Databases: []simcluster.Database{
			{Name: "pg-prod", Protocol: "postgres", Description: "Orders and customers", Labels: map[string]string{"env": "prod", "team": "shop"}},
			{Name: "orders", Protocol: "mysql", Labels: map[string]string{"env": "prod"}},
			{Name: "cache", Protocol: "redis", Labels: map[string]string{"env": "staging"}},
			{Name: "pg-staging", Protocol: "postgres", Labels: map[string]string{"env": "staging"}},
		},
	}
}

// A new user finds the database, adds a tunnel and copies how to connect.
func TestWindowFirstTunnel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, company(), func(w *world) { w.Login() })
	tab := w.window()
	tab.sees("You have no tunnel yet")
	tab.pictures("first")
	tab.press("Add a tunnel")
	tab.fill("Search what the clusters offer", "orders prod")
	tab.sees("Orders and customers")
	tab.pictures("add")
	tab.press("Add pg-prod…")
	tab.fill("Name", "prod")
	tab.choose("Database user", "reader")
	tab.fill("Database name", "app")
	tab.press("Add")
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	tab.sees("JDBC, for DBeaver and DataGrip")
	s := w.Snapshot()
	if spec := s.Tunnels[0]; spec.DBUser != "reader" || spec.DBName != "app" {
		t.Errorf("the tunnel is %+v", spec.TunnelSpec)
	}
	tab.sees("Ready")
	tab.pictures("tunnel")
	tab.press("Copy Address")
	tab.sees("Copied Address")

	tab.press("Remove")
	w.become("no tunnel", func(s state.Snapshot) bool { return len(s.Tunnels) == 0 })
	tab.press("Undo")
	w.become("the tunnel", func(s state.Snapshot) bool {
		return is(s, "prod", state.TunnelReady) && s.Tunnels[0].Port == w.Snapshot().Tunnels[0].Port
	})
}

// A client waits; the page says who, asks for the password, a wrong one asks again.
func TestWindowLoginWhilePsqlWaits(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, company(), func(w *world) {
		w.Login(simcluster.WithTTL(time.Second))
		testwait.NextSecond()
		testwait.NextSecond()
	}, tunnel(t, "prod", "pg-prod", "db_user: alice, db_name: app"))
	w.become("a tunnel that waits", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelWaitingForLogin) })
	tab := w.window()
	tab.sees("Log in to example.com")
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	client := exec.CommandContext(ctx, psql, "-w", "-Atc", "select 1", fmt.Sprintf("postgres://alice@%s/app?sslmode=disable", w.Snapshot().Tunnels[0].Address))
	out := &simworld.Log{}
	client.Stdout, client.Stderr = out, out
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	tab.sees("waits for prod")
	tab.pictures("waiting")
	tab.press("Log in…")
	tab.press("Log in")
	tab.until("a focused field", `document.activeElement?.type === "password"`)
	tab.fill("Password", "wrong")
	tab.pictures("login")
	tab.press("Continue")
	tab.sees("Try again")
	tab.press("Log in")
	tab.fill("Password", "alice-password")
	tab.press("Continue")
	w.become("a ready tunnel", func(s state.Snapshot) bool { return is(s, "prod", state.TunnelReady) })
	if err := client.Wait(); err != nil {
		t.Errorf("psql: %v\n%s", err, out)
	}
	tab.sees("Logged in at example.com")
	tab.hit("3")
	tab.sees("left, until")
	tab.pictures("sessions")
}

// Alice asks, Carol approves, Alice assumes for one tunnel, and drops.
func TestWindowRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, company(), func(w *world) { w.Login() }, tunnel(t, "prod", "pg-prod"), tunnel(t, "orders", "orders"))
	w.become("ready tunnels", func(s state.Snapshot) bool {
		return is(s, "prod", state.TunnelReady) && is(s, "orders", state.TunnelReady)
	})
	mine := func(has func(state.Request) bool) func(state.Snapshot) bool {
		return func(s state.Snapshot) bool {
			return slices.ContainsFunc(s.Requests, func(r state.Request) bool { return r.Mine && has(r) })
		}
	}
	tab := w.window("prod")
	tab.hit("2")
	tab.sees("There is no request")
	tab.press("Request access…")
	tab.press("dba")
	tab.fill("Reason", "Incident 42: orders are stuck, the queue has to be repaired")
	tab.pictures("ask")
	tab.press("Send request")
	w.become("a request", mine(func(state.Request) bool { return true }))
	tab.sees("0 of 1 approval")
	id := w.Snapshot().Requests[0].ID
	if link := tab.copied("Copy link"); !strings.HasPrefix(link, "berth://") || !strings.Contains(link, id[:8]) {
		t.Errorf("the request's link is %q", link)
	}
	tab.press("dba")
	tab.sees("Request of yours")
	tab.pictures("request")
	tab.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`location.hash = "#/access/%s"`, id[:8])))
	tab.sees("Request of yours")
	tab.hit("2")
	tab.until("all requests", `document.querySelector("main h1")?.innerText === "Access"`)

	carol := w.beside("carol").window()
	carol.sees("alice asks for dba")
	carol.sees("Incident 42: orders are stuck")
	carol.pictures("review")
	carol.hit("2")
	carol.press("alice: dba")
	carol.sees("Request of alice")
	carol.press("Approve…")
	carol.fill("Your reason", "ok, until tonight")
	carol.press("Approve")
	carol.sees("Approved alice’s request")

	tab.sees("ok, until tonight")
	tab.pictures("requests")
	tab.press("Assume…")
	tab.choose("For", "prod")
	tab.sees("Only prod gets the roles")
	tab.pictures("assume")
	tab.press("Assume")
	w.become("an assumed request", mine(func(r state.Request) bool { return slices.Equal(r.Tunnels, []string{"prod"}) }))
	tab.sees("prod has dba now") // its dialog has closed
	tab.hit("1")
	tab.sees("With dba, by an access request")
	tab.pictures("assumed")
	tab.hit("2")
	tab.press("Drop")
	w.become("a dropped request", mine(func(r state.Request) bool { return len(r.Tunnels) == 0 }))
}

// A port is taken: the page says so and changes it. Then it goes through the other views.
func TestWindowPortInUse(t *testing.T) {
	t.Parallel()
	port := simworld.FreePort(t)
	startPostgres(t, port)
	staging := simworld.FreePort(t)
	w := newWorld(t, company(), func(w *world) { w.Login() },
		fmt.Sprintf("name: prod, kind: db, cluster: example.com, resource: pg-prod, port: %d", port),
		tunnel(t, "orders", "orders", "db_user: reader"), tunnel(t, "cache", "cache"), fmt.Sprintf("name: staging, kind: db, cluster: example.com, resource: pg-staging, port: %d", staging))
	w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "carol", Roles: []string{"admin"}, Reason: "Incident 42: the orders do not arrive"})
	w.become("a port in use", func(s state.Snapshot) bool {
		return is(s, "prod", state.TunnelPortInUse) && is(s, "staging", state.TunnelReady) && len(s.Requests) == 1
	})
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://alice@127.0.0.1:%d/app?sslmode=disable", staging))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	tab := w.window()
	t.Logf("first paint after %.0f ms; memory of berth open: %s", tab.painted(), w.memory())
	tab.sees("is taken by postgres")
	tab.sees("carol asks for admin")
	tab.sees("1 client")
	tab.sees(fmt.Sprintf("webtest.test (%d)", os.Getpid()))
	tab.pictures("port")
	w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "דנה", Roles: []string{"admin"}, Reason: "תקלה 42"})
	tab.sees("\u2068דנה\u2069 asks for admin")
	tab.until("its reason apart", `[...document.querySelectorAll(".needs p[dir=auto]")].some((p) => p.innerText === "תקלה 42" && p.matches(":dir(rtl)"))`)
	tab.press("Change port…")
	free := simworld.FreePort(t)
	tab.fill("Local port", fmt.Sprint(free))
	tab.press("Change")
	w.become("a ready tunnel", func(s state.Snapshot) bool {
		return is(s, "prod", state.TunnelReady) && s.Tunnels[0].Port == free
	})
	tab.sees("4, all ready")
	for i, view := range []string{"recordings", "doctor", "log", "settings", "about"} {
		tab.hit(fmt.Sprint(4 + i))
		tab.until("the view", `document.querySelector("main h1")?.innerText.toLowerCase().startsWith(%q)`, view)
		tab.until("all of it", `!["It takes 10 seconds", "Asking the clusters…"].some((text) => document.body.innerText.includes(text))`)
		tab.pictures(view)
	}
	tab.sees("How a tunnel gets its local port") // the help, beneath About
	tab.hit("7")
	tab.press("Notifications")
	tab.sees("enabled: false")
	tab.press("Notifications")
	tab.sees("enabled: true")
	tab.choose("Session at", "auto")
	tab.sees("renew: {mode: auto}")
}

// Five hundred tunnels are there at once, are found as one types, and scroll without a stop.
func TestWindowFiveHundred(t *testing.T) {
	cfg := company()
	var tunnels []string
	for i := range 500 {
		name := fmt.Sprintf("db-%03d", i)
		cfg.Databases = append(cfg.Databases, simcluster.Database{Name: name, Protocol: "postgres", Labels: map[string]string{"env": fmt.Sprint("env", i%5)}})
		tunnels = append(tunnels, tunnel(t, name, name))
	}
	w := newWorld(t, cfg, func(w *world) { w.Login() }, tunnels...)
	w.become("ready tunnels", func(s state.Snapshot) bool {
		return !slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return t.State != state.TunnelReady })
	})
	tab := w.window()
	tab.sees("500, all ready")
	paint := tab.painted()
	shown := get(tab, chromedp.Evaluate[float64](`performance.now()`))
	// A frame a step: the time of the slowest is what a person would notice.
	scroll := get(tab, chromedp.Evaluate[float64](`new Promise((done) => {
		let slowest = 0, last = performance.now(), at = 0;
		const step = (now) => {
			slowest = Math.max(slowest, now - last);
			last = now;
			at += 400;
			scrollTo(0, at);
			if (at < document.documentElement.scrollHeight) requestAnimationFrame(step);
			else done(slowest);
		};
		requestAnimationFrame(step);
	})`, chromedp.EvalAwaitPromise))
	typed := get(tab, chromedp.Evaluate[float64](`new Promise((done) => {
		const field = document.querySelector(".search"), start = performance.now();
		field.value = "db-49";
		field.dispatchEvent(new Event("input", { bubbles: true }));
		requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
	})`, chromedp.EvalAwaitPromise))
	tab.sees("10 tunnels found")
	t.Logf("first paint after %.0f ms, the list seen after %.0f ms; slowest frame of scrolling %.0f ms; a search drawn in %.0f ms", paint, shown, scroll, typed)
	if paint > 3000 || typed > 3000 {
		t.Errorf("first paint after %.0f ms, a search after %.0f ms: far too slow, even on a busy machine", paint, typed)
	}
	tab.hit("\u001b") // leaves the search
	tab.fill("Search tunnels", "env2")
	tab.sees("No tunnel matches")
	tab.fill("Search tunnels", "db")
	tab.choose("Group by", "cluster")
	tab.until("groups by label", `document.querySelector("option[value='label:env']") !== null`)
	tab.choose("Group by", "label:env")
	tab.sees("env3")
	tab.picture("window-500-light")
	tab.fits("500 tunnels")
	tab.accessible("500 tunnels")
	t.Logf("memory of berth open: %s", w.memory())
}
