//go:build e2e && linux

package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/testneeds"
)

// TestLocalTLS: clients that insist on TLS have it with the tunnel, in all modes,
// and Teleport carries what they say; "tunnel url --tls" leads them.
func TestLocalTLS(t *testing.T) {
	startMariaDB(t, "my-tls")
	startRedis(t, "re-tls")
	const role = "db-tls" // as roleDB, and Redis's own user
	if err := lab.teleport.apply(t.Context(), fmt.Sprintf(roleTemplate, role, "'*': '*'", "app, default")); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, role)
	p.login()
	p.startAgent()
	addrs := map[string]string{
		"pg": p.addTunnel("pg"), "my": p.addTunnel("my", "--resource", "my-tls"),
		"re": p.addTunnel("re", "--resource", "re-tls", "--db-user", "default", "--db-name", "0"),
	}
	for name := range addrs {
		p.awaitReady(name)
	}
	ca := strings.TrimSpace(p.berth("ca", "path"))
	psql := filepath.Join(lab.postgres.bin, "psql")
	for mode, encrypted := range map[string]bool{
		"disable": false, "allow": false, "prefer": true, "require": true, "verify-ca": true, "verify-full": true,
	} {
		// libpq before 15 checks no IP addresses.
		_, port, _ := net.SplitHostPort(addrs["pg"])
		conninfo := "host=localhost port=" + port + " user=app dbname=appdb sslmode=" + mode + " sslrootcert=" + ca
		out, err := mustRun(t.Context(), environment("HOME="+p.dir), "", psql, "-XAtq", conninfo, "-c", "select 'served'", "-c", `\conninfo`)
		if err != nil || !strings.HasPrefix(out, "served\n") || strings.Contains(out, "SSL connection") != encrypted {
			t.Errorf("sslmode=%s, encrypted %v: %s, %v", mode, encrypted, out, err)
		}
	}
	if r := p.psql(strings.TrimSpace(p.berth("tunnel", "url", "pg", "--tls")), "select 'served'"); string(r.out) != "served\n" {
		t.Errorf("the URL with TLS: %s%s", r.out, r.err)
	}
	r := p.psql("postgres://nobody@"+addrs["pg"]+"/appdb?sslmode=require", "select 1")
	if r.code == 0 || !strings.Contains(string(r.err), "you may be") {
		t.Errorf("a user whom one may not be, with TLS: %s%s", r.out, r.err)
	}

	mariadb := testneeds.Program(t, "mariadb")
	host, port, _ := net.SplitHostPort(addrs["my"])
	for name, flags := range map[string][]string{
		"plain": {"--skip-ssl"}, "tls": {"--ssl"}, "checked": {"--ssl-ca=" + ca, "--ssl-verify-server-cert"},
	} {
		args := append([]string{"--no-defaults", "--protocol=TCP", "-h", host, "-P", port, "-u", "app"}, flags...)
		out, err := mustRun(t.Context(), environment(), "", mariadb, append(args, "appdb", "-e", "status")...)
		if err != nil || !strings.Contains(out, "app@") || strings.Contains(out, "Cipher in use") != (name != "plain") {
			t.Errorf("mariadb, %s: %s, %v", name, out, err)
		}
	}

	redis := testneeds.Program(t, "redis-cli")
	host, port, _ = net.SplitHostPort(addrs["re"])
	for name, flags := range map[string][]string{"plain": nil, "tls": {"--tls", "--cacert", ca}, "unchecked": {"--tls", "--insecure"}} {
		args := append([]string{"-h", host, "-p", port}, flags...)
		if out, err := mustRun(t.Context(), environment(), "", redis, append(args, "set", "k", "v")...); err != nil || out != "OK\n" {
			t.Errorf("redis-cli, %s: %q, %v", name, out, err)
		}
	}
	for name := range addrs {
		if tun := p.tunnel(name); tun.State != "ready" || tun.Problem != nil {
			t.Errorf("tunnel %s is %s: %+v", name, tun.State, tun.Problem)
		}
	}
}
