package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"berth/agent/ipc"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
)

// TestRedisIsTheDefaultUser: a role that allows nothing but Redis' own default
// user serves a tunnel that names no user, as it serves tsh.
func TestRedisIsTheDefaultUser(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{
		Roles:     []simcluster.Role{{Name: "access", DBUsers: []string{"default"}}},
		Databases: []simcluster.Database{{Name: "kv", Protocol: "redis"}},
	})
	e.Login()
	port := simworld.FreePort(t)
	e.config(fmt.Sprintf("name: kv, kind: db, cluster: %s, resource: kv, port: %d", e.Sim.Name(), port))
	e.start()
	e.AwaitState("kv", state.TunnelReady)
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(c).ReadString('\n'); err != nil || answer != "+PONG\r\n" {
		t.Errorf("PING is answered %q, %v", answer, err)
	}
}

// TestRedisDatabasesAreNumbers: Redis' databases have no names, so a tunnel with one
// would lead every client elsewhere than it says.
func TestRedisDatabasesAreNumbers(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Databases: []simcluster.Database{{Name: "kv", Protocol: "redis"}}})
	e.Login()
	e.config()
	e.start()
	e.Await("a session", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid
	})
	refused := func(err error) {
		t.Helper()
		if rpc, ok := errors.AsType[*ipc.Error](err); !ok || rpc.Code != ipc.CodeInvalid || rpc.Message != `Redis numbers its databases, and "app" is no such number` || rpc.Hint == "" {
			t.Errorf("a database named app is answered: %v", err)
		}
	}
	spec := state.TunnelSpec{Name: "kv", Kind: state.KindDB, Cluster: e.Sim.Name(), Resource: "kv", DBName: "app"}
	_, err := e.Client().AddTunnel(t.Context(), spec)
	refused(err)
	spec.DBName = "3"
	spec, err = e.Client().AddTunnel(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	e.AwaitState("kv", state.TunnelReady)
	spec.DBName = "app"
	_, err = e.Client().ChangeTunnel(t.Context(), "kv", spec)
	refused(err)
	spec.DBName = ""
	if _, err := e.Client().ChangeTunnel(t.Context(), "kv", spec); err != nil {
		t.Error(err)
	}
}
