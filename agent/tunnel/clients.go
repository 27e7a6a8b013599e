package tunnel

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	gnet "github.com/shirou/gopsutil/v4/net"

	"berth/agent/ports"
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
	o.at, o.seen = time.Now(), clientsOf(socks, leadsOf(tunnels()), func(pid int32) string {
		return plain.Short(history.ProgramName(ctx, pid), maxProgram)
	})
	return o.seen, nil
}

// leads says which tunnels a socket leads to.
type leads struct {
	byPort map[uint32][]string
	// byClient says it of the client's own address, where tunnels share a port.
	byClient map[netip.AddrPort][]string
}

func leadsOf(tunnels []entry) leads {
	l := leads{byPort: make(map[uint32][]string), byClient: make(map[netip.AddrPort][]string)}
	for _, e := range tunnels {
		if e.t == nil && ports.SharesKube(e.spec) {
			continue // whoever is at the port is another tunnel's
		}
		l.byPort[uint32(e.port)] = append(l.byPort[uint32(e.port)], e.spec.Name)
		if e.t == nil {
			continue
		}
		if px, ok := e.t.px.(interface{ Clients() []netip.AddrPort }); ok {
			for _, addr := range px.Clients() {
				l.byClient[addr] = append(l.byClient[addr], e.spec.Name)
			}
		}
	}
	return l
}

// of returns the tunnels that a socket of a client leads to.
func (l leads) of(c gnet.ConnectionStat) []string {
	there, err := netip.ParseAddr(c.Raddr.IP)
	if err != nil || !there.Unmap().IsLoopback() {
		return nil
	}
	tunnels := l.byPort[c.Raddr.Port]
	if len(tunnels) < 2 {
		return tunnels
	}
	here, err := netip.ParseAddr(c.Laddr.IP)
	if err != nil {
		return nil
	}
	return l.byClient[netip.AddrPortFrom(here.Unmap(), uint16(c.Laddr.Port))]
}

// clientsOf lists the programs whose sockets lead to tunnels.
func clientsOf(socks []gnet.ConnectionStat, to leads, nameOf func(pid int32) string) []state.TunnelClient {
	type program struct {
		tunnel string
		pid    int32
	}
	open := make(map[program]int64)
	for _, c := range socks {
		if c.Pid == 0 {
			continue
		}
		for _, tunnel := range to.of(c) {
			open[program{tunnel, c.Pid}]++
		}
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
