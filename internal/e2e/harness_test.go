//go:build e2e && linux

package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealThings proves the laboratory without berth: what tsh itself does
// with this cluster and this PostgreSQL works.
func TestRealThings(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	if got := p.tsh("db", "ls", "--format=json"); !strings.Contains(got, `"pg"`) {
		t.Fatalf("tsh db ls lists no pg:\n%s", got)
	}
	host, port, err := net.SplitHostPort(p.startTSHTunnel("--db-user=app", "--db-name=appdb", "--port=0", "pg"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := mustRun(t.Context(), environment("PGCONNECT_TIMEOUT=10"), "", filepath.Join(lab.postgres.bin, "psql"),
		"-XAtq", "-h", host, "-p", port, "-U", "app", "-d", "appdb", "-c",
		"select ssl, client_dn from pg_stat_ssl where pid = pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	if want := "t|/CN=app"; strings.TrimSpace(out) != want {
		t.Errorf("through tsh's own tunnel PostgreSQL sees %q, want %q", strings.TrimSpace(out), want)
	}
	p.logout()
	left, err := files(p.tshHome)
	if err != nil {
		t.Fatal(err)
	}
	for name := range left {
		if strings.HasPrefix(filepath.Base(name), p.name) {
			t.Errorf("tsh logout left %s", name)
		}
	}
}
