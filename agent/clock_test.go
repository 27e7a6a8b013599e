package agent

import (
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testwait"
)

// TestCertOfAWrongClock: a cert from a time when the cluster's clock was ahead is not
// valid yet once that is right again, and another takes its place.
func TestCertOfAWrongClock(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	pg, port := e.pgTunnel("pg")
	e.config(pg)
	e.Sim.Faults().ClockOffset(9 * time.Hour)
	e.start()
	e.Await("a cert", func(s state.Snapshot) bool { return s.Tunnels[0].CertValidUntil != nil })
	e.Sim.Faults().ClockOffset(0)
	testwait.Eventually(t, "a client to be served", func() bool {
		conn, err := e.pg(t.Context(), port)
		if err != nil {
			return false
		}
		_, err = servedBy(t.Context(), conn)
		_ = conn.Close(t.Context()) // it was asked
		return err == nil
	})
	e.AwaitState("pg", state.TunnelReady)
}
