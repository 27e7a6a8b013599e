//go:build e2e && linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// TestProblems is what goes wrong by itself: each is named, with a next step.
func TestProblems(t *testing.T) {
	t.Run("unknown_database", unknownDatabase)
	t.Run("role_without_databases", func(t *testing.T) { notAllowed(t, roleNone) })
	t.Run("role_with_other_labels", func(t *testing.T) { notAllowed(t, roleNoMatch) })
	t.Run("wrong_database_user", wrongDatabaseUser)
	t.Run("database_server_away", databaseServerAway)
	t.Run("port_in_use", portInUse)
}

// tunnelLine is a tunnel as a person writes it into the config by hand.
func tunnelLine(name, resource string, port int) string {
	return fmt.Sprintf("  - {name: %s, kind: db, cluster: ref.test, resource: %s, db_user: app, db_name: appdb, port: %d}",
		name, resource, port)
}

func mustFreePort(t *testing.T) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// withTunnel starts a person's agent with one tunnel in its config, and waits
// until the tunnel's state is want.
func withTunnel(t *testing.T, p *person, line string, want state.TunnelState) (*statusWatch, state.Tunnel) {
	t.Helper()
	p.startAgent("tunnels:", line)
	name, _, _ := strings.Cut(strings.TrimPrefix(line, "  - {name: "), ",")
	w := p.watch()
	w.await(time.Time{}, 10*time.Second, name, string(want), func(tun state.Tunnel) bool { return tun.State == want })
	return w, p.tunnel(name)
}

func unknownDatabase(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	_, tun := withTunnel(t, p, tunnelLine("lost", "pgg", mustFreePort(t)), state.TunnelError)
	if tun.Problem == nil || tun.Problem.Code != state.CodeUnknownResource || !strings.Contains(tun.Problem.Text, "pgg") {
		t.Fatalf("the problem is %s", problemText(tun.Problem))
	}
	t.Logf("status: %s → %s", problemText(tun.Problem), tun.Problem.Action)
	r := p.tryBerth("tunnel", "add", "db", "lost2", "--resource", "nowhere")
	if r.code != 1 || !strings.Contains(r.err, "nowhere") {
		t.Errorf("adding a tunnel to an unknown database exits %d:\n%s", r.code, r.err)
	}
	t.Logf("tunnel add: %s", strings.TrimSpace(r.err))
}

// notAllowed is a database that the role does not allow: the cluster does not
// even list it.
func notAllowed(t *testing.T, role string) {
	p := newPerson(t, role)
	p.login()
	_, tun := withTunnel(t, p, tunnelLine("denied", "pg", mustFreePort(t)), state.TunnelError)
	if tun.Problem == nil || tun.Problem.Code != state.CodeUnknownResource {
		t.Errorf("the problem is %s", problemText(tun.Problem))
	}
	if got := p.berth("resources", "db", "--json"); got != "[]" {
		t.Errorf("berth resources db --json = %s, want []", got)
	}
	begin := time.Now()
	r := p.psql(linkTo(tun.Address, "app"), "select 1")
	if took := time.Since(begin); r.code != 2 || took > 5*time.Second {
		t.Errorf("psql ends after %s with code %d:\n%s", took, r.code, r.err)
	}
	t.Logf("psql prints: %s", strings.TrimSpace(r.err))
}

func wrongDatabaseUser(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	p.addTunnel("prod")
	p.awaitReady("prod")
	link := p.berth("tunnel", "url", "prod")
	for what, wrong := range map[string]string{
		"user": asUser(link, "postgres"), "database": strings.Replace(link, "/appdb", "/otherdb", 1),
	} {
		r := p.psql(wrong, "select 1")
		if r.code != 2 || !strings.Contains(r.err, "access to db denied") {
			t.Errorf("Teleport's refusal of a %s does not reach psql (exit code %d):\n%s", what, r.code, r.err)
		}
		t.Logf("with a wrong %s psql prints: %s", what, strings.TrimSpace(r.err))
	}
	if tun := p.tunnel("prod"); !ready(tun) {
		t.Errorf("a client's wrong user makes the tunnel %s, %s", tun.State, problemText(tun.Problem))
	}
}

func databaseServerAway(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	p.addTunnel("away", "--resource", "pg-away")
	p.awaitReady("away")
	r := p.psql(p.berth("tunnel", "url", "away"), "select 1")
	if r.code != 2 || !strings.Contains(r.err, "connection refused") {
		t.Errorf("psql is not told that the server behind Teleport is away (exit code %d):\n%s", r.code, r.err)
	}
	t.Logf("psql prints: %s", strings.TrimSpace(r.err))
}

func portInUse(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := filepath.Base(os.Args[0])
	own = own[:min(len(own), 15)] // as much of it as the system keeps
	w, _ := withTunnel(t, p, tunnelLine("taken", "pg", l.Addr().(*net.TCPAddr).Port), state.TunnelPortInUse)
	w.await(time.Time{}, 10*time.Second, "taken", "naming the program that has the port", func(tun state.Tunnel) bool {
		return tun.Problem != nil && strings.Contains(tun.Problem.Text, own)
	})
	t.Logf("status: %s", problemText(p.tunnel("taken").Problem))
	freed := time.Now()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	took := w.await(freed, 15*time.Second, "taken", "ready on the freed port", ready)
	t.Logf("port freed -> bound and ready: %s", took.Sub(freed).Round(time.Millisecond))
	if got, err := query(t.Context(), p.berth("tunnel", "url", "taken"), "select current_user::text"); err != nil || got != "app" {
		t.Errorf("the tunnel on the freed port answers %q, %v", got, err)
	}
}
