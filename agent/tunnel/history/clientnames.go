package history

import (
	"context"
	"net"
	"net/netip"
	"time"

	gnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"

	"berth/internal/wake"
	"berth/proxies"
)

const (
	// namesQueue is how many clients may wait to be named; further ones stay
	// nameless.
	namesQueue = 64
	// namesPause is the least time between two looks at the system's sockets:
	// each reads every process's open files.
	namesPause = 2 * time.Second
	// namesLimit bounds one look.
	namesLimit = 5 * time.Second
)

// clientNames finds out which programs local connections come from. It is
// asked for the few clients worth a line in a history, works in a goroutine of
// its own, and answers many with one look.
type clientNames struct {
	asked chan nameQuery
	scan  func(context.Context) (map[netip.AddrPort]int32, error)
	name  func(ctx context.Context, pid int32) string
	pause time.Duration
}

type nameQuery struct {
	client netip.AddrPort
	found  func(proxies.Owner)
}

func newClientNames() *clientNames {
	return &clientNames{
		asked: make(chan nameQuery, namesQueue), scan: localSockets, name: ProgramName, pause: namesPause,
	}
}

// lookup has found called, soon or never, with the program at the other end of
// a local connection. It never blocks.
func (n *clientNames) lookup(client net.Addr, found func(proxies.Owner)) {
	tcp, ok := client.(*net.TCPAddr)
	if !ok {
		return
	}
	select {
	case n.asked <- nameQuery{client: canonical(tcp.AddrPort()), found: found}:
	default: // a flood of clients: the first ones are named
	}
}

// canonical drops what the same address may be written with or without.
func canonical(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// run answers until ctx ends.
func (n *clientNames) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-n.asked:
			n.answer(ctx, n.gather(q))
		}
		if !wake.Sleep(ctx, n.pause) {
			return
		}
	}
}

// gather returns the query and all others that came already.
func (n *clientNames) gather(first nameQuery) []nameQuery {
	queries := []nameQuery{first}
	for {
		select {
		case q := <-n.asked:
			queries = append(queries, q)
		default:
			return queries
		}
	}
}

func (n *clientNames) answer(ctx context.Context, queries []nameQuery) {
	ctx, cancel := context.WithTimeout(ctx, namesLimit)
	defer cancel()
	pids, err := n.scan(ctx)
	if err != nil {
		return // the clients stay nameless, which the words allow for
	}
	for _, q := range queries {
		if pid := pids[q.client]; pid != 0 {
			q.found(proxies.Owner{PID: int(pid), Name: n.name(ctx, pid)})
		}
	}
}

// localSockets returns the pid behind each TCP socket of this machine, by the
// socket's own address.
func localSockets(ctx context.Context) (map[netip.AddrPort]int32, error) {
	socks, err := gnet.ConnectionsWithContext(ctx, "tcp")
	if err != nil {
		return nil, err
	}
	pids := make(map[netip.AddrPort]int32, len(socks))
	for _, s := range socks {
		addr, err := netip.ParseAddr(s.Laddr.IP)
		if err != nil || s.Pid == 0 || s.Status == "LISTEN" || s.Laddr.Port > 0xffff {
			continue
		}
		pids[canonical(netip.AddrPortFrom(addr, uint16(s.Laddr.Port)))] = s.Pid
	}
	return pids, nil
}

// ProgramName is the name of a process; empty when the system does not say.
func ProgramName(ctx context.Context, pid int32) string {
	p, err := process.NewProcessWithContext(ctx, pid)
	if err != nil {
		return ""
	}
	name, err := p.NameWithContext(ctx)
	if err != nil {
		return ""
	}
	return name
}
