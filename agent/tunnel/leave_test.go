package tunnel

import (
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"

	"berth/agent/kubelocal"
	"berth/agent/state"
	"berth/proxies"
)

// countedPort is a port whose connections have moved something.
type countedPort struct {
	carrier
	status proxies.Status
}

func (p *countedPort) Status() proxies.Status { return p.status }

// TestCountsFollowConnections: what connections move in a process that was replaced
// is counted once in the one that took over, and in the one after that.
func TestCountsFollowConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, done := newSet(t, 0)
		defer done()
		px := &countedPort{set.tunnel("one").px, proxies.Status{TotalConnections: 2, BytesIn: 100, BytesOut: 10}}
		set.tunnel("one").px = px
		leaving := set.Succession()

		next, end := newSet(t, 0)
		defer end()
		is := func(what string, want Count) {
			t.Helper()
			s := next.States()[0]
			if got := (Count{s.TotalConnections, s.BytesIn, s.BytesOut}); got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		next.Succession().Add(map[string]Count{"one": leaving.Pasts()["one"].Count, "gone": {Connections: 1}})
		is("handed over", Count{2, 100, 10})
		if got := leaving.Since(); len(got) != 0 {
			t.Errorf("nothing has moved: %+v", got)
		}
		px.status = proxies.Status{TotalConnections: 2, BytesIn: 3_000_100, BytesOut: 20}
		next.Succession().Add(leaving.Since())
		is("moved since", Count{2, 3_000_100, 20})

		pasts := next.Succession().Pasts()
		if got := pasts["one"].Count; got != (Count{2, 3_000_100, 20}) {
			t.Errorf("the one after gets %+v", got)
		}
		// What comes from before while the next one hands over it passes on.
		px.status.BytesIn++
		next.Succession().Add(leaving.Since())
		if got := next.Succession().Since(); !maps.Equal(got, map[string]Count{"one": {BytesIn: 1}}) {
			t.Errorf("passed on: %+v", got)
		}
		px.status = proxies.Status{}
		if got := leaving.Since(); len(got) != 0 {
			t.Errorf("a tunnel that began anew: %+v", got)
		}
	})
}

// TestPlotAfterATakeOver: what moved before a process took over is in no plot of its
// own, neither then nor after the tunnel was stopped and started.
func TestPlotAfterATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := twoTunnels(state.TunnelSpec{Kind: state.KindDB, Cluster: "prod", Port: 15432})
		set, done := setOf(t, cfg, kubelocal.Config{Logger: slog.New(slog.DiscardHandler)})
		defer done()
		var px *countedPort // of the first tunnel
		set.newCarrier = func(tun *tunnel) carrier {
			p := &countedPort{carrier: &port{released: make(chan struct{})}}
			if tun.spec.Name == "one" {
				px = p
			}
			return p
		}
		past := Past{Count: Count{Connections: 7, BytesIn: 1 << 30, BytesOut: 1 << 20}}
		set.Succession().GoOn(map[string]Past{"one": past})
		set.Start(cfg)
		synctest.Wait()
		plotted := func(what string, in, out int64) {
			t.Helper()
			set.Record(&state.Snapshot{Tunnels: set.States()})
			var gotIn, gotOut int64
			for _, p := range set.Plot("one") {
				gotIn, gotOut = gotIn+p.BytesIn, gotOut+p.BytesOut
			}
			if gotIn != in || gotOut != out {
				t.Errorf("%s: %d and %d bytes are plotted, want %d and %d", what, gotIn, gotOut, in, out)
			}
		}
		plotted("taken over", 0, 0)
		px.status = proxies.Status{TotalConnections: 1, BytesIn: 300, BytesOut: 30}
		plotted("used", 300, 30)
		if err := set.Stop(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		plotted("stopped", 300, 30)
		if err := set.Resume(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		plotted("started", 300, 30)
		px.status.BytesIn = 5
		plotted("used again", 305, 30)
	})
}
