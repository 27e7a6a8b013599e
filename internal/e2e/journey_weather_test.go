//go:build e2e && linux

package e2e

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// linkTo is a connection link for a tunnel whose protocol berth does not know
// yet.
func linkTo(addr, user string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: addr, Path: "/appdb", RawQuery: "sslmode=disable"}
	return u.String()
}

// TestClientsBeforeLogin starts the agent on a machine where no one has ever
// logged in, and connects.
func TestClientsBeforeLogin(t *testing.T) {
	p := newPerson(t, roleDB)
	p.startAgent()
	addr := p.addTunnel("patient", "--cluster", "ref.test")
	eager := p.addTunnel("eager", "--cluster", "ref.test", "--hold", "0s")
	if tun := p.tunnel("patient"); !waitsForLogin(tun) || tun.Problem == nil {
		t.Errorf("before a login the tunnel is %s, problem %s", tun.State, problemText(tun.Problem))
	}
	r := p.tryBerth("status", "--wait", "--timeout", "200ms", "patient")
	if r.code != 4 {
		t.Errorf("berth status --wait exits %d, want 4 (login needed)\n%s", r.code, r.err)
	}

	begin := time.Now()
	refused := p.psql(linkTo(eager, "app"), "select 1")
	took := time.Since(begin)
	if refused.code != 2 || took > time.Second || !strings.Contains(refused.err, "FATAL:  tunnel eager") {
		t.Errorf("with hold 0 psql ends after %s with code %d: %s", took, refused.code, refused.err)
	}
	t.Logf("hold 0: refused after %s: %s", took.Round(time.Millisecond), strings.TrimSpace(refused.err))

	held := sendOff(t.Context(), linkTo(addr, "app"), "select current_user::text")
	mustHang(t, held, 1500*time.Millisecond)
	if tun := p.tunnel("patient"); tun.Waiting != 1 {
		t.Errorf("status counts %d waiting clients, want 1", tun.Waiting)
	}
	p.login()
	written := p.lastWritten()
	through := arrive(t, held, 10*time.Second, "app")
	t.Logf("first login written -> the held client's query answered: %s", through.Sub(written).Round(time.Millisecond))
	p.awaitReady("eager")
	if got, err := query(t.Context(), linkTo(eager, "app"), "select current_user::text"); err != nil || got != "app" {
		t.Errorf("after the login the other tunnel answers %q, %v", got, err)
	}
}

// TestProxyRestart takes the cluster away under open and idle tunnels and
// brings it back on the same port.
func TestProxyRestart(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	addr := p.addTunnel("prod")
	p.awaitReady("prod")
	link := p.berth("tunnel", "url", "prod")
	watch := p.watch()
	open := openSession(t, link)
	k := knock(t, addr)

	down := time.Now()
	if err := lab.teleport.stop(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := open.conn.Ping(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the connection that was open is not closed with the proxy gone: %v", err)
	}
	_, err := query(t.Context(), link, "select 'in'")
	if err == nil {
		t.Error("a query was answered with the proxy gone")
	}
	t.Logf("a client with the proxy gone answers after %s: %v", time.Since(begin).Round(time.Millisecond), err)
	noticed := watch.await(down, 20*time.Second, "prod", "in error with proxy_unreachable", func(tun state.Tunnel) bool {
		return tun.State == state.TunnelError && tun.Problem != nil && tun.Problem.Code == state.CodeProxyUnreachable
	})
	t.Logf("status says so %s after the proxy was asked to stop", noticed.Sub(down).Round(time.Millisecond))
	sleepUntil(t.Context(), begin.Add(5*time.Second))

	if err := lab.teleport.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	tries := 0
	err = until(t.Context(), 20*time.Second, 50*time.Millisecond, func() error {
		tries++
		_, err := query(t.Context(), link, "select 'in'")
		return err
	})
	if err != nil {
		t.Fatalf("no query gets through after the proxy is back: %v", err)
	}
	t.Logf("the proxy is back: query answered %s later, try %d", time.Since(back).Round(time.Millisecond), tries)
	p.awaitReady("prod")
	t.Logf("the proxy is back: status says ready %s later", time.Since(back).Round(time.Millisecond))
	k.check(t)
}
