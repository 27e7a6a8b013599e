//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testneeds"
)

// startMariaDB starts a real MariaDB whose clients have to show a certificate
// of the Teleport cluster, has Teleport offer it as name, and ends it with the
// test.
func startMariaDB(t *testing.T, name string) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	server, install := testneeds.Program(t, "mariadbd"), testneeds.Program(t, "mariadb-install-db")
	client := testneeds.Program(t, "mariadb")
	ctx, dir := t.Context(), filepath.Join(lab.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.teleport.tctl(ctx, "", "auth", "sign", "--format=db", "--host=127.0.0.1,localhost",
		"--out="+filepath.Join(dir, "server"), "--ttl=24h", "--overwrite"); err != nil {
		t.Fatal(err)
	}
	// It may not be root's either; the folder is given to who runs PostgreSQL.
	owner := &postgres{dir: dir, cred: lab.postgres.cred}
	if err := owner.chown(); err != nil {
		t.Fatal(err)
	}
	data, socket := "--datadir="+filepath.Join(dir, "data"), filepath.Join(dir, "sock")
	prepare := exec.CommandContext(ctx, install, "--no-defaults", data, "--auth-root-authentication-method=normal")
	prepare.Dir, prepare.SysProcAttr = dir, &syscall.SysProcAttr{Credential: owner.cred}
	if out, err := prepare.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	port := mustFreePort(t)
	cmd := exec.Command(server, "--no-defaults", data, "--socket="+socket, "--pid-file="+filepath.Join(dir, "pid"),
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--skip-name-resolve",
		"--ssl-cert="+filepath.Join(dir, "server.crt"), "--ssl-key="+filepath.Join(dir, "server.key"),
		"--ssl-ca="+filepath.Join(dir, "server.cas"))
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: owner.cred}
	proc, err := startProc("mariadbd", filepath.Join(lab.dir, name+".log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proc.stop(syscall.SIGTERM, 15*time.Second); err != nil {
			t.Error(err)
		}
	})
	const users = "create database appdb; create user app@'%' require subject '/CN=app'; grant all on appdb.* to app@'%'"
	err = until(ctx, 30*time.Second, 200*time.Millisecond, func() error {
		_, err := mustRun(ctx, environment(), "", client, "--no-defaults", "--socket="+socket, "-u", "root", "-e", users)
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, proc.tail())
	}
	offer(t, name, "mysql", fmt.Sprintf("127.0.0.1:%d", port))
}

// offer has Teleport offer a database until the test ends.
func offer(t *testing.T, name, protocol, uri string) {
	t.Helper()
	if err := lab.teleport.apply(t.Context(), fmt.Sprintf(
		"kind: db\nversion: v3\nmetadata: {name: %s}\nspec: {protocol: %s, uri: %q}\n", name, protocol, uri)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := lab.teleport.tctl(ctx, "", "rm", "db/"+name); err != nil {
			t.Error(err)
		}
	})
	if err := until(t.Context(), 30*time.Second, 200*time.Millisecond, func() error {
		out, err := lab.teleport.tctl(t.Context(), "", "db", "ls", "--format=json")
		if err == nil && !strings.Contains(out, `"`+name+`"`) {
			err = errors.New(name + " is not served yet")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestMySQLGreeting: through a tunnel real clients see the version of the real
// MariaDB, and where Teleport knows none they work without.
func TestMySQLGreeting(t *testing.T) {
	startMariaDB(t, "my")
	offer(t, "my-away", "mysql", "127.0.0.1:1") // nothing listens there
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	addr := p.addTunnel("my", "--resource", "my")
	p.awaitReady("my")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := mustRun(t.Context(), environment(), "", testneeds.Program(t, "mariadb"), "--no-defaults", "--protocol=TCP",
		"--skip-ssl", "-h", host, "-P", port, "-u", "app", "appdb", "-e", "status"); err != nil {
		t.Error(err)
	} else if !strings.Contains(out, "-MariaDB") {
		t.Errorf("mariadb sees no version:\n%s", out)
	}
	out, err := mustRun(t.Context(), environment(), "", testneeds.Python(t, "pymysql"), "-c", fmt.Sprintf(`import pymysql
c = pymysql.connect(host=%q, port=%s, user="app", database="appdb")
k = c.cursor()
k.execute("select version()")
print(c.server_version == "5.5.5-" + k.fetchone()[0])`, host, port))
	if err != nil || out != "True\n" {
		t.Errorf("PyMySQL: the greeting has the database's version: %s, %v", out, err)
	}

	away := p.addTunnel("away", "--resource", "my-away")
	p.awaitReady("away")
	conn, err := net.Dial("tcp", away)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	greeting := make([]byte, 6)
	if _, err := conn.Read(greeting); err != nil || string(greeting[4:]) != "\x0a\x00" {
		t.Errorf("a database that is away greets with %q, %v; want no version", greeting, err)
	}
	if tun := p.tunnel("away"); tun.State != state.TunnelReady {
		t.Errorf("its tunnel is %s", tun.State)
	}
}
