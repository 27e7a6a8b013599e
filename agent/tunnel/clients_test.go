package tunnel

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	gnet "github.com/shirou/gopsutil/v4/net"

	"berth/agent/state"
)

func TestClientsOf(t *testing.T) {
	sock := func(pid int32, ip string, port uint32) gnet.ConnectionStat {
		return gnet.ConnectionStat{Pid: pid, Laddr: gnet.Addr{IP: ip, Port: 50000}, Raddr: gnet.Addr{IP: ip, Port: port}}
	}
	socks := []gnet.ConnectionStat{
		sock(7, "127.0.0.1", 15432), sock(8, "127.0.0.1", 15432), sock(8, "::ffff:127.0.0.1", 15432), // two of one program
		sock(0, "127.0.0.1", 15432), // another user's
		sock(7, "192.0.2.1", 15432), // another machine's port
		sock(9, "127.0.0.1", 1),     // no tunnel's
		sock(7, "127.0.0.1", 13306), // of another tunnel
		{Pid: 1, Laddr: gnet.Addr{IP: "127.0.0.1", Port: 15432}, Raddr: gnet.Addr{IP: "", Port: 0}, Status: "LISTEN"},
	}
	name := func(pid int32) string { return fmt.Sprint("p", pid) }
	got := clientsOf(socks, leads{byPort: map[uint32][]string{15432: {"pg"}, 13306: {"my"}}}, name)
	want := []state.TunnelClient{
		{Tunnel: "my", Program: "p7", PID: 7, Connections: 1},
		{Tunnel: "pg", Program: "p8", PID: 8, Connections: 2}, {Tunnel: "pg", Program: "p7", PID: 7, Connections: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	socks = nil
	for i := range int32(10_000) {
		socks = append(socks, sock(1+i%500, "127.0.0.1", 15432))
	}
	named := 0
	got = clientsOf(socks, leads{byPort: map[uint32][]string{15432: {"pg"}}}, func(int32) string { named++; return "" })
	if len(got) != maxPrograms || named != maxPrograms {
		t.Errorf("of ten thousand connections %d programs are listed, %d named", len(got), named)
	}
}

// TestClientsOfASharedPort: of tunnels to Kubernetes that share a port each has the
// programs whose requests it serves.
func TestClientsOfASharedPort(t *testing.T) {
	serving := func(name string, clients ...string) entry {
		px := &askedPort{}
		for _, c := range clients {
			px.clients = append(px.clients, netip.MustParseAddrPort(c))
		}
		return entry{spec: state.TunnelSpec{Name: name, Kind: state.KindKube}, port: 15440, t: &tunnel{px: px}}
	}
	stopped := entry{spec: state.TunnelSpec{Name: "old", Kind: state.KindKube}, port: 15440}
	sock := func(pid int32, ip string, port uint32) gnet.ConnectionStat {
		return gnet.ConnectionStat{Pid: pid, Laddr: gnet.Addr{IP: ip, Port: port}, Raddr: gnet.Addr{IP: ip, Port: 15440}}
	}
	socks := []gnet.ConnectionStat{
		sock(7, "127.0.0.1", 50001), sock(8, "::1", 50002), sock(8, "::ffff:127.0.0.1", 50003), // to one tunnel, to the other, to both
		sock(9, "127.0.0.1", 50004), // asks for nothing now
	}
	name := func(pid int32) string { return fmt.Sprint("p", pid) }
	prod, dev := serving("prod", "127.0.0.1:50001", "127.0.0.1:50003"), serving("dev", "[::1]:50002", "127.0.0.1:50003")
	got := clientsOf(socks, leadsOf([]entry{prod, dev, stopped}), name)
	want := []state.TunnelClient{
		{Tunnel: "dev", Program: "p8", PID: 8, Connections: 2},
		{Tunnel: "prod", Program: "p7", PID: 7, Connections: 1}, {Tunnel: "prod", Program: "p8", PID: 8, Connections: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = clientsOf(socks, leadsOf([]entry{prod, stopped}), name)
	want = []state.TunnelClient{
		{Tunnel: "prod", Program: "p8", PID: 8, Connections: 2},
		{Tunnel: "prod", Program: "p7", PID: 7, Connections: 1}, {Tunnel: "prod", Program: "p9", PID: 9, Connections: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("of the only tunnel that runs: %s", diff)
	}
}

// askedPort is a port that says who asks there.
type askedPort struct {
	carrier
	clients []netip.AddrPort
}

func (p *askedPort) Clients() []netip.AddrPort { return p.clients }
