package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simcluster/simdb"
	"berth/internal/simworld"
	"berth/internal/testneeds"
)

// Real clients see the version of the database behind the tunnel: they tell
// MySQL and MariaDB apart by it.
func TestMySQLClientsSeeTheDatabasesVersion(t *testing.T) {
	t.Parallel()
	const release = "5.5.5-10.11.6-MariaDB-1" // as MariaDB greets
	e := newEnv(t, simcluster.Config{Databases: []simcluster.Database{
		{Name: "my", Protocol: "mysql", Backend: &simdb.MySQL{Release: release}},
	}})
	e.Login()
	port := simworld.FreePort(t)
	e.config(fmt.Sprintf("name: my, kind: db, cluster: %s, resource: my, db_user: alice, port: %d", e.Sim.Name(), port))
	e.start()
	e.AwaitState("my", state.TunnelReady)

	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(wait))
	greeting := make([]byte, 5+len(release)+1)
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting[5:]) != release+"\x00" {
		t.Errorf("greeted with %q, %v", greeting, err)
	}
	// A proxy that greets by itself is offered what it needs, base64 of release.
	want := []string{"teleport-mysql-ping", "teleport-mysql", "teleport-mysql-NS41LjUtMTAuMTEuNi1NYXJpYURCLTE="}
	if got := e.Sim.Counters().DBOffers["my"]; !slices.Equal(got, want) {
		t.Errorf("the proxy was offered %q, want %q", got, want)
	}

	run := func(t *testing.T, argv ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", argv[0], err, out)
		}
		return string(out)
	}
	t.Run("mariadb", func(t *testing.T) {
		mariadb := testneeds.Program(t, "mariadb")
		out := run(t, mariadb, "--no-defaults", "--protocol=TCP", "--skip-ssl", "-h", "127.0.0.1", "-P", strconv.Itoa(port),
			"-u", "alice", "-e", "status")
		if !strings.Contains(out, "10.11.6-MariaDB-1") {
			t.Errorf("it shows no version:\n%s", out)
		}
	})
	t.Run("PyMySQL", func(t *testing.T) {
		out := run(t, testneeds.Python(t, "pymysql"), "-c", fmt.Sprintf(`import pymysql
c = pymysql.connect(host="127.0.0.1", port=%d, user="alice")
k = c.cursor()
k.execute("select 42")
print(c.server_version, k.fetchone())`, port))
		if want := release + " (42,)\n"; out != want {
			t.Errorf("it prints %q, want %q", out, want)
		}
	})
}
