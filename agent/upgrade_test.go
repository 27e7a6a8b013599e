//go:build unix

package agent

import (
	"net/http"
	"testing"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// TestBalancerComesLater: something that ends TLS comes between a session and its proxy.
// Once one client has met it, every tunnel goes around it, with the cert that it has.
func TestBalancerComesLater(t *testing.T) {
	t.Parallel()
	e := newKubeEnv(t, simcluster.Config{})
	e.Login()
	pg, port := e.pgTunnel("pg", "warm: off")
	e.kubeConfig(simworld.FreePort(t), pg, e.kubeTunnel("prod", "prod"))
	e.start()
	for _, name := range []string{"pg", "prod"} {
		e.AwaitState(name, state.TunnelReady)
	}
	get, _ := e.kube("prod")
	if code, body := get(podsPath); code != http.StatusOK {
		t.Fatalf("before, Kubernetes says %d %s", code, body)
	}
	must(t, e.mustPG(port).Close(t.Context()))

	e.Sim.Faults().Balance()
	e.Sim.Faults().DropKube("prod")
	testwait.Eventually(t, "a client of the database to be served", func() bool {
		conn, err := e.pg(t.Context(), port)
		return err == nil && conn.Close(t.Context()) == nil
	})
	testwait.Eventually(t, "a client of Kubernetes to be served", func() bool {
		code, _ := get(podsPath)
		return code == http.StatusOK
	})
	e.awaitWell()
}
