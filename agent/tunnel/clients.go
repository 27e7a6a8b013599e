package tunnel

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	gnet "github.com/shirou/gopsutil/v4/net"

	"berth/agent/state"
	"berth/agent/tunnel/history"
	"berth/internal/plain"
	"berth/internal/wake"
)

const (
	// maxPrograms bounds how many programs of one tunnel are named.
	maxPrograms = 20
	// maxProgram bounds the name of one.
	maxProgram = 64
	// lookPause is how long one look at the system's sockets serves: each reads
	// every process's open files.
	lookPause = 2 * time.Second
	// lookLimit bounds one look.
	lookLimit = 5 * time.Second
)

// onlooker sees which programs are connected to tunnels. It looks when it is asked
// only, so that ten thousand connections cost nothing while no one wants to know.
type onlooker struct {
	turn wake.Turn // whose it is to look; guards everything below
	at   time.Time
	seen []state.TunnelClient
}

// clients looks, unless it has just done so.
func (o *onlooker) clients(ctx context.Context, tunnels func() []entry) ([]state.TunnelClient, error) {
	if !o.turn.Take(ctx) {
		return nil, ctx.Err()
	}
	defer o.turn.Give()
	if time.Since(o.at) < lookPause {
		return o.seen, nil
	}
	// What is seen serves others too, so whoever asked may leave.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	defer cancel()
	socks, err := gnet.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return nil, fmt.Errorf("ask the system for its sockets: %w", err)
	}
	byPort := make(map[uint32]string)
	for _, e := range tunnels() {
		byPort[uint32(e.port)] = e.spec.Name
	}
	o.at, o.seen = time.Now(), clientsOf(socks, byPort, func(pid int32) string {
		return plain.Short(history.ProgramName(ctx, pid), maxProgram)
	})
	return o.seen, nil
}

// clientsOf lists the programs whose sockets lead to the ports of tunnels.
func clientsOf(socks []gnet.ConnectionStat, byPort map[uint32]string, nameOf func(pid int32) string) []state.TunnelClient {
	type program struct {
		tunnel string
		pid    int32
	}
	open := make(map[program]int64)
	for _, c := range socks {
		tunnel, ok := byPort[c.Raddr.Port]
		if ip, err := netip.ParseAddr(c.Raddr.IP); !ok || c.Pid == 0 || err != nil || !ip.Unmap().IsLoopback() {
			continue
		}
		open[program{tunnel, c.Pid}]++
	}
	clients := make([]state.TunnelClient, 0, len(open))
	for p, n := range open {
		clients = append(clients, state.TunnelClient{Tunnel: p.tunnel, PID: int64(p.pid), Connections: n})
	}
	slices.SortFunc(clients, func(a, b state.TunnelClient) int {
		return cmp.Or(cmp.Compare(a.Tunnel, b.Tunnel), cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.PID, b.PID))
	})
	named, tunnel, n := clients[:0], "", 0
	for _, c := range clients {
		if c.Tunnel != tunnel {
			tunnel, n = c.Tunnel, 0
		}
		if n++; n <= maxPrograms {
			c.Program = nameOf(int32(c.PID))
			named = append(named, c)
		}
	}
	return named
}
