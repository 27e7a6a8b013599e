package guard

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

// pcb is a socket to put into a list.
type pcb struct {
	local, foreign string
	uid, pid       uint32
}

// record is one as the kernel pads it.
func record(kind uint32, length int, fill func([]byte)) []byte {
	b := make([]byte, (length+7)&^7)
	binary.LittleEndian.PutUint32(b, uint32(length))
	binary.LittleEndian.PutUint32(b[4:], kind)
	if fill != nil {
		fill(b)
	}
	return b
}

// pcbList is a list as macOS 15 gives it, with the lengths it has there.
func pcbList(pcbs ...pcb) []byte {
	list := record(uint32(len(pcbs)), 24, nil) // struct xinpgen
	for _, p := range pcbs {
		local, foreign := netip.MustParseAddrPort(p.local), netip.MustParseAddrPort(p.foreign)
		list = append(list, record(0x010, 104, func(b []byte) {
			binary.BigEndian.PutUint16(b[16:], foreign.Port())
			binary.BigEndian.PutUint16(b[18:], local.Port())
			b[44] = 0x2
			f, l := foreign.Addr().As16(), local.Addr().As16()
			if local.Addr().Is4() {
				b[44] = 0x1
				clear(f[:12])
				clear(l[:12])
			}
			copy(b[48:], f[:])
			copy(b[64:], l[:])
		})...)
		list = append(list, record(0x001, 76, func(b []byte) {
			binary.LittleEndian.PutUint32(b[64:], p.uid)
			binary.LittleEndian.PutUint32(b[68:], p.pid)
		})...)
		for kind, length := range map[uint32]int{0x002: 36, 0x004: 36, 0x008: 136, 0x020: 204} {
			list = append(list, record(kind, length, nil)...)
		}
	}
	return append(list, record(uint32(len(pcbs)), 24, nil)...)
}

func TestOwnerInAListOfSockets(t *testing.T) {
	list := pcbList(
		pcb{"127.0.0.1:15432", "127.0.0.1:50000", 501, 10}, // the server's end of the first
		pcb{"127.0.0.1:50000", "127.0.0.1:15432", 502, 11},
		pcb{"127.0.0.1:50000", "127.0.0.1:15433", 503, 12},
		pcb{"[::1]:50000", "[::1]:15432", 504, 13},
		pcb{"127.0.0.1:50001", "127.0.0.1:15432", 505, 14},
	)
	for name, tc := range map[string]struct {
		client, server string
		uid, pid       uint32
		err            error
	}{
		"first":        {"127.0.0.1:50000", "127.0.0.1:15432", 502, 11, nil},
		"other_server": {"127.0.0.1:50000", "127.0.0.1:15433", 503, 12, nil},
		"ipv6":         {"[::1]:50000", "[::1]:15432", 504, 13, nil},
		"last":         {"127.0.0.1:50001", "127.0.0.1:15432", 505, 14, nil},
		"gone":         {"127.0.0.1:50002", "127.0.0.1:15432", 0, 0, ErrUnknown},
		"mixed":        {"[::1]:50001", "[::1]:15432", 0, 0, ErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			uid, pid, err := pcbOwner(list, netip.MustParseAddrPort(tc.client), netip.MustParseAddrPort(tc.server))
			if uid != tc.uid || pid != tc.pid || !errors.Is(err, tc.err) {
				t.Errorf("uid %d, pid %d, %v; want %d, %d, %v", uid, pid, err, tc.uid, tc.pid, tc.err)
			}
		})
	}
}

// FuzzOwnerInAListOfSockets: no list, however broken, is more than unknown.
func FuzzOwnerInAListOfSockets(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(pcbList())
	f.Add(pcbList(pcb{"127.0.0.1:50000", "127.0.0.1:15432", 502, 11}))
	client, server := netip.MustParseAddrPort("127.0.0.1:50001"), netip.MustParseAddrPort("127.0.0.1:15432")
	f.Fuzz(func(t *testing.T, list []byte) {
		if _, _, err := pcbOwner(list, client, server); err != nil && !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}
