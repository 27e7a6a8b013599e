package agent

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

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
