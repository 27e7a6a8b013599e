//go:build unix

package agent

import (
	"fmt"
	"strings"
	"testing"

	"berth/agent/config"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testwait"
	"berth/proxies"
)

// TestLimitOfClients: the client above a limit of the config reads which it is, a
// tunnel that is well stays so, and a limit that is set higher holds at once.
func TestLimitOfClients(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	item, port := e.pgTunnel("pg")
	limited := func(n int) {
		e.Configure(e.Trust(), "tunnels:\n  - {"+item+"}", fmt.Sprintf("limits: {tunnel_connections: %d}", n))
	}
	limited(2)
	e.start()
	e.awaitWell()
	first, second := e.mustPG(port), e.mustPG(port)
	_, err := e.pg(t.Context(), port)
	if err == nil || !strings.Contains(detail(err), "2 clients are connected to this tunnel, which is all that limits.tunnel_connections allows.") {
		t.Errorf("the third client gets %v, %q", err, detail(err))
	}
	if p := e.Snapshot().Tunnels[0].Problem; p != nil && p.Code != state.CodeProxyUnreachable { // as that of a very busy machine is
		t.Errorf("the tunnel's problem is %+v", p)
	}
	e.awaitWell()
	limited(3)
	testwait.Eventually(t, "a third is served", func() bool {
		_, err := e.pg(t.Context(), port)
		return err == nil
	})
	e.serial(first)
	e.serial(second)
}

// TestLimitsHaveKeys: each limit of clients is a key of the config.
func TestLimitsHaveKeys(t *testing.T) {
	for _, l := range []proxies.Limit{proxies.LimitConnections, proxies.LimitTunnelConnections, proxies.LimitHeld} {
		if config.Default().Limit(config.LimitName(l)) == 0 {
			t.Errorf("%s has no default", l)
		}
	}
}
