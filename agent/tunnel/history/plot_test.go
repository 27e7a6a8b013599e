package history

import (
	"net"
	"testing"
	"time"

	"berth/agent/state"
	"berth/proxies"
)

func TestPlot(t *testing.T) {
	h := NewBook(func() int { return 50 }).Of("pg")
	now := time.Unix(1_800_000_000, 0)
	client := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
	snapshot := func(connections, in, out int64) {
		h.TunnelState(&state.Tunnel{Connections: connections, BytesIn: in, BytesOut: out}, now)
	}
	step := func(kind proxies.EventKind, waited time.Duration) {
		h.Connection(proxies.Event{At: now, Kind: kind, Client: client, Waited: waited}, "", error.Error)
	}
	for range 10 {
		snapshot(0, 0, 0)
		now = now.Add(15 * time.Second)
	}
	if points := h.Plot(now); len(points) > 0 || h.plot.ring != nil {
		t.Errorf("a tunnel without clients has %d points", len(points))
	}
	now = now.Truncate(plotStep)
	first := now
	step(proxies.EventAccepted, 0)
	now = now.Add(3 * time.Second)
	step(proxies.EventConnected, 2*time.Second)
	snapshot(1, 0, 0)
	now = now.Add(time.Second)
	snapshot(2, 300, 30)
	now = now.Add(10 * plotStep)
	snapshot(1, 1300, 40)
	snapshot(1, 100, 10) // the tunnel was restarted
	step(proxies.EventClosed, 0)
	points := h.Plot(now)
	if len(points) != 11 || len(h.plot.accepted) > 0 {
		t.Fatalf("%d points, %d clients not connected", len(points), len(h.plot.accepted))
	}
	want := state.PlotPoint{
		At: first.UTC(), Span: state.Duration(plotStep), Connections: 2, BytesIn: 300, BytesOut: 30,
		Held: state.Duration(2 * time.Second), Dial: state.Duration(time.Second),
	}
	if points[0] != want {
		t.Errorf("the first point is %+v", points[0])
	}
	if p := points[5]; p.Connections != 0 || p.BytesIn != 0 || !p.At.Equal(first.Add(5*plotStep)) {
		t.Errorf("a point without news is %+v", p)
	}
	if p := points[10]; p.BytesIn != 1100 || p.BytesOut != 20 {
		t.Errorf("the last point is %+v", p)
	}
	now = now.Add(plotPoints * plotStep)
	if points := h.Plot(now); len(points) > 0 {
		t.Errorf("after an hour without news there are %d points", len(points))
	}
	snapshot(1, 100, 10)
	if points := h.Plot(now); len(points) != 1 {
		t.Errorf("then there are %d points", len(points))
	}
}
